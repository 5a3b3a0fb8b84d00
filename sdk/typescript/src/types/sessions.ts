/** Sessions, their turns and steps, and answers to what a turn asks. */
import type { JsonObject, PageParams } from './base.js';
import type { Ask, ErrorInfo, TurnStatus, Usage } from './chunks.js';

export type SessionStatus =
  | 'created'
  | 'queued'
  | 'running'
  | 'waiting'
  | 'completed'
  | 'failed'
  | 'cancelled'
  | 'timeout';

/** A session as the server showed it. */
export interface SessionData {
  readonly sessionId: string;
  readonly agentId: string;
  readonly status: SessionStatus;
  readonly subject: string | null;
  readonly turns: number;
  /** The beginning of the first turn's goal. */
  readonly firstGoal?: string | null;
  /** What its turn asks, while it waits. A list shows no `args`, `message` and `schema`. */
  readonly waiting?: readonly Ask[] | null;
  readonly metadata: JsonObject;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** These come with a session that is looked up by itself. */
  readonly context?: JsonObject;
  /** The newest turn's number, its text so far, and the position up to which that was read. */
  readonly turn?: number | null;
  readonly output?: string | null;
  readonly outputTruncated?: boolean;
  readonly position?: number;
  /** Where a fork begins. */
  readonly forkedFrom?: { readonly sessionId: string; readonly turn: number } | null;
}

/** How a turn that was executed without a stream ended, or what it waits for. */
export interface TurnResult {
  readonly sessionId: string;
  readonly turn: number;
  /** `waiting`: the turn goes on once all that it asks has an answer. */
  readonly status: TurnStatus | 'waiting';
  /** What the turn asks. */
  readonly waiting?: readonly Ask[];
  readonly output: string;
  readonly outputTruncated?: boolean;
  /** What it took; zeros while it waits. */
  readonly steps: number;
  readonly usage: Usage;
  readonly position: number;
  readonly error?: ErrorInfo;
}

/**
 * An answer: `approved` for an approval, `payload` for a value or the result of a tool, and
 * `approved: false` to decline either.
 */
export type AnswerParams = (
  | { approved: boolean; payload?: undefined }
  | { payload: unknown; approved?: undefined }
) & {
  reason?: string | undefined;
  /** The turn that asks; left out, the one that waits. */
  turn?: number | undefined;
};

/** An answer that stands. */
export interface InputResult {
  readonly sessionId: string;
  readonly turn: number;
  readonly callId: string;
  /** That of the session: `waiting` while other asks are open. */
  readonly status: SessionStatus;
}

/** A step of a turn. */
export interface Step {
  readonly step: number;
  readonly turn: number;
  readonly name: string;
  readonly status: 'started' | 'completed';
  readonly durationMs?: number | null;
  readonly position: number;
}

export interface CreateSessionParams {
  agentId: string;
  context?: string | JsonObject | undefined;
  subject?: string | undefined;
  metadata?: JsonObject | undefined;
}

export interface ListSessionsParams extends PageParams {
  agentId?: string | undefined;
  status?: SessionStatus | undefined;
  /**
   * Words of the agent, the subject, the first goal and the metadata, or the beginning of an id. Pages of
   * a search may be short, and empty, while `hasMore`.
   */
  search?: string | undefined;
}

/** What is cancelled: what runs or waits, only `turn`, or the turn of an execute's key. */
export type CancelParams =
  | { turn?: number | undefined }
  | { idempotencyKey: string; turn?: undefined };
