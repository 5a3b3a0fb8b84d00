/** Subscriptions to channels of events on a socket. */
import { InvalidRequest, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asText } from '../messages.js';
import type { EventFeed } from './consumers.js';
import type { Asks } from './pending-requests.js';
import { type NewRetries, Topic } from './subscription.js';

/** The one subscription to its channels. */
export class EventTopic extends Topic {
  readonly feed: EventFeed;
  readonly feeds: readonly EventFeed[];

  constructor(feed: EventFeed, asks: Asks, newRetries: NewRetries) {
    super(feed.channels, asks, newRetries);
    this.feed = feed;
    this.feeds = [feed];
  }

  protected message(): JsonObject {
    return this.feed.message();
  }

  protected subscribed(answer: JsonObject): void {
    const cursor = asText(answer.cursor);
    if (cursor && this.feed.queue.cursor === undefined) this.feed.queue.reach(cursor);
    this.feed.confirmed();
  }

  /** Over, unless its place is gone and it may go on from the earliest that is kept. */
  override failed(error: StreamError): void {
    const earliest = asText(error.details.earliest);
    const skips = this.feed.earliest && error.code === 'POSITION_EXPIRED';
    if (skips && earliest && earliest !== this.feed.queue.cursor) {
      this.feed.gap(earliest);
      this.ask();
    } else {
      super.failed(error);
    }
  }
}

/** All of them; a channel belongs to one subscription, as on the server. */
export class Channels {
  readonly #asks: Asks;
  readonly #newRetries: NewRetries;
  readonly #topics = new Map<string, EventTopic>();

  constructor(asks: Asks, newRetries: NewRetries) {
    this.#asks = asks;
    this.#newRetries = newRetries;
  }

  /** Throws InvalidRequest where a channel is subscribed to already. */
  subscribe(feed: EventFeed): void {
    const taken = feed.channels.filter((channel) => this.#topic(channel));
    if (taken.length) {
      throw new InvalidRequest(
        `${taken}: subscribed already on this socket, where a channel has one subscription; close ` +
          'that one first, or open another realtime()',
      );
    }
    const topic = new EventTopic(feed, this.#asks, this.#newRetries);
    for (const channel of feed.channels) this.#topics.set(channel, topic);
    topic.ask();
  }

  /** Its reader is gone. */
  leave(feed: EventFeed): void {
    const topic = this.#of(feed);
    if (!topic) return;
    for (const channel of feed.channels) this.#topics.delete(channel);
    topic.unsubscribe();
  }

  /** Its reader has made room. */
  resume(feed: EventFeed): void {
    feed.parked = false;
    this.#of(feed)?.ask();
  }

  /** An event has come. */
  event(channel: string, raw: JsonObject, size: number): void {
    const topic = this.#topic(channel);
    if (!topic || topic.asking) return;
    topic.came();
    topic.feed.offer(raw, size);
    topic.park();
  }

  /** Quiet channels have got as far as this. */
  cursor(channels: readonly string[], cursor: string): void {
    for (const topic of this.named(channels)) {
      if (topic.asking) continue;
      topic.came();
      topic.feed.reach(cursor);
    }
  }

  /** The subscriptions of these channels, each once. */
  named(channels: Iterable<string>): Set<EventTopic> {
    const found = new Set<EventTopic>();
    for (const name of channels) {
      const topic = this.#topic(name);
      if (topic) found.add(topic);
    }
    return found;
  }

  /** A new socket. */
  linkUp(): void {
    for (const topic of this.named(this.#topics.keys())) topic.ensure();
  }

  /** There will be no more sockets. */
  fail(error: StreamError): void {
    for (const topic of this.named(this.#topics.keys())) topic.feed.end(error);
  }

  #of(feed: EventFeed): EventTopic | undefined {
    const topic = this.#topics.get(feed.channels[0] ?? '');
    return topic?.feed === feed ? topic : undefined;
  }

  #topic(channel: string): EventTopic | undefined {
    const topic = this.#topics.get(channel);
    return topic?.feed.over ? undefined : topic;
  }
}
