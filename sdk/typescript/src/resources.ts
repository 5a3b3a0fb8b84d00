/** `client.agents`, `client.tokens` and `client.nodes`. */

import {
  AGENTS,
  camel,
  createRequest,
  itemRequest,
  listRequest,
  NODES,
  pageOf,
  snake,
  TOKENS,
} from './core/messages.js';
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
    const raw = await this.#transport.call(listRequest(AGENTS, params));
    return pageOf<Agent>(raw, raw.data, camel);
  }

  /** Changes the fields that are given; null clears what can be empty. */
  async update(agentId: string, params: AgentParams): Promise<Agent> {
    const body = snake(params);
    return camel(await this.#transport.call({ ...itemRequest('PATCH', AGENTS, agentId), body }));
  }

  /** Deletes it; its sessions and their logs stay. */
  async delete(agentId: string): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', AGENTS, agentId));
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
    const raw = await this.#transport.call(listRequest(NODES, {}));
    return pageOf<ServerNode>(raw, raw.data, camel);
  }
}
