/**
 * Every error the SDK throws, one class per family of codes (PROTOCOL.md, section 3).
 *
 *     StreamError
 *     ├── AuthenticationError   UNAUTHENTICATED
 *     ├── PermissionDenied      FORBIDDEN
 *     ├── NotFound              NOT_FOUND AGENT_NOT_FOUND SESSION_NOT_FOUND
 *     ├── InvalidRequest        INVALID_REQUEST INVALID_JSON METHOD_NOT_ALLOWED PAYLOAD_TOO_LARGE
 *     │                         UNSUPPORTED_MEDIA_TYPE RANGE_NOT_SATISFIABLE
 *     ├── Conflict              CONFLICT
 *     │   └── SessionBusy       SESSION_BUSY             retryable, once the running turn has ended
 *     ├── PositionExpired       POSITION_EXPIRED
 *     ├── RateLimited           RATE_LIMITED             retryable after `retryAfter`
 *     ├── Unavailable           UNAVAILABLE              retryable after `retryAfter`
 *     ├── InternalError         INTERNAL                 retryable
 *     ├── AgentFailed           AGENT_FAILED MAX_STEPS; retryable: MODEL_UNAVAILABLE RUNNER_LOST
 *     ├── TurnTimeout           TIMEOUT                  retryable
 *     └── ConnectionLost        CONNECTION_LOST          retryable
 *
 * A code this version does not know becomes a plain StreamError that carries it.
 */
import type { JsonObject } from './types.js';

/** What a StreamError knows beyond its message. */
export interface StreamErrorFields {
  code?: string | undefined;
  retryable?: boolean | undefined;
  retryAfter?: number | undefined;
  requestId?: string | undefined;
  details?: JsonObject | undefined;
  status?: number | undefined;
  sessionId?: string | undefined;
  position?: number | undefined;
  cause?: unknown;
}

/** A call or a stream failed. */
export class StreamError extends Error {
  /** The code of an error that is given none. */
  static readonly code: string = 'INTERNAL';
  // Written out in every class, since minifiers rename classes.
  override readonly name: string = 'StreamError';
  /** One of PROTOCOL.md's. */
  readonly code: string;
  /** Whether the same again may succeed. */
  readonly retryable: boolean;
  /** Seconds to wait before that; always a number for RATE_LIMITED. */
  retryAfter: number | undefined;
  /** Finds the request in the server's log. */
  requestId: string | undefined;
  /** The server's own object. */
  readonly details: JsonObject;
  /** The HTTP status; undefined for what came inside a stream. */
  readonly status: number | undefined;
  /** The place in the log where the stream stood, as far as it was known. */
  sessionId: string | undefined;
  position: number | undefined;

  constructor(message = '', fields: StreamErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    const code = fields.code || new.target.code;
    this.code = code;
    this.retryable = fields.retryable ?? family(code)[1];
    // A limit without a time is a second's.
    this.retryAfter = fields.retryAfter ?? (code === 'RATE_LIMITED' ? 1 : undefined);
    this.requestId = fields.requestId;
    this.details = { ...fields.details };
    this.status = fields.status;
    this.sessionId = fields.sessionId;
    this.position = fields.position;
  }
}

/** No valid credential came with the request, or it ended while a stream was open. */
export class AuthenticationError extends StreamError {
  static override readonly code: string = 'UNAUTHENTICATED';
  override readonly name: string = 'AuthenticationError';
}

/** The credential lacks the scope. */
export class PermissionDenied extends StreamError {
  static override readonly code: string = 'FORBIDDEN';
  override readonly name: string = 'PermissionDenied';
}

/** There is no such thing, or it belongs to somebody else; the server does not say which. */
export class NotFound extends StreamError {
  static override readonly code: string = 'NOT_FOUND';
  override readonly name: string = 'NotFound';
}

