/** What a worker's handler gets, and what it yields. */
import type { Ask, ClientTool, JsonObject, MaybePromise } from '../types.js';

/** A tool call of an earlier turn; `result` null: no result came. */
export interface PastCall {
  readonly tool: string;
  readonly args: JsonObject;
  readonly result: string | null;
  readonly isError: boolean;
}

/** A text of an earlier turn, and the tools that it called after the text. */
export interface PastStep {
  readonly text: string;
  readonly calls: readonly PastCall[];
}

/** An earlier turn of the session. */
export interface PastTurn {
  readonly goal: string;
  /** Its whole text. */
  readonly output: string;
  readonly status: string;
  readonly steps: readonly PastStep[];
  /** What the user said to the turn while it was open, and the agent did not take. */
  readonly left: readonly string[];
}

/** The answer to an ask. */
export interface Answer {
  readonly callId: string;
  readonly status: 'answered' | 'expired' | 'cancelled';
  readonly approved: boolean | null;
  readonly payload: unknown;
  readonly reason: string;
  /** Whether somebody has answered, and has not declined. */
  readonly ok: boolean;
}

/** One execution of a goal. */
export interface Turn {
  readonly goal: string;
  readonly sessionId: string;
  readonly turn: number;
  readonly agentId: string;
  /** That of the session, with that of the request merged in. */
  readonly context: JsonObject;
  /** The earlier turns, oldest first. */
  readonly history: readonly PastTurn[];
  /** The end user behind a client token. */
  readonly subject: string | null;
  readonly metadata: JsonObject;
  /** Of the request, or else of the agent's record; so are `tools` and `instructions`. */
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly instructions: string | null;
  readonly maxSteps: number;
  /** Those that the client of the turn runs. */
  readonly clientTools: readonly ClientTool[];
  /** By `callId`, of a turn that has waited. */
  readonly answers: Readonly<Record<string, Answer>>;
  /** The text and the calls of a turn that has waited, up to now. */
  readonly soFar: readonly PastStep[];
  /** The value of the turn's newest `keep`. */
  readonly kept: unknown;
  /** Aborts when nobody wants the turn's chunks any more: it was cancelled, or is out of time. */
  readonly signal: AbortSignal;
  /** The turn as the server sent it. */
  readonly raw: JsonObject;
  /**
   * The value that a person gives, which fits the JSON Schema.
   *
   * The turn waits, and no worker holds it. Then the handler runs again from its start, in any worker,
   * and gets the answer here. Rejects with NotAnswered if nobody answers within `expiresIn` seconds, or
   * the person declines.
   */
  ask(message: string, options?: AskOptions): Promise<unknown>;
  /** Whether a person lets the agent make this call, which has a `callId`. The turn waits as for `ask`. */
  approve(
    call: Pick<ToolCallChunk, 'tool' | 'args' | 'callId'>,
    options?: ApproveOptions,
  ): Promise<Answer>;
}

interface Expiring {
  /** Seconds, after which nobody can answer. */
  readonly expiresIn?: number | undefined;
}

export interface AskOptions extends Expiring {
  /** JSON Schema of the value. */
  readonly schema?: JsonObject | undefined;
  /** The name of the ask; made up if not given. */
  readonly callId?: string | undefined;
}

export interface ApproveOptions extends Expiring {
  /** For the person who answers. */
  readonly message?: string | undefined;
}

/** What every chunk may say of the sub-agent that made it. */
interface Origin {
  /** The name of the sub-agent. */
  readonly agentId?: string | undefined;
  /** The `callId` of the tool call that started the sub-agent. */
  readonly parent?: string | undefined;
}

/** Pieces of the answer, or of what the agent thinks before it. A plain string is a text. */
interface ContentChunk extends Origin {
  readonly type: 'text' | 'reasoning';
  readonly content: string;
}

interface ToolCallChunk extends Origin {
  readonly type: 'tool_call';
  readonly tool: string;
  readonly args?: JsonObject | undefined;
  /** Pairs the call with its result. */
  readonly callId?: string | undefined;
}

interface ToolResultChunk extends Origin {
  readonly type: 'tool_result';
  readonly tool: string;
  readonly result: unknown;
  readonly callId?: string | undefined;
  readonly isError?: boolean | undefined;
}

