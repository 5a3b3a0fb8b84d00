/** What callers iterate over on a socket: events of channels, chunks of sessions. */

import type { ChunkConsumer, Consumer, EventConsumer } from '../core/realtime/consumers.js';
import { throwIfAborted } from '../platform.js';
import { readableOf } from '../stream-reader.js';
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
  start(consumer: Consumer<unknown>): void;
  taken(consumer: Consumer<unknown>): void;
  leave(consumer: Consumer<unknown>): void;
  cancel(sessionId: string, params: { turn?: number | undefined }): Promise<void>;
}

const DONE = { done: true, value: undefined } as const;

abstract class ConsumerReader<T> implements ResumableStream<T>, AsyncIterator<T, undefined> {
  protected readonly host: Host;
  readonly #consumer: Consumer<T>;
  readonly #controls: StreamControls;
  readonly #unwatch: () => void;
  #taken = false;
  #busy = false;
  #closed = false;

  constructor(host: Host, consumer: Consumer<T>, controls: StreamControls) {
    this.host = host;
    this.#consumer = consumer;
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
      this.host.start(this.#consumer);
      await this.#until(() => this.#consumer.there);
      if (this.#consumer.error && !this.#consumer.waiting) throw this.#consumer.error;
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
      await this.#until(() => this.#consumer.waiting > 0);
      if (!this.#closed && this.#consumer.waiting > 0) {
        const value = this.#consumer.take();
        this.host.taken(this.#consumer);
        return { done: false, value };
      }
      if (!this.#closed && this.#consumer.error) throw this.#consumer.error;
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
    this.host.leave(this.#consumer);
    // Over already, it would not wake whoever waits.
    this.#consumer.wake();
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

  /** Bounded by the socket's own retries: when they are spent, the consumer is over. */
  async #until(reached: () => boolean): Promise<void> {
    while (!reached() && !this.#consumer.over && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#consumer.wake = resolve;
      });
    }
  }
}

/**
 * Events of channels, in order, each once, over as many sockets as it takes. Has no end of its own.
 * Throws StreamError: PositionExpired where what was asked for is no longer kept, the server's
 * refusal, or ConnectionLost once the retries are spent.
 */
export class SocketSubscription
  extends ConsumerReader<PlatformEvent>
  implements RealtimeSubscription
{
  readonly channels: readonly string[];
  readonly #events: EventConsumer;

  constructor(host: Host, consumer: EventConsumer, controls: StreamControls) {
    super(host, consumer, controls);
    this.#events = consumer;
    this.channels = consumer.channels;
  }

  get cursor(): string | undefined {
    return this.#events.cursor;
  }
}

/**
 * Chunks of a session, in order, each once, over as many sockets as it takes. Of an execute it ends
 * after the turn's `done`; of a session it stays for later turns.
 */
export class SocketStream extends ConsumerReader<Chunk> implements AgentStream {
  readonly #chunks: ChunkConsumer;

  constructor(host: Host, consumer: ChunkConsumer, controls: StreamControls) {
    super(host, consumer, controls);
    this.#chunks = consumer;
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