/** The request is wrong as it stands; `details.fields` names each bad field. */
export class InvalidRequest extends StreamError {
  static override readonly code: string = 'INVALID_REQUEST';
  override readonly name: string = 'InvalidRequest';
}

/** The request contradicts the state: a reused Idempotency-Key, another goal for a join. */
export class Conflict extends StreamError {
  static override readonly code: string = 'CONFLICT';
  override readonly name: string = 'Conflict';
}

/** A turn is running in the session; try again when it has ended, or use `ifBusy`. */
export class SessionBusy extends Conflict {
  static override readonly code: string = 'SESSION_BUSY';
  override readonly name: string = 'SessionBusy';
}

/** The place asked for was trimmed, or belongs to a history the store no longer has. */
export class PositionExpired extends StreamError {
  static override readonly code: string = 'POSITION_EXPIRED';
  override readonly name: string = 'PositionExpired';
}

/** Too much at once; `retryAfter` is always a number of seconds. */
export class RateLimited extends StreamError {
  static override readonly code: string = 'RATE_LIMITED';
  override readonly name: string = 'RateLimited';
  declare retryAfter: number;
}

/** The server, or something on the way to it, is starting, draining or full. */
export class Unavailable extends StreamError {
  static override readonly code: string = 'UNAVAILABLE';
  override readonly name: string = 'Unavailable';
}

/** The server failed; its log has the reason under `requestId`. */
export class InternalError extends StreamError {
  override readonly name: string = 'InternalError';
}

/** The turn failed: its agent, its model, its steps ran out, or its process died. */
export class AgentFailed extends StreamError {
  static override readonly code: string = 'AGENT_FAILED';
  override readonly name: string = 'AgentFailed';
}

/** The turn outran its `timeoutSeconds`. */
export class TurnTimeout extends StreamError {
  static override readonly code: string = 'TIMEOUT';
  override readonly name: string = 'TurnTimeout';
}

/** The server could not be reached within the retries; a running turn goes on without us. */
export class ConnectionLost extends StreamError {
  static override readonly code: string = 'CONNECTION_LOST';
  override readonly name: string = 'ConnectionLost';
}

/** The class of a code, and whether the same again may succeed; `protocol/errors.yaml` has both. */
export function family(code: string): readonly [typeof StreamError, boolean] {
  switch (code) {
    case 'UNAUTHENTICATED':
      return [AuthenticationError, false];
    case 'FORBIDDEN':
      return [PermissionDenied, false];
    case 'NOT_FOUND':
    case 'AGENT_NOT_FOUND':
    case 'SESSION_NOT_FOUND':
      return [NotFound, false];
    case 'METHOD_NOT_ALLOWED':
    case 'UNSUPPORTED_MEDIA_TYPE':
    case 'RANGE_NOT_SATISFIABLE':
    case 'INVALID_JSON':
    case 'INVALID_REQUEST':
    case 'PAYLOAD_TOO_LARGE':
      return [InvalidRequest, false];
    case 'CONFLICT':
      return [Conflict, false];
    case 'SESSION_BUSY':
      return [SessionBusy, true];
    case 'POSITION_EXPIRED':
      return [PositionExpired, false];
    case 'RATE_LIMITED':
      return [RateLimited, true];
    case 'UNAVAILABLE':
      return [Unavailable, true];
    case 'INTERNAL':
      return [InternalError, true];
    case 'TIMEOUT':
      return [TurnTimeout, true];
    case 'AGENT_FAILED':
    case 'MAX_STEPS':
      return [AgentFailed, false];
    case 'MODEL_UNAVAILABLE':
    case 'RUNNER_LOST':
      return [AgentFailed, true];
    case 'CONNECTION_LOST':
      return [ConnectionLost, true];
    default:
      return [StreamError, false];
  }
}

/** The error of a code, in its own class. */
export function makeError(code: string, message: string, fields: StreamErrorFields): StreamError {
  return new (family(code)[0])(message, { ...fields, code });
}
