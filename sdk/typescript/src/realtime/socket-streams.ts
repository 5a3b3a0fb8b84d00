/** What callers iterate over on a socket: events of channels, chunks of sessions. */

import type { ChunkFeed, EventFeed, Feed } from '../core/realtime/consumers.js';
import { throwIfAborted } from '../platform.js';
import { readableOf } from '../readable.js';
import type {
  AgentStream,
  Chunk,
  ConnectionState,
  PlatformEvent,
  RealtimeSubscription,
  ResumableStream,
  StreamControls,
} from '../types.js';

/** The socket that streams live on. */
export interface Host {
  readonly state: ConnectionState;
  /** Tells of each change of `state`, until the returned function is called. */
  watch(listener: (state: ConnectionState) => void): () => void;
  start(feed: Feed<unknown>): void;
  taken(feed: Feed<unknown>): void;
  leave(feed: Feed<unknown>): void;
  cancel(sessionId: string, params: { turn?: number | undefined }): Promise<void>;
}

const DONE = { done: true, value: undefined } as const;

abstract class FeedReader<T> implements ResumableStream<T>, AsyncIterator<T, undefined> {
  protected readonly host: Host;
  readonly #feed: Feed<T>;
  readonly #controls: StreamControls;
  readonly #unwatch: () => void;
  #taken = false;
  #busy = false;
  #closed = false;

  constructor(host: Host, feed: Feed<T>, controls: StreamControls) {
    this.host = host;
    this.#feed = feed;
    this.#controls = controls;
    this.#unwatch = host.watch((state) => controls.onState?.(state));
    controls.signal?.addEventListener('abort', this.#aborted);
    controls.onState?.(this.state);
  }

  get state(): ConnectionState {
    return this.#closed ? 'closed' : this.host.state;
  }

  /** Waits until the server has confirmed it, so that nothing from here on is missed. */
  async open(): Promise<this> {
    await this.#guard(async () => {
      this.host.start(this.#feed);
      await this.#until(() => this.#feed.there);
      if (this.#feed.error && !this.#feed.waiting) throw this.#feed.error;
    });
    return this;
  }

  [Symbol.asyncIterator](): this {
    if (this.#taken) throw new TypeError('a stream can be iterated once');
    this.#taken = true;
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return this.#guard(async () => {
      await this.#until(() => this.#feed.waiting > 0);
      if (!this.#closed && this.#feed.waiting > 0) {
        const value = this.#feed.take();
        this.host.taken(this.#feed);
        return { done: false, value };
      }
      if (!this.#closed && this.#feed.error) throw this.#feed.error;
      await this.close();
      return DONE;
    });
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close();
    return DONE;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    this.#controls.signal?.removeEventListener('abort', this.#aborted);
    this.host.leave(this.#feed);
    // Over already, it would not wake whoever waits.
    this.#feed.wake();
    this.#controls.onState?.('closed');
  }

  toReadableStream(): ReadableStream<T> {
    return readableOf(this);
  }

  readonly #aborted = () => this.close();

  async #guard<R>(work: () => Promise<R>): Promise<R> {
    if (this.#busy) throw new TypeError('the stream is being read already');
    this.#busy = true;
    try {
      throwIfAborted(this.#controls.signal);
      const result = await work();
      throwIfAborted(this.#controls.signal);
      return result;
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  /** Bounded by the socket's own retries: when they are spent, the feed is over. */
  async #until(reached: () => boolean): Promise<void> {
    while (!reached() && !this.#feed.over && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#feed.wake = resolve;
      });
    }
  }
}

/**
 * Events of channels, in order, each once, over as many sockets as it takes. Has no end of its own.
 * Throws StreamError: PositionExpired where what was asked for is no longer kept, the server's
 * refusal, or ConnectionLost once the retries are spent.
 */
export class SocketSubscription extends FeedReader<PlatformEvent> implements RealtimeSubscription {
  readonly channels: readonly string[];
  readonly #events: EventFeed;

  constructor(host: Host, feed: EventFeed, controls: StreamControls) {
    super(host, feed, controls);
    this.#events = feed;
    this.channels = feed.channels;
  }

  get cursor(): string | undefined {
    return this.#events.cursor;
  }
}

/**
 * Chunks of a session, in order, each once, over as many sockets as it takes. Of an execute it ends
 * after the turn's `done`; of a session it stays for later turns.
 */
export class SocketStream extends FeedReader<Chunk> implements AgentStream {
  readonly #chunks: ChunkFeed;

  constructor(host: Host, feed: ChunkFeed, controls: StreamControls) {
    super(host, feed, controls);
    this.#chunks = feed;
  }

  get sessionId(): string | undefined {
    return this.#chunks.sessionId;
  }

  get turn(): number | undefined {
    return this.#chunks.turn;
  }

  get position(): number {
    return this.#chunks.position;
  }

  async cancel(): Promise<void> {
    const { sessionId, turn } = this.#chunks;
    if (sessionId) await this.host.cancel(sessionId, { turn });
  }
}
