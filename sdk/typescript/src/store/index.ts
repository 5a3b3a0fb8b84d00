/**
 * `@resonantgenesis/sdk/store`: state that a page can bind to, for any framework.
 *
 * The React and Vue adapters are shells around these.
 */
export type { Readable } from '../types.js';
export type { AgentStreamActions, AgentTask, AgentTaskParams } from './agent-stream-store.js';
export { AgentStreamStore, IDLE } from './agent-stream-store.js';
export { AnswerFold, type FoldedAnswer } from './answer-fold.js';
export type { DataListener } from './chunk-observable.js';
export type { EventsSelection, EventsState, EventsStoreOptions } from './events-store.js';
export { EventsStore, NO_EVENTS } from './events-store.js';
export type { PlaceStorage } from './session-place.js';
export type { SessionActions, SessionStoreOptions } from './session-store.js';
export { holdShared, SessionStore, sessionStore } from './session-store.js';
export type {
  AgentStreamState,
  SendParams,
  SessionState,
  StepSnapshot,
  StreamStatus,
  ToolCallSnapshot,
  TurnContent,
  TurnSnapshot,
} from './snapshots.js';
export { NO_SESSION } from './snapshots.js';
export type { SocketClient, StreamClient } from './stream-client.js';
