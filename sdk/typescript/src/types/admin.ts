/** Keys, organizations, usage, workers, metrics and tools: what those who run a server see. */
import type { JsonObject, Page, PageParams } from './base.js';

/** An API key. `key` is the credential, shown only where it is made. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly createdAt: string;
  /** null: it never ends. */
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
  readonly key?: string;
}

export interface NewKeyParams {
  name: string;
  /** None that the maker lacks; `SCOPES` has all. */
  scopes: readonly string[];
  /** Seconds; left out: it never ends. */
  expiresIn?: number | undefined;
}

/** A tenant of the server. `key` is its first, shown only where the organization is made. */
export interface Organization {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly disabledAt: string | null;
  readonly key?: ApiKey;
}

export interface NewOrganizationParams {
  name: string;
  /** Of its first key. */
  keyName?: string | undefined;
}

export interface OrganizationParams {
  name?: string | undefined;
  /** Disabled, none of its credentials opens anything. Nothing is deleted. */
  disabled?: boolean | undefined;
}

/** What one call has deleted. `hasMore`: call again; nothing is deleted twice. */
export interface Erased {
  readonly sessions: number;
  /** Files of no session. */
  readonly files: number;
  /** Turns in the usage that name nobody any more. */
  readonly usage: number;
  /** Kept answers of Idempotency-Keys. */
  readonly requests: number;
  readonly hasMore: boolean;
}

export type UsageGroup = 'day' | 'agent' | 'key' | 'subject' | 'session' | 'turn';

export interface UsageParams extends PageParams {
  groupBy?: UsageGroup | undefined;
  /** From when (inclusive; the last 30 days), and until when (exclusive; now): a day or a time. */
  from?: string | Date | undefined;
  to?: string | Date | undefined;
  agentId?: string | undefined;
  keyId?: string | undefined;
  subject?: string | undefined;
  sessionId?: string | undefined;
}

export interface UsageSums {
  readonly turns: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly totalTokens: number;
  readonly steps: number;
  readonly durationMs: number;
}

/** The sums of a group, with the names that the group has. */
export interface UsageRow extends UsageSums {
  /** `2026-02-21`, UTC. */
  readonly day?: string;
  readonly agentId?: string;
  readonly keyId?: string;
  readonly subject?: string | null;
  readonly sessionId?: string;
  readonly turn?: number;
  readonly status?: string;
  readonly endedAt?: string;
}

export interface Budget {
  readonly month: string;
  readonly monthlyTokens: number;
  readonly usedTokens: number;
  readonly resetsAt: string;
}

/** One page of groups. `totals` are over all pages; `budget` null: there is none. */
export interface UsageReport extends Page<UsageRow> {
  readonly totals: UsageSums;
  readonly from: string;
  readonly to: string;
  readonly groupBy: UsageGroup;
  readonly budget: Budget | null;
}

/** A worker that serves an agent. `node` has its socket. */
export interface AgentWorker {
  readonly id: string;
  readonly agentId: string;
  readonly name: string;
  readonly node: string;
  readonly capacity: number;
  readonly running: number;
  /** It takes no more turns. */
  readonly draining: boolean;
  readonly connectedAt: string;
}

export interface Histogram {
  /** Seconds. */
  readonly bounds: readonly number[];
  /** Values up to each bound, then all values. */
  readonly counts: readonly number[];
}

/** What a node does now. Counts only grow while it lives: rates are differences over `uptimeSeconds`. */
export interface NodeMetrics {
  readonly node: string;
  readonly uptimeSeconds: number;
  readonly openStreams: number;
  readonly viewers: { readonly live: number; readonly behind: number };
  readonly openTurns: { readonly running: number; readonly queued: number };
  /** Turns that ended, by how. */
  readonly endedTurns: Readonly<Record<string, number>>;
  readonly chunks: number;
  readonly firstChunk: Histogram;
  readonly appendToSocket: Histogram;
  /** How often a limit held back, by the limit. */
  readonly limitsHit: Readonly<Record<string, number>>;
}

/** The figures of all nodes; `waitingTurns` of the store wait for answers. */
export interface LiveMetrics extends Page<NodeMetrics> {
  readonly waitingTurns: number;
}

/** A tool that agents may use, by its name. */
export interface Tool {
  readonly name: string;
  readonly description: string;
  /** JSON Schema of the arguments. */
  readonly parameters: JsonObject;
  readonly source: string;
  /** The MCP server that has it. */
  readonly server: string | null;
  readonly timeoutSeconds: number;
  /** null: it depends on the arguments. */
  readonly needsApproval: boolean | null;
  /** Why it cannot be used now; null if it can. */
  readonly problem: string | null;
}

export interface ReadLogParams {
  /** Behind this position; 0: from the start. */
  after?: number | undefined;
  limit?: number | undefined;
  /** Seconds to wait for the first chunk. */
  wait?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** A part of a session's log: its chunks in the wire's names, each with `position` and its time `at`. */
export interface LogPage {
  readonly events: readonly (JsonObject & {
    readonly type: string;
    readonly position: number;
    readonly at: string;
  })[];
  readonly position: number;
  readonly status: string;
  /** Whether no turn is open, and nothing follows. */
  readonly done: boolean;
}
