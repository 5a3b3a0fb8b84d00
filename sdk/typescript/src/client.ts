/** The client. */
import type { StreamError } from './errors.js';
import { Events } from './events.js';
import { type Files, filesOf } from './files.js';
import type { OfflineQueue } from './offline/queue.js';
import { load } from './platform.js';
import type { Realtime } from './realtime/realtime.js';
import {
  type Agents,
  agentsOf,
  collection,
  type Nodes,
  type Teams,
  type Tokens,
} from './resources.js';
import { Sessions } from './sessions.js';
import { baseUrlOf, settingsOf } from './settings.js';
import { Transport } from './transport.js';
import type { ClientOptions, OfflineQueueOptions, Readable, RealtimeOptions } from './types.js';

/**
 * A client of one server and one credential; serves any number of streams. The constructor never
 * throws: what is wrong with the options, a missing credential as well, the first call tells.
 */
export class ResonantGenesis {
  readonly sessions: Sessions;
  readonly events: Events;
  readonly files: Files;
  readonly agents: Agents;
  readonly teams: Teams;
  readonly tokens: Tokens;
  readonly nodes: Nodes;
  /**
   * Why the server cannot be reached, or takes no requests, while it is tried again; null while it
   * can. Known as soon as the first attempt of any call or stream has failed.
   */
  readonly reach: Readable<StreamError | null>;
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    const transport = new Transport(settingsOf(options));
    this.#transport = transport;
    this.reach = transport.settings.reach;
    this.sessions = new Sessions(transport);
    this.events = new Events(transport);
    this.files = filesOf(transport);
    this.agents = agentsOf(transport);
    this.teams = collection(transport, '/v1/teams');
    this.tokens = collection(transport, '/v1/tokens');
    this.nodes = collection(transport, '/v1/nodes');
  }

  /**
   * One WebSocket for any number of channels and sessions; it connects at once, and is kept up until
   * it is closed. Its code is loaded when it is first asked for.
   */
  async realtime(options: RealtimeOptions = {}): Promise<Realtime> {
    const { Realtime } = await load(() => import('./realtime/realtime.js'), true);
    return new Realtime(this.#transport.settings, options);
  }

  /**
   * A queue for executes that must survive being offline. Its code is loaded when it is first asked
   * for, so ask when the page starts: that also sends what an earlier page left.
   */
  async offlineQueue(options: OfflineQueueOptions = {}): Promise<OfflineQueue> {
    const { openQueue } = await load(() => import('./offline/queue.js'), false);
    return openQueue(this.#transport, options);
  }

  /** The address, without `/v1`. Throws InvalidRequest if the one that was given is none. */
  get baseUrl(): string {
    return baseUrlOf(this.#transport.settings.options);
  }
}
