/** What both kinds of subscriptions on a socket share: one question at a time, retries, parking. */
import { StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import type { Retries } from '../retry.js';
import type { Consumer } from './consumers.js';
import type { PendingRequest, PendingRequests } from './pending-requests.js';

/** One subscription of the server's, and who reads it. */
export abstract class Subscription {
  readonly channels: readonly string[];
  protected readonly requests: PendingRequests;
  /** Of the subscription itself, which the server may end or leave incomplete. */
  readonly #retries: Retries;
  #ask: PendingRequest | undefined;
  #stopped = false;

  constructor(channels: readonly string[], requests: PendingRequests) {
    this.channels = channels;
    this.requests = requests;
    this.#retries = requests.newRetries();
  }

  /**
   * Whether the server has not answered yet. What an older subscription still sends until then must
   * neither make a gap nor come twice.
   */
  get asking(): boolean {
    return this.#ask !== undefined;
  }

  /** Who reads it. */
  abstract readonly consumers: readonly Consumer<unknown>[];
  /** Subscribes, from where the readers are. */
  protected abstract message(): JsonObject;
  /** The server follows it. Throws StreamError if it is not what it was. */
  protected abstract subscribed(answer: JsonObject): void;

  /** (Re-)subscribes, now or when it is due. */
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

  /** On a new socket: subscribed, if anybody has room. */
  ensure(): void {
    if (!this.#ask && !this.#allPaused()) this.ask();
  }

  /** With nobody left who has room, the server need not send. */
  pauseIfFull(): void {
    if (!this.#ask && !this.#stopped && this.#allPaused()) this.unsubscribe();
  }

  /** The answer does not matter any more. */
  withdraw(): void {
    if (this.#ask) this.requests.cancel(this.#ask);
    this.#ask = undefined;
  }

  /** The server need not send any more. */
  unsubscribe(): void {
    this.withdraw();
    this.#stopped = true;
    this.requests.notify({ type: 'unsubscribe', channels: this.channels });
  }

  /** Something came through. */
  came(): void {
    this.#retries.progress();
  }

  /** The subscription has ended, or is incomplete: asked for again while that may help. */
  broken(error: StreamError, now: number): void {
    const wait = error.retryable ? this.#retries.after(error) : undefined;
    if (wait === undefined) this.failed(error);
    else this.ask(now + wait);
  }

  /** It is over, for all its readers. */
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
