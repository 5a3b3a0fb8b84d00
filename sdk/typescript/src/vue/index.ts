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
export type {
  StateRefs,
  UseAgentStreamOptions,
  UseAgentStreamResult,
  UseEventsOptions,
  UseEventsResult,
  UseSessionOptions,
  UseSessionResult,
} from './composables.js';
export {
  createResonantGenesis,
  provideClient,
  useAgentStream,
  useClient,
  useEvents,
  useReach,
  useSession,
} from './composables.js';
