/** The entries of a session’s log, and what they are made of. */
import type { JsonObject } from './base.js';

/** What every chunk has: its place in the session's log, and for merged ones where it begins. */
interface ChunkBase {
  /** 1, 2, 3 … within the session, without gaps. */
  readonly position: number;
  /** The first position that a merged (`compact`) chunk covers. */
  readonly from?: number;
  /** The sub-agent that made the chunk; the first step of a turn names the turn's own agent. */
  readonly agentId?: string;
  /** The `callId` of the tool call that started the sub-agent. */
  readonly parent?: string;
}

/** Text of the answer. */
export interface TextChunk extends ChunkBase {
  readonly type: 'text';
  readonly content: string;
}

/** What the agent thinks before it answers; no part of the answer. */
export interface ReasoningChunk extends ChunkBase {
  readonly type: 'reasoning';
  readonly content: string;
}

/** A page that the answer rests on. */
export interface SourceChunk extends ChunkBase {
  readonly type: 'source';
  readonly url: string;
  readonly title?: string;
}

/** A stored file that belongs to the answer; `files.download(fileId)` gets it. */
export interface FileChunk extends ChunkBase {
  readonly type: 'file';
  readonly fileId: string;
  readonly name: string;
  readonly contentType: string;
  /** In bytes. */
  readonly size: number;
}

/** A value of the application's own. A later one of the same `name` and `id` replaces it. */
export interface DataChunk extends ChunkBase {
  readonly type: 'data';
  readonly name: string;
  readonly id?: string;
  readonly data: unknown;
  /** Not in the log, for live viewers alone: `position` is that of the chunk before it. */
  readonly transient?: true;
  /** Of a transient one. */
  readonly turn?: number;
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

/** What the user said to the turn while it was open: the agent has taken it, or the next turn has it. */
export interface UserMessageChunk extends ChunkBase {
  readonly type: 'user_message';
  readonly messageId: string;
  readonly content: string;
  readonly taken: boolean;
}

/** What a turn asks; `sessions.input` answers. */
export interface Ask {
  readonly callId: string;
  /**
   * `approval`: whether `tool` may be called with `args`; `input`: a value that fits `schema`;
   * `tool`: the result of a tool that the client runs.
   */
  readonly kind: 'approval' | 'input' | 'tool';
  readonly tool?: string;
  readonly args?: JsonObject;
  /** For the person who answers. */
  readonly message?: string;
  /** JSON Schema of the answer's `payload`. */
  readonly schema?: JsonObject;
  /** An RFC 3339 time; nobody can answer after it, and the agent goes on as if denied. */
  readonly expiresAt: string;
}

/** The turn asks. A `waiting` stands behind the asks of one stop. */
export interface InputRequiredChunk extends ChunkBase, Ask {
  readonly type: 'input_required';
}

/** The turn has stopped until these calls have an answer. */
export interface WaitingChunk extends ChunkBase {
  readonly type: 'waiting';
  readonly sessionId: string;
  readonly turn: number;
  /** The `callId` of each open ask. */
  readonly calls: readonly string[];
}

/** An ask has its answer, or nobody can answer any more. */
export interface InputChunk extends ChunkBase {
  readonly type: 'input';
  readonly callId: string;
  readonly status: 'answered' | 'expired' | 'cancelled';
  readonly approved?: boolean;
  readonly payload?: unknown;
  readonly reason?: string;
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
  | ReasoningChunk
  | ToolCallChunk
  | ToolResultChunk
  | StepChunk
  | SourceChunk
  | FileChunk
  | DataChunk
  | UserMessageChunk
  | InputRequiredChunk
  | WaitingChunk
  | InputChunk
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
