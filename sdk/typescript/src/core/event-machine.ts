/**
 * A subscription to platform events as a machine without I/O.
 *
 * It starts from a cursor, asked for if the caller named no place, so that even a first connection
 * that breaks before its first byte loses nothing. A heartbeat is a block with an id only, which
 * moves the cursor. The rules of connections are link.ts's.
 */

import { errorFromAnswer, errorFromChunk } from '../answers.js';
import { ConnectionLost, type StreamError } from '../errors.js';
import { EventRequests } from '../event-plan.js';
import { PACE } from '../polling.js';
import type { JsonObject, PlatformEvent, SubscribeParams } from '../types.js';
import type { Action, Outcome } from './actions.js';
import { FrameBuffer } from './chunk-buffer.js';
import { EventQueue } from './event-queue.js';
import { type Answer, asObject, asText, isObject, type Request } from './messages.js';
import { Reconnector, type ReconnectRules } from './reconnector.js';
import type { Frame } from './sse.js';

/** Events, and the cursors of heartbeats. */
class EventBuffer extends FrameBuffer {
  readonly queue = new EventQueue();
  readonly ready = this.queue.ready;

  override feed(data: Uint8Array): void {
    super.feed(data);
    if (this.decoder.lastEventId) this.queue.reach(this.decoder.lastEventId);
  }

  /** Takes one event, unless it has been taken before. */
  take(raw: JsonObject, cursor: string): void {
    this.fresh += 1;
    this.queue.add(raw, cursor);
  }

  /** The server starts later than it was asked to. */
  gap(earliest: unknown): void {
    this.fresh += 1;
    this.queue.gap(earliest);
  }

  protected frame(frame: Frame, raw: JsonObject | undefined): void {
    if (frame.ownId) {
      if (!raw) throw new ConnectionLost('garbled event');
      this.take({ type: frame.event, ...raw, cursor: frame.id }, frame.id);
    } else if (frame.event === 'error') {
      // No part of the log: the server's word about this connection.
      throw errorFromChunk(asObject(raw));
    } else if (frame.event === 'gap') {
      this.gap(raw?.earliest);
    }
  }
}

/** Ends by an error only. */
export class EventMachine extends Reconnector<PlatformEvent> {
  readonly #requests: EventRequests;
  readonly #buffer: EventBuffer;
  /** A time starts inclusive, and is asked for again until something has come. */
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

  /** The place of the last event handed out, or of a heartbeat behind it. */
  get cursor(): string | undefined {
    return this.#buffer.queue.handed ?? this.#requests.since;
  }

  /** Whether events are there or waited for; a poll may take its time, but its place is known. */
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
    // The cursor carries the epoch: nothing to compare.
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
