/** The streams of a socket that callers iterate over: events of channels, chunks of sessions. */

import type { ChunkConsumer, Consumer, EventConsumer } from '../core/realtime/consumers.js';
import { throwIfAborted } from '../platform.js';
import { DONE, IterableStream } from '../stream-reader.js';
import type {
  AgentStream,
  Chunk,
  ConnectionState,
  PlatformEvent,
  RealtimeSubscription,
  StreamControls,
} from '../types.js';

import type { SocketRunner } from './socket-runner.js';

abstract class ConsumerReader<T> extends IterableStream<T> {
  protected readonly runner: SocketRunner;
  readonly #consumer: Consumer<T>;
  readonly #unwatch: () => void;
  #closed = false;

  constructor(runner: SocketRunner, consumer: Consumer<T>, controls: StreamControls) {
    super(controls);
    this.runner = runner;
    this.#consumer = consumer;
    this.#unwatch = runner.watch((state) => controls.onState?.(state));
    controls.onState?.(this.state);
  }

  get state(): ConnectionState {
    return this.#closed ? 'closed' : this.runner.state;
  }

  /** Wait until the server has confirmed the subscription: from then on nothing is missed. */
  protected async connect(): Promise<void> {
    this.runner.start(this.#consumer);
    await this.#until(() => this.#consumer.there);
    if (this.#consumer.error && !this.#consumer.waiting) throw this.#consumer.error;
  }

  protected async read(): Promise<IteratorResult<T, undefined>> {
    const consumer = this.#consumer;
    await this.#until(() => consumer.waiting > 0);
    if (!this.#closed && consumer.waiting > 0) {
      const value = consumer.take();
      this.runner.taken(consumer);
      return { done: false, value };
    }
    if (!this.#closed && consumer.error) throw consumer.error;
    await this.close();
    return DONE;
  }

  protected disconnect(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unwatch();
    this.runner.leave(this.#consumer);
    // A consumer that is over already would not wake a pending read.
    this.#consumer.wake();
    this.controls.onState?.('closed');
  }

  /** Wait for a condition. The socket's retries bound the wait: then the consumer is over. */
  async #until(reached: () => boolean): Promise<void> {
    while (!reached() && !this.#consumer.over && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#consumer.wake = resolve;
      });
    }
    throwIfAborted(this.controls.signal);
  }
}

/**
 * Events of channels, in order, each once, over any number of sockets. Ends only by an error: throws
 * PositionExpired if the requested events were trimmed, the error of a refusal, or ConnectionLost
 * once the retries are spent.
 */
export class SocketSubscription
  extends ConsumerReader<PlatformEvent>
  implements RealtimeSubscription
{
  readonly channels: readonly string[];
  readonly #events: EventConsumer;

  constructor(runner: SocketRunner, consumer: EventConsumer, controls: StreamControls) {
    super(runner, consumer, controls);
    this.#events = consumer;
    this.channels = consumer.channels;
  }

  get cursor(): string | undefined {
    return this.#events.cursor;
  }
}

/**
 * Chunks of a session, in order, each once, over any number of sockets. The stream of an execute ends
 * after the turn's `done`; the stream of a session includes later turns.
 */
export class SocketStream extends ConsumerReader<Chunk> implements AgentStream {
  readonly #chunks: ChunkConsumer;

  constructor(runner: SocketRunner, consumer: ChunkConsumer, controls: StreamControls) {
    super(runner, consumer, controls);
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
    if (sessionId) await this.runner.cancel(sessionId, { turn });
  }
}
