/**
 * A subscription to platform events as a machine without I/O.
 *
 * The subscription starts from a cursor. If the caller names no place, the machine asks for the
 * newest cursor first, so a connection that breaks before its first byte loses nothing. A heartbeat
 * is a block with an id only; it moves the cursor. `reconnector.ts` has the rules of connections.
 */

import { ConnectionLost, type StreamError } from '../errors.js';
import type {
  EventSelection,
  JsonObject,
  Place,
  PlatformEvent,
  SubscribeParams,
} from '../types.js';
import type { Action, Outcome } from './actions.js';
import { FrameBuffer } from './chunk-buffer.js';
import { placeOf, selectionQuery } from './event-filter.js';
import { EventQueue } from './event-queue.js';
import {
  type Answer,
  asObject,
  asText,
  EVENTS,
  errorFromAnswer,
  errorFromChunk,
  isObject,
  query,
  type Request,
} from './messages.js';
import { PACE, Reconnector, type ReconnectRules } from './reconnector.js';
import { POLL_LIMIT, POLL_WAIT, SSE } from './session-request.js';
import type { Frame } from './sse.js';

/** A time after every event. Its cursor is the end of the log. */
const AFTER_ALL = '9999-12-31T23:59:59Z';

/** The requests of a subscription. Without `since` it starts now. */
class EventRequests {
  readonly since: string | undefined;
  readonly earliest: boolean;
  readonly #query: Record<string, string>;

  constructor(wanted: EventSelection, since: Place | undefined, onExpired = 'raise') {
    this.#query = selectionQuery(wanted);
    this.since = placeOf(since);
    this.earliest = onExpired === 'earliest';
  }

  /** Open or reopen the stream behind `cursor`. */
  open(cursor: string | undefined): Request {
    const place = query({
      since: cursor === undefined ? this.since : undefined,
      on_expired: this.earliest ? 'earliest' : undefined,
    });
    return {
      method: 'GET',
      path: `${EVENTS}/subscribe`,
      query: { ...this.#query, ...place },
      headers: cursor === undefined ? SSE : { ...SSE, 'Last-Event-ID': cursor },
    };
  }

  /** Ask for the cursor at the end of the log. */
  now(): Request {
    return { method: 'GET', path: EVENTS, query: { since: AFTER_ALL, limit: '1' } };
  }

  /** Ask for the events behind `cursor`, or wait for the first one. */
  poll(cursor: string | undefined): Request {
    const since = cursor === undefined ? this.since : undefined;
    return {
      method: 'GET',
      path: EVENTS,
      query: { ...this.#query, ...query({ cursor, since, limit: POLL_LIMIT, wait: POLL_WAIT }) },
      patience: POLL_WAIT,
    };
  }
}

/** Events and the cursors of heartbeats. */
class EventBuffer extends FrameBuffer {
  readonly queue = new EventQueue();
  readonly ready = this.queue.ready;

  override feed(data: Uint8Array): void {
    super.feed(data);
    if (this.decoder.lastEventId) this.queue.reach(this.decoder.lastEventId);
  }

  /** Take one event; drop it if it came before. */
  take(raw: JsonObject, cursor: string): void {
    this.fresh += 1;
    this.queue.add(raw, cursor);
  }

  /** Note that the server starts later than asked: earlier events were trimmed. */
  gap(earliest: unknown): void {
    this.fresh += 1;
    this.queue.gap(earliest);
  }

  protected frame(frame: Frame, raw: JsonObject | undefined): void {
    if (frame.ownId) {
      if (!raw) throw new ConnectionLost('garbled event');
      this.take({ type: frame.event, ...raw, cursor: frame.id }, frame.id);
    } else if (frame.event === 'error') {
      // Not part of the log: an error of this connection.
      throw errorFromChunk(asObject(raw));
    } else if (frame.event === 'gap') {
      this.gap(raw?.earliest);
    }
  }
}

/** Events of a subscription. Ends by an error only. */
export class EventMachine extends Reconnector<PlatformEvent> {
  readonly #requests: EventRequests;
  readonly #buffer: EventBuffer;
  /** Whether the start is known. A time is inclusive and is sent again until an event has come. */
  #placed: boolean;
  #askedAt = 0;

  constructor(params: SubscribeParams, rules: ReconnectRules) {
    const requests = new EventRequests(params, params.since, params.onExpired);
    const buffer = new EventBuffer(rules.maxEvent);
    super(rules, buffer);
    this.#requests = requests;
    this.#buffer = buffer;
    this.#placed = requests.since !== undefined;
  }

  /** The cursor of the last event handed out, or of a heartbeat behind it. */
  get cursor(): string | undefined {
    return this.#buffer.queue.handed ?? this.#requests.since;
  }

  /** Whether events are there or awaited. While a poll waits, its place is known. */
  override get opened(): boolean {
    return super.opened || this.polling;
  }

  protected deliver(): Action<PlatformEvent> {
    return { do: 'emit', item: this.#buffer.queue.pop() };
  }

  protected override connect(): Action<PlatformEvent> {
    if (this.#placed) {
      this.#askedAt = this.rules.clock();
      return super.connect();
    }
    this.handle = (outcome) => this.#onPlace(outcome);
    return { do: 'fetch', request: this.#requests.now() };
  }

  #onPlace(outcome: Outcome): Action<PlatformEvent> {
    const found = outcome.was === 'answered' && outcome.answer.status === 200;
    const cursor = found && asText(asObject(outcome.answer.body).next_cursor);
    if (!cursor) return this.notThere(outcome);
    this.#buffer.queue.reach(cursor);
    this.#placed = true;
    return this.connect();
  }

  protected streamRequest(): Request {
    return this.#requests.open(this.#buffer.queue.cursor);
  }

  protected pollRequest(): Request {
    return this.#requests.poll(this.#buffer.queue.cursor);
  }

  protected meet(): void {
    // The cursor contains the epoch: there is nothing to compare.
  }

  protected ended(): Action<PlatformEvent> {
    throw this.lost('the stream ended; a subscription does not');
  }

  protected polled(answer: Answer): Action<PlatformEvent> | undefined {
    const queue = this.#buffer.queue;
    if (answer.status === 410 && this.#requests.earliest) {
      const earliest = errorFromAnswer(answer).details.earliest;
      if (typeof earliest !== 'string' || earliest === queue.cursor) return undefined;
      this.#buffer.gap(earliest);
      return { do: 'wait', seconds: 0 };
    }
    const { events, next_cursor: cursor, has_more: more } = asObject(answer.body);
    if (answer.status !== 200 || !Array.isArray(events) || typeof cursor !== 'string') {
      return undefined;
    }
    for (const raw of events.filter(isObject)) this.#buffer.take(raw, asText(raw.cursor) ?? cursor);
    queue.reach(cursor);
    const pace = PACE - (this.rules.clock() - this.#askedAt);
    return { do: 'wait', seconds: more === true ? 0 : Math.max(0, pace) };
  }

  protected locate(error: StreamError): void {
    if (this.cursor !== undefined) error.details.cursor ??= this.cursor;
  }
}
