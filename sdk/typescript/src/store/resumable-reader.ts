import { StreamError } from '../errors.js';
import { onWake } from '../platform.js';
import type { ConnectionState, MaybePromise, ResumableStream, StreamControls } from '../types.js';

/** The owner of a `ResumableReader`. */
interface ResumableReaderPort<T> {
  /** Opens the stream at the last one's position. */
  open(controls: StreamControls): MaybePromise<ResumableStream<T>>;
  take(item: T): void;
  /** Something about the reading changed: its connection, its error, or its end. */
  changed(): void;
}

/** Reads one stream at a time to its end, and can go on after it was closed or failed. */
export class ResumableReader<T> {
  connection: ConnectionState = 'closed';
  /** Why the reading ended before the stream; null while it goes on, and after `close`. */
  error: Error | null = null;
  readonly #port: ResumableReaderPort<T>;
  #abort: AbortController | null = null;
  #reading: Promise<void> = Promise.resolve();

  constructor(port: ResumableReaderPort<T>) {
    this.#port = port;
  }

  get isReading(): boolean {
    return this.#abort !== null;
  }

  /** Reads until the stream ends, fails or is closed; while it reads, the same promise. Never rejects. */
  read(): Promise<void> {
    if (this.#abort === null) {
      this.#abort = new AbortController();
      this.error = null;
      this.connection = 'connecting';
      this.#reading = this.#read(this.#abort);
    }
    return this.#reading;
  }

  /** Ends the connection; the turn goes on. */
  close(): void {
    const abort = this.#abort;
    this.#abort = null;
    this.connection = 'closed';
    abort?.abort();
  }

  /** Calls back when the network or the page comes back while nothing is read. */
  whenBack(again: () => void): () => void {
    return onWake((what) => {
      const { error } = this;
      const mayWork = error === null || (error instanceof StreamError && error.retryable);
      if (what !== 'offline' && !this.isReading && mayWork) again();
    });
  }

  async #read(abort: AbortController): Promise<void> {
    const { signal } = abort;
    const onState = (state: ConnectionState): void => {
      if (this.#abort === abort && this.connection !== state) {
        this.connection = state;
        this.#port.changed();
      }
    };
    try {
      const stream = await this.#port.open({ signal, onState });
      for await (const item of stream) {
        this.#port.take(item);
      }
    } catch (error) {
      if (!signal.aborted) this.error = error instanceof Error ? error : new Error(String(error));
    }
    if (this.#abort === abort) {
      this.#abort = null;
      this.connection = 'closed';
      this.#port.changed();
    }
  }
}
