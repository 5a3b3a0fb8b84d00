/** What all subscriptions on a socket share: one request at a time, retries, pausing. */
import { StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import type { Retries } from '../retry.js';
import type { Consumer } from './consumers.js';
import type { PendingRequest, PendingRequests } from './pending-requests.js';

/** One subscription at the server, and its consumers. */
export abstract class Subscription {
  readonly channels: readonly string[];
  protected readonly requests: PendingRequests;
  /** Retries of a subscription that the server ended or left incomplete. */
  readonly #retries: Retries;
  #ask: PendingRequest | undefined;
  #stopped = false;

  constructor(channels: readonly string[], requests: PendingRequests) {
    this.channels = channels;
    this.requests = requests;
    this.#retries = requests.newRetries();
  }

  /**
   * Whether the server's confirmation is pending. Until then items of an older subscription are
   * ignored: they must neither make a gap nor come twice.
   */
  get asking(): boolean {
    return this.#ask !== undefined;
  }

  /** The consumers of this subscription. */
  abstract readonly consumers: readonly Consumer<unknown>[];
  /** The message that subscribes from the consumers' positions. */
  protected abstract message(): JsonObject;
  /** Take the server's confirmation. Throws StreamError if the log has changed. */
  protected abstract subscribed(answer: JsonObject): void;

  /** Subscribe (again), now or at `due`. */
  ask(due?: number): void {
    this.withdraw();
    this.#stopped = false;
    this.#ask = this.requests.send({
      message: () => this.message(),
      answered: (answer) => this.#answered(answer),
      failed: (error) => this.failed(error),
      due,
    });
  }

  /** Subscribe on a new socket, if any consumer has room. */
  ensure(): void {
    if (!this.#ask && !this.#allPaused()) this.ask();
  }

  /** Unsubscribe if all consumers are paused. */
  pauseIfFull(): void {
    if (!this.#ask && !this.#stopped && this.#allPaused()) this.unsubscribe();
  }

  /** Ignore the pending confirmation. */
  withdraw(): void {
    if (this.#ask) this.requests.cancel(this.#ask);
    this.#ask = undefined;
  }

  /** Tell the server to stop sending. */
  unsubscribe(): void {
    this.withdraw();
    this.#stopped = true;
    this.requests.notify({ type: 'unsubscribe', channels: this.channels });
  }

  /** Note that an item came through. */
  came(): void {
    this.#retries.progress();
  }

  /** Subscribe again after an error, while retries are left. */
  broken(error: StreamError, now: number): void {
    const wait = error.retryable ? this.#retries.after(error) : undefined;
    if (wait === undefined) this.failed(error);
    else this.ask(now + wait);
  }

  /** End the subscription for all its consumers. */
  failed(error: StreamError): void {
    this.withdraw();
    for (const consumer of this.consumers) consumer.end(error);
  }

  #answered(answer: JsonObject): void {
    this.#ask = undefined;
    try {
      this.subscribed(answer);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      this.failed(error);
    }
  }

  #allPaused(): boolean {
    return this.consumers.length > 0 && this.consumers.every((consumer) => consumer.paused);
  }
}
