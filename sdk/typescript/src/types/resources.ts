/** Agents, teams, nodes and client tokens. */
import type { JsonObject } from './base.js';

export interface Agent {
  readonly id: string;
  readonly name: string;
  readonly engine: string;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly defaults: JsonObject;
  /** What an agent in Python declares of itself. */
  readonly description?: string;
  /** JSON Schema of the `context` that it reads. */
  readonly inputSchema?: JsonObject;
  /** The endpoint of an agent of the engine `http`. */
  readonly url?: string;
  /** The key that signs requests to the endpoint: only in the answer that makes it. */
  readonly secret?: string;
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
  /** The endpoint of an agent of the engine `http`. */
  url?: string | undefined;
  /** `whsec_` and base64 of 24 to 64 bytes. Left out, or null in an update: the server makes one. */
  secret?: string | null | undefined;
}

export interface CreateAgentParams extends AgentParams {
  name: string;
  engine: string;
  /** Made up if not given. */
  id?: string | undefined;
}

/** An agent of a team, in the wire's names. */
export interface TeamMember {
  agent_id: string;
  /** What it is in the team. */
  role?: string | null | undefined;
  /** What it is told beside its own instructions. */
  instructions?: string | null | undefined;
}

export interface TeamParams {
  name?: string | undefined;
  description?: string | null | undefined;
  strategy?: 'sequential' | 'parallel' | 'hierarchical' | undefined;
  members?: readonly TeamMember[] | undefined;
  /** The member that gives tasks to the others; for `hierarchical`. */
  lead?: string | null | undefined;
  /** A member that fails ends the turn, or the others are told and go on. */
  onFailure?: 'fail' | 'continue' | undefined;
  /** What a turn gets unless it says otherwise, in the wire's names (`max_steps`). */
  defaults?: JsonObject | undefined;
}

export interface CreateTeamParams extends TeamParams {
  name: string;
  strategy: 'sequential' | 'parallel' | 'hierarchical';
  members: readonly TeamMember[];
  /** Made up if not given. */
  id?: string | undefined;
}

/** Agents that do a turn together; its id is the `agentId` of an execute. */
export interface Team {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  readonly strategy: 'sequential' | 'parallel' | 'hierarchical';
  readonly members: readonly TeamMember[];
  readonly lead: string | null;
  readonly onFailure: 'fail' | 'continue';
  readonly defaults: JsonObject;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** A process that serves the store. What only it knows is null if it did not answer in time. */
export interface ServerNode {
  readonly id: string;
  /** Of its machine. */
  readonly name: string;
  readonly version: string;
  readonly startedAt: string | null;
  /** Seconds since it was last seen alive. */
  readonly lastSeenSeconds: number;
  readonly runningTurns: number | null;
  readonly queuedTurns: number | null;
  /** SSE streams and sockets. */
  readonly openStreams: number | null;
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
