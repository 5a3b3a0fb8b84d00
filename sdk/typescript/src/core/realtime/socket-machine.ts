/**
 * The client's half of a socket without I/O: who reads what, from where, and what to say for it.
 *
 * It outlives sockets: on a new one it says what subscriptions, turns and questions need, each from
 * its own place. Times in seconds.
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
  /** It is over for all. */
  error: StreamError | undefined;
  /** Told when the credential that was said last ends, as the server writes it. */
  authenticated: (expiresAt: unknown) => void = () => {};
  /** The server goes away and asks to come back after so many seconds. */
  draining: number | undefined;
  /** The error it told before it closed. */
  lastError: StreamError | undefined;
  readonly #channels: ChannelSubscriptions;
  readonly #turns: SessionSubscriptions;

  constructor(rules: RetryRules) {
    this.requests = new PendingRequests(rules);
    this.#channels = new ChannelSubscriptions(this.requests);
    this.#turns = new SessionSubscriptions(this.requests);
  }

  // -- what consumers want ----------------------------------------------------------------------

  /** Subscribes, watches a session or starts a turn: what the consumer is for. Throws StreamError. */
  start(consumer: Consumer<unknown>): void {
    if (this.error) consumer.end(this.error);
    else if (consumer instanceof EventConsumer) this.#channels.subscribe(consumer);
    else if (consumer instanceof ChunkConsumer) {
      if (consumer.body) this.#turns.execute(consumer);
      else this.#turns.watch(consumer, consumer.sessionId ?? '');
    }
  }

  /** Its consumer is gone; the turn, if it is one, goes on. */
  leave(consumer: Consumer<unknown>): void {
    if (consumer instanceof EventConsumer) this.#channels.leave(consumer);
    else if (consumer instanceof ChunkConsumer) this.#turns.leave(consumer);
    consumer.end();
  }

  /** Its consumer has taken something. */
  taken(consumer: Consumer<unknown>): void {
    if (!consumer.paused || consumer.over || !consumer.drained || this.error) return;
    if (consumer instanceof EventConsumer) this.#channels.resume(consumer);
    else if (consumer instanceof ChunkConsumer) this.#turns.resume(consumer);
  }

  /** Asks something else. */
  request(message: JsonObject): Promise<JsonObject> {
    return new Promise((answered, failed) => {
      if (this.error) failed(this.error);
      else this.requests.send({ message: () => message, answered, failed });
    });
  }

  // -- what the socket does ---------------------------------------------------------------------

  /** A socket is there. */
  socketOpened(): void {
    this.draining = undefined;
    this.lastError = undefined;
    this.#turns.socketOpened();
    this.#channels.socketOpened();
    this.requests.socketOpened();
  }

  /** It is gone. */
  socketClosed(): void {
    this.requests.socketClosed();
  }

  /** There will be no socket any more. */
  fail(error: StreamError): void {
    if (this.error) return;
    this.error = error;
    this.requests.fail(error);
    this.#turns.fail(error);
    this.#channels.fail(error);
  }

  /** A message has come; true if it brought something. */
  receive(text: string, now: number): boolean {
    const message = asObject(parseJson(text));
    const { channel, session_id: sessionId, event } = message;
    if (typeof channel === 'string' && isObject(event)) {
      this.#channels.event(channel, event, text.length);
      return true;
    }
    if (typeof sessionId === 'string' && 'position' in message) {
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

  /** An error that nobody asked for: about channels, or about the socket itself. */
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
