/** Subscriptions to channels of events on a socket. */
import { InvalidRequest, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asText } from '../messages.js';
import type { EventConsumer } from './consumers.js';
import type { PendingRequests } from './pending-requests.js';
import { Subscription } from './subscription.js';

/** The one subscription to its channels. */
export class ChannelSubscription extends Subscription {
  readonly consumer: EventConsumer;
  readonly consumers: readonly EventConsumer[];

  constructor(consumer: EventConsumer, requests: PendingRequests) {
    super(consumer.channels, requests);
    this.consumer = consumer;
    this.consumers = [consumer];
  }

  protected message(): JsonObject {
    return this.consumer.message();
  }

  protected subscribed(answer: JsonObject): void {
    const cursor = asText(answer.cursor);
    if (cursor && this.consumer.queue.cursor === undefined) this.consumer.queue.reach(cursor);
    this.consumer.confirmed();
  }

  /** Over, unless its place is gone and it may go on from the earliest that is kept. */
  override failed(error: StreamError): void {
    const earliest = asText(error.details.earliest);
    const skips = this.consumer.earliest && error.code === 'POSITION_EXPIRED';
    if (skips && earliest && earliest !== this.consumer.queue.cursor) {
      this.consumer.gap(earliest);
      this.ask();
    } else {
      super.failed(error);
    }
  }
}

/** All of them; a channel belongs to one subscription, as on the server. */
export class ChannelSubscriptions {
  readonly #requests: PendingRequests;
  readonly #subscriptions = new Map<string, ChannelSubscription>();

  constructor(requests: PendingRequests) {
    this.#requests = requests;
  }

  /** Throws InvalidRequest where a channel is subscribed to already. */
  subscribe(consumer: EventConsumer): void {
    const taken = consumer.channels.filter((channel) => this.#subscription(channel));
    if (taken.length) {
      throw new InvalidRequest(
        `${taken}: subscribed already on this socket, where a channel has one subscription; close ` +
          'that one first, or open another realtime()',
      );
    }
    const subscription = new ChannelSubscription(consumer, this.#requests);
    for (const channel of consumer.channels) this.#subscriptions.set(channel, subscription);
    subscription.ask();
  }

  /** Its reader is gone. */
  leave(consumer: EventConsumer): void {
    const subscription = this.#of(consumer);
    if (!subscription) return;
    for (const channel of consumer.channels) this.#subscriptions.delete(channel);
    subscription.unsubscribe();
  }

  /** Its reader has made room. */
  resume(consumer: EventConsumer): void {
    consumer.paused = false;
    this.#of(consumer)?.ask();
  }

  /** An event has come. */
  event(channel: string, raw: JsonObject, size: number): void {
    const subscription = this.#subscription(channel);
    if (!subscription || subscription.asking) return;
    subscription.came();
    subscription.consumer.offer(raw, size);
    subscription.pauseIfFull();
  }

  /** Quiet channels have got as far as this. */
  cursor(channels: readonly string[], cursor: string): void {
    for (const subscription of this.named(channels)) {
      if (subscription.asking) continue;
      subscription.came();
      subscription.consumer.reach(cursor);
    }
  }

  /** The subscriptions of these channels, each once. */
  named(channels: Iterable<string>): Set<ChannelSubscription> {
    const found = new Set<ChannelSubscription>();
    for (const name of channels) {
      const subscription = this.#subscription(name);
      if (subscription) found.add(subscription);
    }
    return found;
  }

  /** A new socket. */
  socketOpened(): void {
    for (const subscription of this.named(this.#subscriptions.keys())) subscription.ensure();
  }

  /** There will be no more sockets. */
  fail(error: StreamError): void {
    for (const subscription of this.named(this.#subscriptions.keys()))
      subscription.consumer.end(error);
  }

  #of(consumer: EventConsumer): ChannelSubscription | undefined {
    const subscription = this.#subscriptions.get(consumer.channels[0] ?? '');
    return subscription?.consumer === consumer ? subscription : undefined;
  }

  #subscription(channel: string): ChannelSubscription | undefined {
    const subscription = this.#subscriptions.get(channel);
    return subscription?.consumer.over ? undefined : subscription;
  }
}
