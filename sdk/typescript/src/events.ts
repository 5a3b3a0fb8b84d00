/** `client.events`. */

import { placeOf, selection, selectionQuery } from './core/event-filter.js';
import type { EventMachine } from './core/event-machine.js';
import { camel, createRequest, EVENTS, itemRequest, pageOf, query } from './core/messages.js';
import { InvalidRequest } from './errors.js';
import { load } from './platform.js';
import { StreamReader } from './stream-reader.js';
import type { Transport } from './transport.js';
import type {
  EventStream,
  JsonObject,
  ListEventsParams,
  Page,
  PlatformEvent,
  ReplayParams,
  SubscribeParams,
} from './types.js';

/** At most so many events in one list; what is iterated has no end. */
const REPLAY_LIMIT = 100_000;
const PAGE = 1_000;

/** Platform events: follow, replay, look up, publish. Everything throws StreamError. */
export class Events {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Events from now on, or from `since`; nothing to await, it connects when iterated. */
  subscribe(params: SubscribeParams = {}): EventStream {
    return new Subscription(this.#transport, params);
  }

  /**
   * Events since a time (inclusive) or a cursor (exclusive), until a time (exclusive), a cursor
   * (inclusive) or now: await it for a list of at most 100,000, or iterate over any number.
   */
  replay(params: ReplayParams): Replay {
    return new Replay(this.#transport, params);
  }

  /** One page, from the earliest kept. */
  async list(params: ListEventsParams = {}): Promise<Page<PlatformEvent>> {
    const { since, until, limit, cursor, wait } = params;
    const place = query({ since: placeOf(since), until: placeOf(until), limit, cursor, wait });
    return eventPage(
      await this.#transport.call({
        method: 'GET',
        path: EVENTS,
        query: { ...selectionQuery(params), ...place },
        patience: wait ?? 0,
      }),
    );
  }

  async get(eventId: string): Promise<PlatformEvent> {
    return camel(await this.#transport.call(itemRequest('GET', EVENTS, eventId)));
  }

  /** Writes an `app.*` event of your own, once, however often the network repeats it. */
  async publish(
    type: string,
    data: JsonObject = {},
    { idempotencyKey }: { idempotencyKey?: string | undefined } = {},
  ): Promise<PlatformEvent> {
    return camel(await this.#transport.call(createRequest(EVENTS, { type, data }, idempotencyKey)));
  }
}

class Subscription extends StreamReader<PlatformEvent, EventMachine> implements EventStream {
  readonly #since: string | undefined;

  constructor(transport: Transport, params: SubscribeParams) {
    // Not every page follows events: what that takes is loaded when it is needed.
    const createRequest = async () => {
      const { EventMachine } = await load(() => import('./core/event-machine.js'), true);
      return new EventMachine(params, transport.settings);
    };
    super(transport, createRequest, params);
    // What cannot work is refused by the call, not by the loop.
    selection(params);
    this.#since = placeOf(params.since);
  }

  get cursor(): string | undefined {
    return this.machine?.cursor ?? this.#since;
  }

  protected where(): string {
    return `events, cursor ${this.cursor ?? '?'}`;
  }
}

/** Past events; may be awaited or iterated again, each time from the start. */
export class Replay implements AsyncIterable<PlatformEvent>, PromiseLike<PlatformEvent[]> {
  readonly #transport: Transport;
  readonly #body: JsonObject;

  constructor(transport: Transport, { since, until, ...wanted }: ReplayParams) {
    this.#transport = transport;
    const place = query({ since: placeOf(since), until: placeOf(until) });
    if (!place.since) throw new InvalidRequest('replay needs since: a time, a cursor or a Date');
    this.#body = { ...place, ...selection(wanted), limit: PAGE };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<PlatformEvent, void> {
    const { allPages } = await pages();
    yield* allPages(async (cursor) => {
      const body: JsonObject = { ...this.#body, cursor };
      const request = { method: 'POST', path: `${EVENTS}/replay`, body };
      return eventPage(await this.#transport.call(request));
    });
  }

  /** All as a list. Throws InvalidRequest (PAYLOAD_TOO_LARGE) where there are more than 100,000. */
  async all(): Promise<PlatformEvent[]> {
    const { listOf } = await pages();
    return listOf(this, REPLAY_LIMIT);
  }

  // biome-ignore lint/suspicious/noThenProperty: to be awaited is what it is for.
  then<A = PlatformEvent[], B = never>(
    kept?: ((events: PlatformEvent[]) => A | PromiseLike<A>) | null,
    broken?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.all().then(kept, broken);
  }
}

/** Not every page reads whole lists: what that takes is loaded when it is needed. */
const pages = () => load(() => import('./core/all-pages.js'), true);

function eventPage(raw: JsonObject): Page<PlatformEvent> {
  return pageOf<PlatformEvent>(raw, camel, raw.events);
}
