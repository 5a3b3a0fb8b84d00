/** Snapshots of the stores: immutable values. An unchanged part stays the same object. */
import type {
  Ask,
  ConnectionState,
  ExecuteParams,
  JsonObject,
  MessagePart,
  TurnStatus,
  Usage,
} from '../types.js';

/** A tool call, and its result once it has come. */
export interface ToolCallSnapshot {
  readonly callId: string;
  readonly tool: string;
  readonly args: JsonObject;
  /** `failed` also if the turn ended without a result. */
  readonly status: 'running' | 'completed' | 'failed';
  readonly result?: unknown;
  /** The length of `content` before the call, in UTF-16 units: a page may show the call there. */
  readonly offset: number;
  /** The sub-agent that called it, and the `callId` of the call that started the sub-agent. */
  readonly agentId?: string;
  readonly parent?: string;
}

/** A step of the turn. */
export interface StepSnapshot {
  /** 1, 2 … within the turn. */
  readonly step: number;
  readonly name: string;
  readonly status: 'started' | 'completed';
  /** The step's details so far, concatenated: a model's reasoning, for example. */
  readonly progress: string;
  /** A word for people. */
  readonly detail?: string;
  /** Why its model stopped; `cancelled`, `failed` or `timeout` if the turn's end cut it short. */
  readonly finishReason?: string;
  readonly durationMs?: number;
  /** The sub-agent that took it, and the `callId` of the call that started the sub-agent. */
  readonly agentId?: string;
  readonly parent?: string;
}

/** The output of a turn so far. */
export interface TurnContent {
  /** The agent's text, without that of its sub-agents. */
  readonly content: string;
  /**
   * All of it in its order, as `GET …/messages` shows it: text, reasoning, tool calls, steps, sources,
   * files, data, messages of the user, asks, errors.
   */
  readonly parts: readonly MessagePart[];
  /** Whether the server has left out what was too large for a page of messages. */
  readonly truncated: boolean;
  readonly toolCalls: readonly ToolCallSnapshot[];
  readonly steps: readonly StepSnapshot[];
  /** What the turn asks and nobody has answered; `answer` does. */
  readonly waiting: readonly Ask[];
  /** Why the turn failed; null if it did not. */
  readonly error: Error | null;
  /** The tokens and steps that it took; null before its end. */
  readonly usage: Usage | null;
}

/**
 * `connecting` until the server has taken the turn, `streaming` until its end, `waiting` while it asks,
 * then how it ended.
 */
export type StreamStatus = 'idle' | 'connecting' | 'streaming' | 'waiting' | TurnStatus;

/** The state of one turn at a time; see `AgentStreamStore`. */
export interface AgentStreamState extends TurnContent {
  /** The shown turn; null before the first one. */
  readonly agentId: string | null;
  readonly goal: string | null;
  readonly status: StreamStatus;
  /** True from the call until the turn's end. */
  readonly isStreaming: boolean;
  readonly sessionId: string | null;
  readonly turn: number | null;
  /** The position of the last chunk that is shown; 0 before the first. */
  readonly position: number;
  readonly connection: ConnectionState;
}

/** One turn of a session. */
export interface TurnSnapshot extends TurnContent {
  /** Stable while the turn is shown: a key for lists. */
  readonly key: string;
  /** Null until the server has numbered it. */
  readonly turn: number | null;
  /** The goal; null if it is not known, since a session's log holds only the answers. */
  readonly goal: string | null;
  /**
   * `sending` until the server has it, `queued` behind a running turn, `streaming`, `waiting` while it
   * asks, then how it ended.
   */
  readonly status: 'sending' | 'queued' | 'streaming' | 'waiting' | TurnStatus;
  /** The turn that has regenerated it. */
  readonly replacedBy?: number;
  /** The session that a fork has it from. */
  readonly inheritedFrom?: string;
}

/** A turn as it is kept; the rest of it follows from its parts. */
export type KeptTurn = Omit<TurnSnapshot, 'content' | 'toolCalls' | 'steps' | 'waiting'>;

/** The state of a session; the parts of a single turn are those of its newest. See `SessionStore`. */
export interface SessionState extends TurnContent {
  readonly turns: readonly TurnSnapshot[];
  readonly status: 'idle' | TurnSnapshot['status'];
  /** Whether a turn is being sent, waits or runs. */
  readonly isStreaming: boolean;
  readonly sessionId: string | null;
  readonly turn: number | null;
  readonly position: number;
  readonly connection: ConnectionState;
}

/** The parameters of a session's turn besides its goal. A session's first turn needs `agentId`. */
export type SendParams = Omit<ExecuteParams, 'goal' | 'sessionId' | 'idempotencyKey'>;

/** The output before the first chunk. */
export const NO_CONTENT: TurnContent = {
  content: '',
  parts: [],
  truncated: false,
  toolCalls: [],
  steps: [],
  waiting: [],
  error: null,
  usage: null,
};

/** The state before the first chunk, which servers render. */
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
