/** Sessions and turns on a socket. All consumers of a session share one subscription. */
import { ConnectionLost, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asCount, asText } from '../messages.js';
import { checkEpoch, positionOf } from '../sequence.js';
import type { ChunkConsumer } from './consumers.js';
import type { PendingRequest, PendingRequests } from './pending-requests.js';
import { Subscription } from './subscription.js';

/** Number of a session's newest turns whose start positions are remembered. */
const KNOWN_TURNS = 4;

/** The subscription to one session. */
class SessionSubscription extends Subscription {
  readonly sessionId: string;
  consumers: ChunkConsumer[] = [];
  #last = 0;
  #epoch: string | undefined;
  /** Turn → the position before its start, for the newest turns seen. */
  readonly #begun = new Map<number, number>([[1, 0]]);

  constructor(sessionId: string, requests: PendingRequests) {
    super([`session:${sessionId}`], requests);
    this.sessionId = sessionId;
  }

  /** Subscribe from the lowest position of all consumers; the others drop duplicates. */
  protected message(): JsonObject {
    const reading = this.consumers.filter((consumer) => !consumer.paused);
    const known = reading.flatMap(({ place }) => (place === undefined ? [] : [place]));
    return {
      type: 'subscribe',
      channels: this.channels,
      ...(known.length > 0 && { resume_from: Math.min(...known) }),
      ...(reading.length > 0 && reading.every((consumer) => consumer.compact) && { compact: true }),
    };
  }

  protected subscribed(answer: JsonObject): void {
    const { sessionId } = this;
    this.#epoch = checkEpoch(this.#epoch, asText(answer.epoch), { sessionId });
    for (const consumer of this.consumers) consumer.placed(asCount(answer.position) ?? 0);
  }

