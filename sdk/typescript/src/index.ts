/** `@resonantgenesis/sdk`: see README.md. */
export { ResonantGenesis } from './client.js';
export {
  AgentFailed,
  AuthenticationError,
  Conflict,
  ConnectionLost,
  InternalError,
  InvalidRequest,
  NotFound,
  PermissionDenied,
  PositionExpired,
  RateLimited,
  SessionBusy,
  StreamError,
  type StreamErrorFields,
  TurnTimeout,
  Unavailable,
} from './errors.js';
export type { Replay } from './events.js';
export type { Files } from './files.js';
export type { OfflineQueue } from './offline/queue.js';
export type { Realtime } from './realtime/realtime.js';
export type { ExecuteControls, Session, TurnParams } from './sessions.js';
export type * from './types.js';
