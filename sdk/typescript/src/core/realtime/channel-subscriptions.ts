/** Subscriptions to channels of events on a socket. */
import { InvalidRequest, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asText } from '../messages.js';
import type { EventConsumer } from './consumers.js';
import type { PendingRequests } from './pending-requests.js';
import { Subscription } from './subscription.js';

/** The subscription to a set of channels. */
class ChannelSubscription extends Subscription {
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

  /** End the subscription, or continue from the earliest event if its place was trimmed and it may. */
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

/** All subscriptions to channels. A channel has one subscription, as on the server. */
export class ChannelSubscriptions {
  readonly #requests: PendingRequests;
  readonly #subscriptions = new Map<string, ChannelSubscription>();

  constructor(requests: PendingRequests) {
    this.#requests = requests;
  }

  /** Subscribe. Throws InvalidRequest if a channel has a subscription already. */
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

  /** Remove a consumer. */
  leave(consumer: EventConsumer): void {
    const subscription = this.#of(consumer);
    if (!subscription) return;
    for (const channel of consumer.channels) this.#subscriptions.delete(channel);
    subscription.unsubscribe();
  }

  /** Resume a paused consumer whose buffer has room. */
  resume(consumer: EventConsumer): void {
    consumer.paused = false;
    this.#of(consumer)?.ask();
  }

  /** Take one event. */
  event(channel: string, raw: JsonObject, size: number): void {
    const subscription = this.#subscription(channel);
    if (!subscription || subscription.asking) return;
    subscription.came();
    subscription.consumer.offer(raw, size);
    subscription.pauseIfFull();
  }

  /** Move the cursor of quiet channels. */
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

  /** Subscribe on a new socket. */
  socketOpened(): void {
    for (const subscription of this.named(this.#subscriptions.keys())) subscription.ensure();
  }

  /** Fail all consumers: there will be no more sockets. */
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
