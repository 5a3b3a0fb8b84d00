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
  override readonly name: string;
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

  /** Without a code it has the first of its class. */
  constructor(message = '', fields: StreamErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    const family = FAMILIES.find(([kind]) => this instanceof kind);
    this.name = family?.[1] ?? 'StreamError';
    const [first] = (family?.[2] || family?.[3] || 'INTERNAL').split(' ');
    this.code = fields.code || String(first);
    this.retryable = fields.retryable ?? familyOf(this.code)[1];
    // A limit without a time is a second's.
    this.retryAfter = fields.retryAfter ?? (this.code === 'RATE_LIMITED' ? 1 : undefined);
    this.requestId = fields.requestId;
    this.details = { ...fields.details };
    this.status = fields.status;
    this.sessionId = fields.sessionId;
    this.position = fields.position;
  }
}

/** No valid credential came with the request, or it ended while a stream was open. */
export class AuthenticationError extends StreamError {}

/** The credential lacks the scope. */
export class PermissionDenied extends StreamError {}

/** There is no such thing, or it belongs to somebody else; the server does not say which. */
export class NotFound extends StreamError {}

/** The request is wrong as it stands; `details.fields` names each bad field. */
export class InvalidRequest extends StreamError {}

/** The request contradicts the state: a reused Idempotency-Key, another goal for a join. */
export class Conflict extends StreamError {}

/** A turn is running in the session; try again when it has ended, or use `ifBusy`. */
export class SessionBusy extends Conflict {}

/** The place asked for was trimmed, or belongs to a history the store no longer has. */
export class PositionExpired extends StreamError {}

/** Too much at once; `retryAfter` is always a number of seconds. */
export class RateLimited extends StreamError {
  declare retryAfter: number;
}

/** The server, or something on the way to it, is starting, draining or full. */
export class Unavailable extends StreamError {}

/** The server failed; its log has the reason under `requestId`. */
export class InternalError extends StreamError {}

/** The turn failed: its agent, its model, its steps ran out, or its process died. */
export class AgentFailed extends StreamError {}

/** The turn outran its `timeoutSeconds`. */
export class TurnTimeout extends StreamError {}

/** The server could not be reached within the retries; a running turn goes on without us. */
export class ConnectionLost extends StreamError {}

/**
 * Class, its name (written out, since minifiers rename classes), its codes, and those of which the
 * same again may succeed. A class stands before the one it extends. `protocol/errors.yaml` has the
 * same table for every SDK.
 */
const FAMILIES: readonly (readonly [typeof StreamError, string, string, string?])[] = [
  [AuthenticationError, 'AuthenticationError', 'UNAUTHENTICATED'],
  [PermissionDenied, 'PermissionDenied', 'FORBIDDEN'],
  [NotFound, 'NotFound', 'NOT_FOUND AGENT_NOT_FOUND SESSION_NOT_FOUND'],
  [
    InvalidRequest,
    'InvalidRequest',
    'INVALID_REQUEST INVALID_JSON METHOD_NOT_ALLOWED PAYLOAD_TOO_LARGE UNSUPPORTED_MEDIA_TYPE RANGE_NOT_SATISFIABLE',
  ],
  [SessionBusy, 'SessionBusy', '', 'SESSION_BUSY'],
  [Conflict, 'Conflict', 'CONFLICT'],
  [PositionExpired, 'PositionExpired', 'POSITION_EXPIRED'],
  [RateLimited, 'RateLimited', '', 'RATE_LIMITED'],
  [Unavailable, 'Unavailable', '', 'UNAVAILABLE'],
  [InternalError, 'InternalError', '', 'INTERNAL'],
  [AgentFailed, 'AgentFailed', 'AGENT_FAILED MAX_STEPS', 'MODEL_UNAVAILABLE RUNNER_LOST'],
  [TurnTimeout, 'TurnTimeout', '', 'TIMEOUT'],
  [ConnectionLost, 'ConnectionLost', '', 'CONNECTION_LOST'],
];

/** The class of a code, and whether the same again may succeed. */
export function familyOf(code: string): [typeof StreamError, boolean] {
  for (const [kind, , lasting, passing = ''] of FAMILIES) {
    if (lasting.split(' ').includes(code)) return [kind, false];
    if (passing.split(' ').includes(code)) return [kind, true];
  }
  return [StreamError, false];
}

/** The error of a code, in its own class. */
export function makeError(code: string, message: string, fields: StreamErrorFields): StreamError {
  return new (familyOf(code)[0])(message, { ...fields, code });
}
