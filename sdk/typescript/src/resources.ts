/** `client.agents`, `client.tokens` and `client.nodes`. */

import {
  AGENTS,
  camel,
  createRequest,
  itemRequest,
  listRequest,
  NODES,
  pageOf,
  TOKENS,
} from './core/messages.js';
import { load } from './platform.js';
import type { Transport } from './transport.js';
import type {
  Agent,
  AgentParams,
  CreateAgentParams,
  Page,
  PageParams,
  ServerNode,
  Token,
  TokenParams,
} from './types.js';
import type { Handler, ServeOptions, Worker } from './worker/index.js';

/** What turns goals into streams. Everything throws StreamError. */
export class Agents {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async create(params: CreateAgentParams): Promise<Agent> {
    return camel(await this.#transport.call(createRequest(AGENTS, params)));
  }

  async get(agentId: string): Promise<Agent> {
    return camel(await this.#transport.call(itemRequest('GET', AGENTS, agentId)));
  }

  /** One page of the organization's agents and those of the configuration, by id. */
  async list(params: PageParams = {}): Promise<Page<Agent>> {
    return pageOf(await this.#transport.call(listRequest(AGENTS, params)));
  }

  /** Changes the fields that are given; null clears what can be empty. */
  async update(agentId: string, params: AgentParams): Promise<Agent> {
    const request = itemRequest('PATCH', AGENTS, agentId, '', params);
    return camel(await this.#transport.call(request));
  }

  /** Deletes it; its sessions and their logs stay. */
  async delete(agentId: string): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', AGENTS, agentId));
  }

  /**
   * Is a worker of an agent of the engine `worker`: `handler` runs its turns in this process, which is
   * no browser. Returns once the server has welcomed the worker. An agent that does not exist is made,
   * if the key may make agents. After a cut the worker goes on where it was.
   */
  async serve(agentId: string, handler: Handler, options?: ServeOptions): Promise<Worker> {
    const { serve } = await load(() => import('./worker/worker.js'), true);
    return serve(this, this.#transport, agentId, handler, options);
  }
}

/** Client tokens, so that no key ever sits in a browser. Everything throws StreamError. */
export class Tokens {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** A token with these scopes, confined to a subject, session or agent if named. */
  async create(params: TokenParams): Promise<Token> {
    return camel(await this.#transport.call(createRequest(TOKENS, params)));
  }
}

/** The processes that serve the store; for the server's bootstrap key alone. */
export class Nodes {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** All that live, oldest first. Throws StreamError. */
  async list(): Promise<Page<ServerNode>> {
    return pageOf(await this.#transport.call(listRequest(NODES, {})));
  }
}
