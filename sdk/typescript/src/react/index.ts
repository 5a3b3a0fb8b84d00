'use client';
/** `@resonantgenesis/sdk/react`: hooks for React 18 and 19; see README.md. */
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
export type { ResonantGenesisProviderProps } from './client.js';
export { ResonantGenesisProvider, useClient } from './client.js';
export type { UseSessionOptions, UseSessionResult } from './hooks.js';
export { useSession } from './hooks.js';
export type { UseAgentStreamOptions, UseAgentStreamResult } from './use-agent-stream.js';
export { useAgentStream } from './use-agent-stream.js';
export type { UseEventsOptions, UseEventsResult } from './use-events.js';
export { useEvents } from './use-events.js';
export { useReach } from './use-reach.js';