/** The server numbers and times steps. */
interface StepChunk extends Origin {
  readonly type: 'step';
  readonly name: string;
  /** `started` by default. */
  readonly status?: 'started' | 'progress' | 'completed' | undefined;
  readonly detail?: string | undefined;
  readonly finishReason?: string | undefined;
}

/** A page or document that the answer rests on. */
interface SourceChunk extends Origin {
  readonly type: 'source';
  readonly url: string;
  readonly title?: string | undefined;
}

/** A file of the server that belongs to the answer. */
interface FileChunk extends Origin {
  readonly type: 'file';
  readonly fileId: string;
  readonly name: string;
  readonly contentType: string;
  /** In bytes. */
  readonly size: number;
}

/** A value of the application's own; a later one of the same `name` and `id` replaces it. */
interface DataChunk extends Origin {
  readonly type: 'data';
  readonly name: string;
  readonly data: unknown;
  readonly id?: string | undefined;
  /** For live viewers alone, and not stored. */
  readonly transient?: boolean | undefined;
}

/** Tokens since the last one; the server adds them up. */
interface UsageChunk {
  readonly type: 'usage';
  readonly inputTokens?: number | undefined;
  readonly outputTokens?: number | undefined;
}

/**
 * The agent asks, and the turn waits once the handler has ended. The handler is started again, in any
 * worker, with the answer in `turn.answers`.
 */
export interface AskChunk extends Expiring {
  readonly type: 'ask';
  /** `input` by default. */
  readonly kind?: Ask['kind'] | undefined;
  readonly message?: string | undefined;
  readonly tool?: string | undefined;
  readonly args?: JsonObject | undefined;
  readonly schema?: JsonObject | undefined;
  readonly callId?: string | undefined;
}

/** A JSON value that the handler gets back in `turn.kept` when it is started again. */
export interface KeepChunk {
  readonly type: 'keep';
  readonly value: unknown;
}

/** What a handler may yield. */
export type AgentChunk =
  | string
  | ContentChunk
  | ToolCallChunk
  | ToolResultChunk
  | StepChunk
  | SourceChunk
  | FileChunk
  | DataChunk
  | UsageChunk
  | AskChunk
  | KeepChunk;

/** A generator, or a function that returns one chunk or none; each of them async or not. */
export type Handler = (
  turn: Turn,
) => MaybePromise<AsyncIterable<AgentChunk> | Iterable<AgentChunk> | AgentChunk | undefined>;

/** Why a turn failed, in the handler's own words; what any other error says, the client never sees. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
  /**
   * One of AGENT_FAILED (the default), MODEL_UNAVAILABLE, RATE_LIMITED, TIMEOUT, MAX_STEPS, RUNNER_LOST
   * and PAYLOAD_TOO_LARGE.
   */
  readonly code: string;
  readonly retryable: boolean | undefined;
  /** Seconds. */
  readonly retryAfter: number | undefined;

  constructor(
    message: string,
    fields: {
      code?: string | undefined;
      retryable?: boolean | undefined;
      retryAfter?: number | undefined;
    } = {},
  ) {
    super(message);
    this.code = fields.code ?? 'AGENT_FAILED';
    this.retryable = fields.retryable;
    this.retryAfter = fields.retryAfter;
  }
}

/** Nobody has answered what a handler asked, or the answer is no. */
export class NotAnswered extends AgentError {
  readonly answer: Answer;

  constructor(answer: Answer) {
    const { status, reason } = answer;
    const denied = reason ? `denied: ${reason}` : 'denied';
    const unanswered = status === 'expired' ? 'nobody answered in time' : 'not answered';
    super(status === 'answered' ? denied : unanswered);
    this.answer = answer;
  }
}

export interface ServeOptions {
  /** Turns at once; 8 by default. */
  capacity?: number | undefined;
  /** For people, in the list of workers. */
  name?: string | undefined;
  /** Seconds that turns get to end once the worker is stopped; 30 by default. */
  drainSeconds?: number | undefined;
}

/** What `client.agents.serve` has started. */
export interface Worker {
  /** Its id in the list of workers. */
  readonly id: string;
  readonly agentId: string;
  /**
   * Resolves when the worker has stopped. Rejects with the StreamError that a retry cannot help: its
   * credential is refused, or its agent is no more.
   */
  readonly ended: Promise<void>;
  /**
   * Takes no more turns, and resolves like `ended` once those that run are over, or `drainSeconds`
   * have passed. Harmless if repeated.
   */
  stop(): Promise<void>;
}
