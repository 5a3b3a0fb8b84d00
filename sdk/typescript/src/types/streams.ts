/** Streams of chunks, and what starts one. */
import type { JsonObject } from './base.js';
import type { Chunk } from './chunks.js';

/**
 * How a stream's connection is: `connecting` for the first time, `open`, `reconnecting` after a cut
 * or a refusal, `polling` where something on the way collects streams, `offline` while the browser
 * says so, `closed` at the end.
 */
export type ConnectionState =
  | 'connecting'
  | 'open'
  | 'reconnecting'
  | 'polling'
  | 'offline'
  | 'closed';

/** What every call that streams can be told besides. */
export interface StreamControls {
  /** Ends the connection when it aborts, with its reason thrown; the turn goes on. */
  signal?: AbortSignal | undefined;
  /** Told of each change of the connection, beginning with `connecting`. */
  onState?: ((state: ConnectionState) => void) | undefined;
}

/**
 * Items in order, each once, over as many connections as it takes. To be iterated once; leaving the
 * loop ends the connection and nothing else.
 */
export interface ResumableStream<T> extends AsyncIterable<T> {
  readonly state: ConnectionState;
  /** Ends the connection. Harmless if repeated. */
  close(): Promise<void>;
  /** The same items as a stream of the platform, with its back-pressure; it takes the iteration. */
  toReadableStream(): ReadableStream<T>;
}

/** The chunks of a session; see `sessions.executeStream` and `sessions.join`. */
export interface AgentStream extends ResumableStream<Chunk> {
  /** The session; undefined until the server has named it. */
  readonly sessionId: string | undefined;
  /** The turn; undefined until the server has named it. */
  readonly turn: number | undefined;
  /** That of the last chunk handed out; before the first, where the stream began. */
  readonly position: number;
  /** Cancels the turn; the stream goes on to its `done`. */
  cancel(): Promise<void>;
}

/** A tool that the client runs: the turn asks for its result. */
export interface ClientTool {
  readonly name: string;
  readonly description?: string | undefined;
  /** JSON Schema of the arguments. */
  readonly schema?: JsonObject | undefined;
}

/** What an execute may say; PROTOCOL.md, section 4. */
export interface ExecuteParams {
  /** Needed unless `sessionId` names a session, which knows its agent. */
  agentId?: string | undefined;
  goal: string;
  /** A further turn of this session. */
  sessionId?: string | undefined;
  context?: string | JsonObject | undefined;
  maxSteps?: number | undefined;
  timeoutSeconds?: number | undefined;
  model?: string | undefined;
  tools?: readonly string[] | undefined;
  /** Tools that the client runs, at most 64. */
  clientTools?: readonly ClientTool[] | undefined;
  metadata?: JsonObject | undefined;
  subject?: string | undefined;
  ifBusy?: 'reject' | 'enqueue' | 'interrupt' | undefined;
  onDisconnect?: 'continue' | 'cancel' | undefined;
  /** Told when the turn waits or is over, signed with the secret; see `newWebhookSecret`. */
  callbackUrl?: string | undefined;
  callbackSecret?: string | undefined;
  /** Regenerates this turn, the last one of the session; with the goal '', its own goal. */
  replaceTurn?: number | undefined;
  /** The turn's name for 24 h: the same key never starts a second turn. Made up if not given. */
  idempotencyKey?: string | undefined;
}

export interface ExecuteStreamParams extends ExecuteParams {
  /**
   * Everything up to here has been received; 0 starts from the turn's beginning. More than 0 needs
   * `sessionId` or the `idempotencyKey` of the turn: the server never guesses.
   */
  resumeFrom?: number | undefined;
  /** Text that waits in the log comes merged. */
  compact?: boolean | undefined;
  /** Whether an `error` chunk throws (the default) or is a chunk like the others. */
  raiseOnError?: boolean | undefined;
}

export interface JoinParams extends StreamControls {
  /** Start behind this position; left out, at the start of the running, else of the last turn. */
  resumeFrom?: number | undefined;
  /** Only this turn. */
  turn?: number | undefined;
  /** Stay for later turns. */
  follow?: boolean | undefined;
  compact?: boolean | undefined;
  raiseOnError?: boolean | undefined;
}
