/** `@resonantgenesis/sdk/vue`: composables for Vue 3.3 and later; see README.md. */
export type {
  AgentStreamState,
  EventsState,
  SendParams,
  SessionState,
  StepSnapshot,
  StreamStatus,
  ToolCallSnapshot,
  TurnContent,
  TurnSnapshot,
} from '../store/index.js';
export type { StateRefs } from './bind.js';
export { createResonantGenesis, provideClient, useClient } from './client.js';
export type { UseSessionOptions, UseSessionResult } from './composables.js';
export { useSession } from './composables.js';
export type { UseAgentStreamOptions, UseAgentStreamResult } from './use-agent-stream.js';
export { useAgentStream } from './use-agent-stream.js';
export type { UseEventsOptions, UseEventsResult } from './use-events.js';
export { useEvents } from './use-events.js';
export { useReach } from './use-reach.js';
