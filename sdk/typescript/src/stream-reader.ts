/** The shell around a machine: an async iterator that outlives its connections. */
import type { Action, Outcome } from './core/actions.js';
import type { Reconnector } from './core/reconnector.js';
import { InvalidRequest } from './errors.js';
import { isOffline, onWake, pause, throwIfAborted } from './platform.js';
import type { Connection, Transport } from './transport.js';
import type { ConnectionState, MaybePromise, ResumableStream, StreamControls } from './types.js';

type Machine<T> = Pick<Reconnector<T>, 'opened' | 'polling' | 'next' | 'give'>;

const DONE = { done: true, value: undefined } as const;

export abstract class StreamReader<T, M extends Machine<T>>
  implements ResumableStream<T>, AsyncIterator<T, undefined>
{
  protected readonly transport: Transport;
  /** There from the start, or from the first read if its code is loaded only then. */
  protected machine: M | undefined;
  readonly #make: () => MaybePromise<M>;
  readonly #controls: StreamControls;
  readonly #stop = new AbortController();
  #connection: Connection | undefined;
  #state: ConnectionState | undefined;
  #seen = false;
  #taken = false;
  #busy = false;

  constructor(transport: Transport, make: () => MaybePromise<M>, controls: StreamControls) {
    this.transport = transport;
    this.#make = make;
    this.#controls = controls;
    controls.signal?.addEventListener('abort', this.#aborted);
  }

  get state(): ConnectionState {
    return this.#state ?? 'connecting';
  }

  /** Connects, so that the place is known. Throws StreamError. */
  async open(): Promise<this> {
    await this.#run(true);
    return this;
  }

  [Symbol.asyncIterator](): this {
    if (this.#taken) throw new TypeError('a stream can be iterated once');
    this.#taken = true;
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return this.#run(false);
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    await this.close();
    return DONE;
  }

  async close(): Promise<void> {
    this.#controls.signal?.removeEventListener('abort', this.#aborted);
    this.#stop.abort();
    this.#disconnect();
    this.#to('closed');
  }

  toReadableStream(): ReadableStream<T> {
    return readableOf(this);
  }

  /** The place, for people. */
  protected abstract where(): string;

  readonly #aborted = () => this.close();

  async #run(onlyOpen: boolean): Promise<IteratorResult<T, undefined>> {
    if (this.#busy) throw new TypeError('the stream is being read already');
    this.#busy = true;
    try {
      this.machine ??= await this.#make();
      const machine = this.machine;
      while (!this.#stopped()) {
        if (onlyOpen && machine.opened) break;
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
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      this.#busy = false;
    }
  }

  /** Whether it was closed; throws the reason of the caller's signal. */
  #stopped(): boolean {
    throwIfAborted(this.#controls.signal);
    return this.#stop.signal.aborted;
  }

  async #perform(action: Exclude<Action<T>, { do: 'emit' | 'finish' }>): Promise<Outcome> {
    const stop = this.#stop.signal;
    if (action.do === 'read') {
      return this.#connection ? this.#read(this.#connection, action.limit) : { was: 'ended' };
    }
    this.#disconnect();
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

  #disconnect(): void {
    this.#connection?.cut();
    this.#connection = undefined;
  }

  #to(state: ConnectionState): void {
    if (state === this.#state || this.#state === 'closed') return;
    this.#state = state;
    this.#controls.onState?.(state);
  }
}

/** A stream of the platform that takes over the iteration; nothing is read before it is asked for. */
export function readableOf<T>(stream: ResumableStream<T>): ReadableStream<T> {
  if (typeof ReadableStream !== 'function') {
    throw new InvalidRequest('there is no ReadableStream here: iterate over the stream');
  }
  const iterator = stream[Symbol.asyncIterator]();
  return new ReadableStream<T>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await stream.close();
      },
    },
    { highWaterMark: 0 },
  );
}
