/** What the stores show: plain values that never change; a part that did not change stays the same object. */
import type { ConnectionState, ExecuteParams, JsonObject, TurnStatus, Usage } from '../types.js';

/** A tool call and, once it is there, its result. */
export interface ToolCallSnapshot {
  readonly callId: string;
  readonly tool: string;
  readonly args: JsonObject;
  /** `failed` also where the turn ended before a result came; then there is none. */
  readonly status: 'running' | 'completed' | 'failed';
  readonly result?: unknown;
  /** How much of `content` stood before the call, in UTF-16 units: where a page may show it. */
  readonly offset: number;
}

/** A step of the turn. */
export interface StepSnapshot {
  /** 1, 2 … within the turn. */
  readonly step: number;
  readonly name: string;
  readonly status: 'started' | 'completed';
  /** What it has told of its doing so far, put together: a model's reasoning, for one. */
  readonly progress: string;
  /** A word for people. */
  readonly detail?: string;
  /** Why its model stopped; `cancelled`, `failed` or `timeout` where the turn's end cut it short. */
  readonly finishReason?: string;
  readonly durationMs?: number;
}

/** What a turn has produced so far. */
export interface TurnContent {
  readonly content: string;
  readonly toolCalls: readonly ToolCallSnapshot[];
  readonly steps: readonly StepSnapshot[];
  /** Why it failed; null while it did not. */
  readonly error: Error | null;
  /** What it took; null before its end. */
  readonly usage: Usage | null;
}

/** `connecting` until the server has taken the turn, `streaming` until its end, then how it ended. */
export type StreamStatus = 'idle' | 'connecting' | 'streaming' | TurnStatus;

/** The state of one turn at a time; see `AgentStreamStore`. */
export interface AgentStreamState extends TurnContent {
  /** What is shown: null before anything was asked. */
  readonly agentId: string | null;
  readonly goal: string | null;
  readonly status: StreamStatus;
  /** From the call until the end, however it comes. */
  readonly isStreaming: boolean;
  readonly sessionId: string | null;
  readonly turn: number | null;
  /** Of the last chunk that is shown here; 0 before the first. */
  readonly position: number;
  readonly connection: ConnectionState;
}

/** One turn of a session. */
export interface TurnSnapshot extends TurnContent {
  /** Stays the same for as long as the turn is shown, so that lists can use it. */
  readonly key: string;
  /** Null until the server has numbered it. */
  readonly turn: number | null;
  /** What was asked; null where it is not known: a session's log holds the answers. */
  readonly goal: string | null;
  /** `sending` until the server has it, `queued` behind a running turn, `streaming`, then how it ended. */
  readonly status: 'sending' | 'queued' | 'streaming' | TurnStatus;
}

/** The state of a session; the parts of a single turn are those of its newest. See `SessionStore`. */
export interface SessionState extends TurnContent {
  readonly turns: readonly TurnSnapshot[];
  readonly status: 'idle' | TurnSnapshot['status'];
  /** Whether a turn is sent, waits or runs. */
  readonly isStreaming: boolean;
  readonly sessionId: string | null;
  readonly turn: number | null;
  readonly position: number;
  readonly connection: ConnectionState;
}

/** What a turn of a session can be told besides its goal. A session's first turn needs `agentId`. */
export type SendParams = Omit<ExecuteParams, 'goal' | 'sessionId' | 'idempotencyKey'>;

/** What a store shows before anything happened. */
export const NO_CONTENT: TurnContent = {
  content: '',
  toolCalls: [],
  steps: [],
  error: null,
  usage: null,
};

/** The state before anything is known, and what servers render. */
export const NO_SESSION: SessionState = {
  ...NO_CONTENT,
  turns: [],
  status: 'idle',
  isStreaming: false,
  sessionId: null,
  turn: null,
  position: 0,
  connection: 'closed',
};
