/** Sessions, agents and tokens. */
import type { JsonObject } from './base.js';
import type { ErrorInfo, TurnStatus, Usage } from './streams.js';

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
}

/** How a turn that was executed without a stream ended. */
export interface TurnResult {
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus;
  readonly output: string;
  readonly outputTruncated?: boolean;
  readonly steps: number;
  readonly usage: Usage;
  readonly position: number;
  readonly error?: ErrorInfo;
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

/** One page of a list; iterable. `nextCursor` asks for the next one. */
export interface Page<T> extends Iterable<T> {
  readonly data: readonly T[];
  readonly nextCursor: string | null;
  readonly hasMore: boolean;
}

export interface PageParams {
  limit?: number | undefined;
  cursor?: string | undefined;
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
}

/** What is cancelled: what runs or waits, only `turn`, or the turn of an execute's key. */
export type CancelParams =
  | { turn?: number | undefined }
  | { idempotencyKey: string; turn?: undefined };

export interface Agent {
  readonly id: string;
  readonly name: string;
  readonly engine: string;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly defaults: JsonObject;
  /** Those of the server's configuration belong to every organization and are read-only. */
  readonly source: 'api' | 'configuration';
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface AgentParams {
  name?: string | undefined;
  engine?: string | undefined;
  instructions?: string | null | undefined;
  model?: string | null | undefined;
  tools?: readonly string[] | null | undefined;
  /** What a turn gets unless it says otherwise, in the wire's names (`max_steps`). */
  defaults?: JsonObject | undefined;
}

export interface CreateAgentParams extends AgentParams {
  name: string;
  engine: string;
  /** Made up if not given. */
  id?: string | undefined;
}

export interface TokenParams {
  scopes: readonly string[];
  /** The end user: the token sees only this subject's sessions. */
  subject?: string | undefined;
  sessionId?: string | undefined;
  agentId?: string | undefined;
  ttlSeconds?: number | undefined;
}

/** A client token: short-lived, and fit for a browser, unlike a key. */
export interface Token {
  readonly token: string;
  readonly expiresAt: string;
  readonly scopes: readonly string[];
  readonly subject: string | null;
  readonly sessionId: string | null;
  readonly agentId: string | null;
}
