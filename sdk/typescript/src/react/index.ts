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
export type {
  ResonantGenesisProviderProps,
  UseAgentStreamOptions,
  UseAgentStreamResult,
  UseEventsOptions,
  UseEventsResult,
  UseSessionOptions,
  UseSessionResult,
} from './hooks.js';
export {
  ResonantGenesisProvider,
  useAgentStream,
  useClient,
  useEvents,
  useReach,
  useSession,
} from './hooks.js';
