/** Chunks, and the streams that bring them. */
import type { JsonObject } from './base.js';

/** What every chunk has: its place in the session's log, and for merged ones where it begins. */
interface ChunkBase {
  /** 1, 2, 3 … within the session, without gaps. */
  readonly position: number;
  /** The first position that a merged (`compact`) chunk covers. */
  readonly from?: number;
}

/** Text of the answer. */
export interface TextChunk extends ChunkBase {
  readonly type: 'text';
  readonly content: string;
}

/** The agent calls a tool. */
export interface ToolCallChunk extends ChunkBase {
  readonly type: 'tool_call';
  readonly tool: string;
  readonly args: JsonObject;
  readonly callId: string;
}

/** What the tool answered. */
export interface ToolResultChunk extends ChunkBase {
  readonly type: 'tool_result';
  readonly tool: string;
  readonly result: unknown;
  readonly callId: string;
  readonly isError: boolean;
}

/** A step of the turn begins, gets on or is over. The first of a turn also names session, turn and agent. */
export interface StepChunk extends ChunkBase {
  readonly type: 'step';
  /** 1, 2 … within the turn. */
  readonly step: number;
  readonly name: string;
  readonly status: 'started' | 'progress' | 'completed';
  readonly durationMs?: number;
  /** A word for people; with `progress` the next piece of what it does, such as reasoning. */
  readonly detail?: string;
  /** Why the agent's model stopped. */
  readonly finishReason?: string;
  readonly sessionId?: string;
  readonly turn?: number;
  readonly agentId?: string;
}

/** What went wrong, as data. */
export interface ErrorInfo {
  /** One of PROTOCOL.md's. */
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  /** Seconds. */
  readonly retryAfter?: number;
}

/** The turn has failed; raised as a StreamError unless `raiseOnError` is false. */
export interface ErrorChunk extends ChunkBase, ErrorInfo {
  readonly type: 'error';
}

/** The turn is over. */
export interface DoneChunk extends ChunkBase {
  readonly type: 'done';
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus;
  /** The turn's text, at most 960 KiB of it as JSON; then `outputTruncated` is true. */
  readonly output: string;
  readonly outputTruncated?: boolean;
  readonly usage: Usage;
}

/**
 * One entry of a session's log. A newer server may send types that are not listed here; they keep
 * their place in the order and have `type`, `position` and their own fields.
 */
export type Chunk =
  | TextChunk
  | ToolCallChunk
  | ToolResultChunk
  | StepChunk
  | ErrorChunk
  | DoneChunk;

/** How a turn ended. */
export type TurnStatus = 'success' | 'failed' | 'cancelled' | 'timeout';

/** What a turn took. */
export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly steps: number;
  readonly durationMs: number;
}

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
  metadata?: JsonObject | undefined;
  subject?: string | undefined;
  ifBusy?: 'reject' | 'enqueue' | 'interrupt' | undefined;
  onDisconnect?: 'continue' | 'cancel' | undefined;
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
