/** The shell around a machine: an async iterator that outlives its connections. */
import type { Action, Machine, Outcome } from './core/actions.js';
import { isOffline, onWake, pause, requireStreams, throwIfAborted } from './platform.js';
import type { Connection, Transport } from './transport.js';
import type { ConnectionState, MaybePromise, ResumableStream, StreamControls } from './types.js';

export const DONE = { done: true, value: undefined } as const;

/** What streams over HTTP and over a socket share: one iteration, one read at a time, a signal. */
export abstract class IterableStream<T> implements ResumableStream<T>, AsyncIterator<T, undefined> {
  protected readonly controls: StreamControls;
  #iterated = false;
  #reading = false;

  constructor(controls: StreamControls) {
    this.controls = controls;
    controls.signal?.addEventListener('abort', this.#aborted);
  }

  abstract readonly state: ConnectionState;

  /** Connect, so that the stream's place is known. Throws StreamError. */
  async open(): Promise<this> {
    await this.#exclusively(() => this.connect());
    return this;
  }

  [Symbol.asyncIterator](): this {
    if (this.#iterated) throw new TypeError('a stream can be iterated once');
    this.#iterated = true;
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return this.#exclusively(() => this.read());
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close();
    return DONE;
  }

  async close(): Promise<void> {
    this.controls.signal?.removeEventListener('abort', this.#aborted);
    this.disconnect();
  }

  toReadableStream(): ReadableStream<T> {
    requireStreams();
    const iterator = this[Symbol.asyncIterator]();
    return new ReadableStream<T>(
      {
        pull: async (controller) => {
          const { done, value } = await iterator.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: () => this.close(),
      },
      // Nothing is read before it is asked for.
      { highWaterMark: 0 },
    );
  }

  /** Wait until the stream's place is known. */
  protected abstract connect(): Promise<void>;
  /** Wait for the next item, or close the stream at its end. */
  protected abstract read(): Promise<IteratorResult<T, undefined>>;
  /** End the connection. Harmless if repeated. */
  protected abstract disconnect(): void;

  readonly #aborted = () => this.close();

  /** Run one call at a time. An error closes the stream. */
  async #exclusively<R>(work: () => Promise<R>): Promise<R> {
    if (this.#reading) throw new TypeError('the stream is being read already');
    this.#reading = true;
    try {
      throwIfAborted(this.controls.signal);
      return await work();
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      this.#reading = false;
    }
  }
}

export abstract class StreamReader<T, M extends Machine<T>> extends IterableStream<T> {
  protected readonly transport: Transport;
  /** There from the start, or from the first read if its code is loaded only then. */
  protected machine: M | undefined;
  readonly #make: () => MaybePromise<M>;
  readonly #stop = new AbortController();
  #connection: Connection | undefined;
  #state: ConnectionState | undefined;
  #seen = false;

  constructor(transport: Transport, make: () => MaybePromise<M>, controls: StreamControls) {
    super(controls);
    this.transport = transport;
    this.#make = make;
  }

  get state(): ConnectionState {
    return this.#state ?? 'connecting';
  }

  /** The place, for people. */
  protected abstract where(): string;

  protected async connect(): Promise<void> {
    await this.#run((machine) => machine.opened);
  }

  protected read(): Promise<IteratorResult<T, undefined>> {
    return this.#run(() => false);
  }

  protected disconnect(): void {
    this.#stop.abort();
    this.#cut();
    this.#to('closed');
  }

  async #run(isEnough: (machine: M) => boolean): Promise<IteratorResult<T, undefined>> {
    this.machine ??= await this.#make();
    const machine = this.machine;
    while (!this.#stopped() && !isEnough(machine)) {
      const action = machine.next();
      if (action.do === 'emit') return { done: false, value: action.item };
      if (action.do !== 'finish') {
        machine.give(await this.#perform(action));
        continue;
      }
      if (action.error) throw action.error;
      await this.#connection?.finish();
      await this.close();
    }
    return DONE;
  }

  /** Whether it was closed; throws the reason of the caller's signal. */
  #stopped(): boolean {
    throwIfAborted(this.controls.signal);
    return this.#stop.signal.aborted;
  }

  async #perform(action: Exclude<Action<T>, { do: 'emit' | 'finish' }>): Promise<Outcome> {
    const stop = this.#stop.signal;
    if (action.do === 'read') {
      return this.#connection ? this.#read(this.#connection, action.limit) : { was: 'ended' };
    }
    this.#cut();
    if (action.do === 'wait') {
      if (action.why) {
        this.#seen = true;
        const { seconds, why } = action;
        this.transport.settings.log(
          'info',
          `${this.where()}: ${why}; again in ${seconds.toFixed(2)} s`,
        );
        this.#to(isOffline() ? 'offline' : 'reconnecting');
      }
      await pause(action.seconds, stop, { least: action.least ?? 0, patient: true });
      return { was: 'waited' };
    }
    if (this.#state !== 'polling') this.#to(this.#seen ? 'reconnecting' : 'connecting');
    if (action.do === 'fetch') {
      const outcome = await this.transport.fetch(action.request, stop);
      if (this.machine?.polling && outcome.was === 'answered') this.#to('polling');
      return outcome;
    }
    const [outcome, connection] = await this.transport.open(action.request, stop);
    this.#connection = connection;
    if (connection) {
      this.#seen = true;
      this.#to('open');
    }
    return outcome;
  }

  /** Reads; a connection that died while nobody looked, or with the network, is given up. */
  async #read(connection: Connection, limit: number): Promise<Outcome> {
    const begun = Date.now();
    const forget = onWake((what) => {
      if (what === 'offline') connection.cut({ was: 'lost', reason: 'the browser is offline' });
      else if (Date.now() - begun > limit * 1000) connection.cut({ was: 'silent' });
    });
    try {
      return await connection.read(limit);
    } finally {
      forget();
    }
  }

  #cut(): void {
    this.#connection?.cut();
    this.#connection = undefined;
  }

  #to(state: ConnectionState): void {
    if (state === this.#state || this.#state === 'closed') return;
    this.#state = state;
    this.controls.onState?.(state);
  }
}
