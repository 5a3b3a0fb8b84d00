/** What those who run a server ask it, for programs that do: pages of browsers need no byte of it. */
import {
  asObject,
  camel,
  createRequest,
  itemRequest,
  listRequest,
  pageOf,
  query,
  SESSIONS,
} from '../core/messages.js';
import { collection, type Nodes } from '../resources.js';
import { settingsOf } from '../settings.js';
import { Transport } from '../transport.js';
import type {
  AgentWorker,
  ApiKey,
  ClientOptions,
  Erased,
  LiveMetrics,
  LogPage,
  NewKeyParams,
  NewOrganizationParams,
  Organization,
  OrganizationParams,
  Page,
  PageParams,
  ReadLogParams,
  Tool,
  UsageParams,
  UsageReport,
} from '../types.js';

/** API keys of the organization. Needs the scopes `keys:read` and `keys:write`. */
export interface Keys {
  /**
   * A key, whose `key` is shown this once: when the answer was lost on the way, this throws Conflict,
   * and a new one is to be made.
   */
  create(params: NewKeyParams): Promise<ApiKey>;
  get(keyId: string): Promise<ApiKey>;
  /** One page, newest first, also those that are revoked or have expired. */
  list(params?: PageParams): Promise<Page<ApiKey>>;
  /** Ends a key, its tokens and what they hold open, for good. */
  revoke(keyId: string): Promise<void>;
}

/** Tenants of one server, sealed off from each other. Needs the server's bootstrap key. */
export interface Organizations {
  /** An organization with its first key, which has every scope in it. */
  create(params: NewOrganizationParams): Promise<Organization>;
  get(organizationId: string): Promise<Organization>;
  /** One page, oldest first. */
  list(params?: PageParams): Promise<Page<Organization>>;
  /** Renames, disables or enables it. */
  update(organizationId: string, params: OrganizationParams): Promise<Organization>;
  /** Disables it and deletes all that it has, for some seconds: call again while `hasMore`. */
  delete(organizationId: string): Promise<Erased>;
  /** A key in it, for an organization whose keys are lost. */
  createKey(organizationId: string, params: NewKeyParams): Promise<ApiKey>;
}

/** Tokens, steps and time of turns. Needs the scope `usage:read`. */
export interface UsageReports {
  /** One page of groups. */
  report(params?: UsageParams): Promise<UsageReport>;
}

/** The workers that are connected. Needs the scope `agents:read`. */
export interface Workers {
  /** All, by agent. */
  list(): Promise<Page<AgentWorker>>;
}

/** What each node does now. */
export interface Metrics {
  /**
   * For the organization (needs the scope `metrics:read`), or all that the `server` does (needs its
   * bootstrap key).
   */
  read(of?: 'organization' | 'server'): Promise<LiveMetrics>;
}

/** The tools that agents may use. Needs the scope `agents:read`. */
export interface Tools {
  list(): Promise<Page<Tool>>;
}

/** End users. Needs the scope `subjects:write`. */
export interface Subjects {
  /** Deletes what belongs to one, for some seconds: call again while `hasMore`. */
  delete(subject: string): Promise<Erased>;
}

/** Logs of sessions as they are stored. Needs the scope `sessions:read`. */
export interface Logs {
  /** The chunks behind a position. */
  read(sessionId: string, params?: ReadLogParams): Promise<LogPage>;
}

/**
 * A client for those who run a server, beside `ResonantGenesis`; the options are the same. Everything
 * throws StreamError.
 */
export class Admin {
  readonly keys: Keys;
  readonly organizations: Organizations;
  readonly usage: UsageReports;
  readonly workers: Workers;
  readonly nodes: Nodes;
  readonly metrics: Metrics;
  readonly tools: Tools;
  readonly subjects: Subjects;
  readonly logs: Logs;

  constructor(options: ClientOptions = {}) {
    const transport = new Transport(settingsOf(options));
    this.keys = keysOf(transport);
    this.organizations = organizationsOf(transport);
    this.usage = { report: (params) => usageReport(transport, params) };
    this.workers = collection(transport, '/v1/workers');
    this.nodes = collection(transport, '/v1/nodes');
    this.metrics = { read: (of) => liveMetrics(transport, of) };
    this.tools = collection(transport, '/v1/tools');
    this.subjects = { delete: (subject) => eraseSubject(transport, subject) };
    this.logs = { read: (sessionId, params) => readLog(transport, sessionId, params) };
  }
}

async function usageReport(
  transport: Transport,
  { from, to, ...params }: UsageParams = {},
): Promise<UsageReport> {
  const asked = { ...params, from: timeOf(from), to: timeOf(to) };
  const raw = await transport.call(listRequest('/v1/usage', asked));
  return {
    ...camel<UsageReport>(raw),
    ...pageOf(raw),
    totals: camel(asObject(raw.totals)),
    budget: raw.budget ? camel(asObject(raw.budget)) : null,
  };
}

async function liveMetrics(transport: Transport, of = 'organization'): Promise<LiveMetrics> {
  const raw = await transport.call(listRequest('/v1/metrics', { of }));
  return { ...pageOf(raw), waitingTurns: Number(raw.waiting_turns) };
}

async function eraseSubject(transport: Transport, subject: string): Promise<Erased> {
  const asked = { method: 'DELETE', path: '/v1/subjects', query: { subject } };
  return camel(await transport.call(asked));
}

async function readLog(
  transport: Transport,
  sessionId: string,
  { signal, ...params }: ReadLogParams = {},
): Promise<LogPage> {
  const { path } = itemRequest('GET', SESSIONS, sessionId, '/events');
  const asked = { method: 'GET', path, query: query({ ...params, times: true }) };
  return camel(await transport.call({ ...asked, patience: params.wait ?? 0 }, signal));
}

function keysOf(transport: Transport): Keys {
  const {
    create,
    get,
    list,
    delete: revoke,
  } = collection<ApiKey, object, NewKeyParams>(transport, '/v1/keys');
  return { create, get, list, revoke };
}

function organizationsOf(transport: Transport): Organizations {
  const path = '/v1/organizations';
  return {
    ...collection<Organization, OrganizationParams, NewOrganizationParams>(transport, path),
    async create(params) {
      const made = await transport.call(createRequest(path, params));
      return { ...camel<Organization>(made), key: camel(asObject(made.key)) };
    },
    async delete(id) {
      return camel(await transport.call(itemRequest('DELETE', path, id)));
    },
    async createKey(id, params) {
      const keys = itemRequest('POST', path, id, '/keys').path;
      return camel(await transport.call(createRequest(keys, params)));
    },
  };
}

function timeOf(time: string | Date | undefined): string | undefined {
  return time instanceof Date ? time.toISOString() : time;
}