  /**
   * Add the consumer of a turn that was just started. With `followed` the server continues the
   * existing subscription, which may be behind or past the turn's start.
   */
  join(consumer: ChunkConsumer, turn: number, followed: boolean): void {
    const begin = this.#begun.get(turn);
    const newest = Math.max(...this.#begun.keys(), ...this.consumers.map((one) => one.turn ?? 0));
    if (begin === undefined && followed && (turn < newest || consumer.ownKey)) {
      // The subscription is past the turn's start, which only the log knows. Search for it from the
      // last known start before it.
      const before = [...this.#begun].filter(([known]) => known < turn);
      consumer.seekFrom = Math.max(0, ...before.map(([, place]) => place));
    }
    consumer.started(this.sessionId, turn, begin);
    this.consumers.push(consumer);
    const passed = begin !== undefined && begin < this.#last;
    if (consumer.seekFrom !== undefined || (followed && passed)) this.ask();
  }

  /** Take one chunk. */
  chunk(raw: JsonObject, size: number, now: number): void {
    const position = positionOf(raw);
    if (!position) {
      for (const consumer of this.consumers) consumer.aside(raw, size);
      return;
    }
    this.came();
    this.#note(raw, position);
    const whole = this.consumers.map((consumer) => consumer.offer(raw, position, size));
    this.consumers = this.consumers.filter((consumer) => !consumer.over);
    if (!this.asking && whole.includes(false)) {
      const { sessionId } = this;
      this.broken(new ConnectionLost(`chunks before ${position} are missing`, { sessionId }), now);
    }
  }

  #note(raw: JsonObject, position: number): void {
    this.#last = Math.max(this.#last, position);
    const turn = asCount(raw.turn);
    if (turn === undefined) return;
    if (raw.type === 'done') this.#begun.set(turn + 1, position);
    else if (raw.type === 'step' && !this.#begun.has(turn)) this.#begun.set(turn, position - 1);
    if (this.#begun.size > KNOWN_TURNS) this.#begun.delete(Math.min(...this.#begun.keys()));
  }
}

/** The subscriptions of all sessions, and the turns that are being started. */
export class SessionSubscriptions {
  readonly #requests: PendingRequests;
  readonly #subscriptions = new Map<string, SessionSubscription>();
  readonly #starting = new Map<ChunkConsumer, PendingRequest>();

  constructor(requests: PendingRequests) {
    this.#requests = requests;
  }

  /** Read a session from the consumer's position. */
  watch(consumer: ChunkConsumer, sessionId: string): void {
    const subscription = this.#subscription(sessionId);
    subscription.consumers.push(consumer);
    subscription.ask();
  }

  /** Start a turn once and read it. */
  execute(consumer: ChunkConsumer): void {
    const ask = this.#requests.send({
      message: () => consumer.executeMessage(),
      answered: (answer) => this.#started(consumer, answer),
      failed: (error) => this.#refused(consumer, error),
    });
    // A request that was refused before it was sent is over already.
    if (!consumer.over) this.#starting.set(consumer, ask);
  }

  /** Remove a consumer; its turn continues. */
  leave(consumer: ChunkConsumer): void {
    const ask = this.#starting.get(consumer);
    if (ask) this.#requests.cancel(ask);
    this.#starting.delete(consumer);
    for (const subscription of [...this.#subscriptions.values()]) {
      if (!subscription.consumers.includes(consumer)) continue;
      subscription.consumers = subscription.consumers.filter((one) => one !== consumer);
      this.#tidy(subscription);
    }
  }

  /** Resume a paused consumer whose buffer has room. */
  resume(consumer: ChunkConsumer): void {
    consumer.paused = false;
    this.#subscriptions.get(consumer.sessionId ?? '')?.ask();
  }

  /** Take one chunk. */
  chunk(sessionId: string, raw: JsonObject, size: number, now: number): void {
    const subscription = this.#subscriptions.get(sessionId);
    if (!subscription) return;
    subscription.chunk(raw, size, now);
    subscription.pauseIfFull();
    this.#tidy(subscription);
  }

  /** The subscriptions of these channels. */
  named(channels: readonly string[]): SessionSubscription[] {
    return [...this.#subscriptions.values()].filter(({ channels: [own = ''] }) =>
      channels.includes(own),
    );
  }

  /**
   * Restore everything on a new socket. A turn without any chunk yet is executed again with its
   * idempotency key, since its start is unknown. The rest resumes from its position.
   */
  socketOpened(): void {
    for (const subscription of [...this.#subscriptions.values()]) {
      const again = subscription.consumers.filter((consumer) => consumer.starting);
      subscription.consumers = subscription.consumers.filter((consumer) => !consumer.starting);
      for (const consumer of again) this.execute(consumer);
      if (subscription.consumers.length) subscription.ensure();
      else this.#forget(subscription);
    }
  }

  /** Fail all consumers: there will be no more sockets. */
  fail(error: StreamError): void {
    const reading = [...this.#subscriptions.values()].flatMap(
      (subscription) => subscription.consumers,
    );
    for (const consumer of [...reading, ...this.#starting.keys()]) consumer.end(error);
  }

  #subscription(sessionId: string): SessionSubscription {
    let subscription = this.#subscriptions.get(sessionId);
    if (!subscription) {
      subscription = new SessionSubscription(sessionId, this.#requests);
      this.#subscriptions.set(sessionId, subscription);
    }
    return subscription;
  }

  #started(consumer: ChunkConsumer, answer: JsonObject): void {
    this.#starting.delete(consumer);
    const sessionId = asText(answer.session_id);
    const turn = asCount(answer.turn);
    if (!sessionId || !turn) {
      consumer.end(new ConnectionLost('the server did not name the turn that it started'));
      return;
    }
    const followed = this.#subscriptions.has(sessionId);
    this.#subscription(sessionId).join(consumer, turn, followed);
  }

  #refused(consumer: ChunkConsumer, error: StreamError): void {
    this.#starting.delete(consumer);
    consumer.end(error);
    const subscription = this.#subscriptions.get(asText(consumer.body?.session_id) ?? '');
    if (subscription) this.#tidy(subscription);
  }

  /**
   * Unsubscribe a session without consumers. It stays while a turn of the session is being started,
   * because the server sends the turn over it.
   */
  #tidy(subscription: SessionSubscription): void {
    const starting = [...this.#starting.keys()];
    const due = starting.some((consumer) => consumer.body?.session_id === subscription.sessionId);
    if (subscription.consumers.length || due) return;
    this.#forget(subscription);
    subscription.unsubscribe();
  }

  #forget(subscription: SessionSubscription): void {
    subscription.withdraw();
    this.#subscriptions.delete(subscription.sessionId);
  }
}
