/**
 * The client's half of a socket without I/O: who reads what, from where, and what to say for it.
 *
 * It outlives sockets: on a new one it says what subscriptions, turns and questions need, each from
 * its own place. Times in seconds.
 */
import { errorFromChunk } from '../../answers.js';
import type { StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asObject, asText, isObject, parseJson, seconds } from '../messages.js';
import { Channels } from './channel-subscriptions.js';
import { ChunkFeed, EventFeed, type Feed } from './consumers.js';
import { Asks } from './pending-requests.js';
import { Turns } from './session-subscriptions.js';
import type { NewRetries } from './subscription.js';

export class RealtimeState {
  readonly asks = new Asks();
  /** It is over for all. */
  error: StreamError | undefined;
  /** Told when the credential that was said last ends, as the server writes it. */
  authenticated: (expiresAt: unknown) => void = () => {};
  /** The server goes away and asks to come back after so many seconds. */
  draining: number | undefined;
  /** The error it told before it closed. */
  lastWord: StreamError | undefined;
  readonly #newRetries: NewRetries;
  readonly #channels: Channels;
  readonly #turns: Turns;

  constructor(newRetries: NewRetries) {
    this.#newRetries = newRetries;
    this.#channels = new Channels(this.asks, newRetries);
    this.#turns = new Turns(this.asks, newRetries);
  }

  // -- what consumers want ----------------------------------------------------------------------

  /** Subscribes, watches a session or starts a turn: what the feed is for. Throws StreamError. */
  start(feed: Feed<unknown>): void {
    if (this.error) feed.end(this.error);
    else if (feed instanceof EventFeed) this.#channels.subscribe(feed);
    else if (feed instanceof ChunkFeed) {
      if (feed.body) this.#turns.execute(feed);
      else this.#turns.watch(feed, feed.sessionId ?? '');
    }
  }

  /** Its consumer is gone; the turn, if it is one, goes on. */
  leave(feed: Feed<unknown>): void {
    if (feed instanceof EventFeed) this.#channels.leave(feed);
    else if (feed instanceof ChunkFeed) this.#turns.leave(feed);
    feed.end();
  }

  /** Its consumer has taken something. */
  taken(feed: Feed<unknown>): void {
    if (!feed.parked || feed.over || !feed.drained || this.error) return;
    if (feed instanceof EventFeed) this.#channels.resume(feed);
    else if (feed instanceof ChunkFeed) this.#turns.resume(feed);
  }

  /** Asks something else. */
  request(message: JsonObject): Promise<JsonObject> {
    return new Promise((answered, failed) => {
      const retries = this.#newRetries();
      if (this.error) failed(this.error);
      else this.asks.ask({ message: () => message, answered, failed, retries });
    });
  }

  // -- what the socket does ---------------------------------------------------------------------

  /** A socket is there. */
  linkUp(): void {
    this.draining = undefined;
    this.lastWord = undefined;
    this.#turns.linkUp();
    this.#channels.linkUp();
    this.asks.linkUp();
  }

  /** It is gone. */
  linkDown(): void {
    this.asks.linkDown();
  }

  /** There will be no socket any more. */
  fail(error: StreamError): void {
    if (this.error) return;
    this.error = error;
    this.asks.fail(error);
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
    if (!this.asks.answer(message, now)) this.#control(message, now);
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
    const topics = [...this.#channels.named(channels), ...this.#turns.named(channels)];
    for (const topic of topics) topic.broken(error, now);
    if (!topics.length) this.lastWord = error;
  }
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
