/** `client.agents`, `client.teams`, `client.tokens` and `client.nodes`. */

import { AGENTS, camel, createRequest, itemRequest, listRequest, pageOf } from './core/messages.js';
import { load } from './platform.js';
import type { Transport } from './transport.js';
import type {
  Agent,
  AgentParams,
  CreateAgentParams,
  CreateTeamParams,
  Page,
  PageParams,
  ServerNode,
  Team,
  TeamParams,
  Token,
  TokenParams,
} from './types.js';
import type { Handler, ServeOptions, Worker } from './worker/index.js';

/** What is made, read, changed and deleted by its id. Everything throws StreamError. */
export interface Collection<Item, Params, NewParams> {
  create(params: NewParams): Promise<Item>;
  get(id: string): Promise<Item>;
  /** One page, by id; of agents with those of the configuration. */
  list(params?: PageParams): Promise<Page<Item>>;
  /** Changes the fields that are given; null clears what can be empty. */
  update(id: string, params: Params): Promise<Item>;
  /** Deletes it; its sessions and their logs stay. */
  delete(id: string): Promise<void>;
}

/** Agents that do a turn together. A team is executed as an agent is, by its id. */
export type Teams = Collection<Team, TeamParams, CreateTeamParams>;

/** What turns goals into streams. */
export interface Agents extends Collection<Agent, AgentParams, CreateAgentParams> {
  /**
   * Is a worker of an agent of the engine `worker`: `handler` runs its turns in this process, which is
   * no browser. Returns once the server has welcomed the worker. An agent that does not exist is made,
   * if the key may make agents. After a cut the worker goes on where it was.
   */
  serve(agentId: string, handler: Handler, options?: ServeOptions): Promise<Worker>;
}

/** Client tokens, so that no key ever sits in a browser. */
export interface Tokens {
  /** A token with these scopes, confined to a subject, session or agent if named. */
  create(params: TokenParams): Promise<Token>;
}

/** The processes that serve the store; for the server's bootstrap key alone. */
export interface Nodes {
  /** All that live, oldest first. Throws StreamError. */
  list(): Promise<Page<ServerNode>>;
}

export function collection<Item, Params extends object, NewParams extends object>(
  transport: Transport,
  path: string,
): Collection<Item, Params, NewParams> {
  return {
    create: async (params) => camel(await transport.call(createRequest(path, params))),
    get: async (id) => camel(await transport.call(itemRequest('GET', path, id))),
    list: async (params) => pageOf(await transport.call(listRequest(path, { ...params }))),
    update: async (id, params) =>
      camel(await transport.call(itemRequest('PATCH', path, id, '', params))),
    delete: async (id) => {
      await transport.call(itemRequest('DELETE', path, id));
    },
  };
}

export function agentsOf(transport: Transport): Agents {
  const agents: Agents = {
    ...collection<Agent, AgentParams, CreateAgentParams>(transport, AGENTS),
    serve: async (agentId, handler, options) => {
      const { serve } = await load(() => import('./worker/worker.js'), true);
      return serve(agents, transport, agentId, handler, options);
    },
  };
  return agents;
}
