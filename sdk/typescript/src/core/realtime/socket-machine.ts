/**
 * The client's half of a socket without I/O: consumers, their positions, and the messages they need.
 *
 * It outlives sockets. On a new socket it restores subscriptions, turns and requests, each from its
 * own position. Times in seconds.
 */

import type { StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asObject, asText, errorFromChunk, isObject, parseJson, seconds } from '../messages.js';
import type { RetryRules } from '../retry.js';
import { ChannelSubscriptions } from './channel-subscriptions.js';
import { ChunkConsumer, type Consumer, EventConsumer } from './consumers.js';
import { PendingRequests } from './pending-requests.js';
import { SessionSubscriptions } from './session-subscriptions.js';

export class SocketMachine {
  readonly requests: PendingRequests;
  /** The error that ended everything. */
  error: StreamError | undefined;
  /** Called with the expiry of the credential, as the server writes it. */
  authenticated: (expiresAt: unknown) => void = () => {};
  /** Set when the server drains: seconds after which to reconnect. */
  draining: number | undefined;
  /** The last error message that concerned the socket itself. */
  lastError: StreamError | undefined;
  readonly #channels: ChannelSubscriptions;
  readonly #turns: SessionSubscriptions;

  constructor(rules: RetryRules) {
    this.requests = new PendingRequests(rules);
    this.#channels = new ChannelSubscriptions(this.requests);
    this.#turns = new SessionSubscriptions(this.requests);
  }

  // -- consumers --------------------------------------------------------------------------------

  /** Subscribe, watch a session or start a turn, by the kind of consumer. Throws StreamError. */
  start(consumer: Consumer<unknown>): void {
    if (this.error) consumer.end(this.error);
    else if (consumer instanceof EventConsumer) this.#channels.subscribe(consumer);
    else if (consumer instanceof ChunkConsumer) {
      if (consumer.body) this.#turns.execute(consumer);
      else this.#turns.watch(consumer, consumer.sessionId ?? '');
    }
  }

  /** Remove a consumer. Its turn, if any, continues. */
  leave(consumer: Consumer<unknown>): void {
    if (consumer instanceof EventConsumer) this.#channels.leave(consumer);
    else if (consumer instanceof ChunkConsumer) this.#turns.leave(consumer);
    consumer.end();
  }

  /** Note that a consumer has read an item; resume it if it was paused and has room. */
  taken(consumer: Consumer<unknown>): void {
    if (!consumer.paused || consumer.over || !consumer.drained || this.error) return;
    if (consumer instanceof EventConsumer) this.#channels.resume(consumer);
    else if (consumer instanceof ChunkConsumer) this.#turns.resume(consumer);
  }

  /** Send any other request. */
  request(message: JsonObject): Promise<JsonObject> {
    return new Promise((answered, failed) => {
      if (this.error) failed(this.error);
      else this.requests.send({ message: () => message, answered, failed });
    });
  }

  // -- the socket -------------------------------------------------------------------------------

  /** Restore everything on a new socket. */
  socketOpened(): void {
    this.draining = undefined;
    this.lastError = undefined;
    this.#turns.socketOpened();
    this.#channels.socketOpened();
    this.requests.socketOpened();
  }

  /** Note that the socket is lost. */
  socketClosed(): void {
    this.requests.socketClosed();
  }

  /** Fail everything: there will be no more sockets. */
  fail(error: StreamError): void {
    if (this.error) return;
    this.error = error;
    this.requests.fail(error);
    this.#turns.fail(error);
    this.#channels.fail(error);
  }

  /** Take one message. Returns whether it was an event or a chunk. */
  receive(text: string, now: number): boolean {
    const message = asObject(parseJson(text));
    const { channel, session_id: sessionId, event } = message;
    if (typeof channel === 'string' && isObject(event)) {
      this.#channels.event(channel, event, text.length);
      return true;
    }
    if (typeof sessionId === 'string' && ('position' in message || 'transient' in message)) {
      this.#turns.chunk(sessionId, message, text.length, now);
      return true;
    }
    if (!this.requests.answer(message, now)) this.#control(message, now);
    return false;
  }

  #control(message: JsonObject, now: number): void {
    const cursor = asText(message.cursor);
    if (message.type === 'cursor' && cursor) {
      this.#channels.cursor(texts(message.channels), cursor);
    } else if (message.type === 'authenticated') {
      this.authenticated(message.expires_at);
    } else if (message.type === 'draining') {
      this.draining = seconds(message.retry_after) ?? 1;
    } else if (message.type === 'error') {
      this.#told(errorFromChunk(message), now);
    }
  }

  /** Handle an error without a request: of channels, or of the socket itself. */
  #told(error: StreamError, now: number): void {
    const channels = texts(error.details.channels);
    const subscriptions = [...this.#channels.named(channels), ...this.#turns.named(channels)];
    for (const subscription of subscriptions) subscription.broken(error, now);
    if (!subscriptions.length) this.lastError = error;
  }
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
