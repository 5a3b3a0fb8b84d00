/**
 * Keep a stream alive over many connections: connect, read, recover, poll. No I/O.
 *
 * The rules (`protocol/resume.yaml` has their cases):
 *
 * - The retries start anew with every item, and with a connection that outlives the silence limit
 *   (heartbeats count: an agent may think for long).
 * - A connection that breaks, ends too early or is silent is retried after the back-off, and so is a
 *   retryable answer: at most `maxRetries` times in a row.
 * - After two connections in a row that brought nothing before the limit the stream is polled: a
 *   proxy on the way buffers it.
 */

import { AuthenticationError, ConnectionLost, RateLimited, StreamError } from '../errors.js';
import type { Action, Machine, Outcome } from './actions.js';
import type { FrameBuffer } from './chunk-buffer.js';
import {
  type Answer,
  errorFromAnswer,
  isRepeated,
  type Request,
  seconds,
  unexpected,
} from './messages.js';
import { Retries, type RetryRules } from './retry.js';

/** Silent connections in a row after which a stream is polled. */
const MAX_SILENT = 2;
/** Seconds between polls that find items: 240 a minute, below the default limit of 600 per key. */
export const PACE = 0.25;
/** The longest silence limit that a heartbeat may cause, in seconds. */
const MAX_SILENCE = 600;

/** Time-outs and retries of a stream. Times in seconds. */
export interface ReconnectRules extends RetryRules {
  /** A stream that is silent for this long is dead. The server's heartbeat replaces the value. */
  readonly silence: number;
  /** The largest event, in characters. */
  readonly maxEvent: number;
  readonly clock: () => number;
  /** Whether an expired credential can be replaced. */
  readonly renewable: boolean;
  /** Whether the platform can read a body as a stream; if not, everything is polled. */
  readonly streams?: { possible: boolean };
}

/** The life of a stream; see `actions.ts` for `next` and `give`. */
export abstract class Reconnector<T> implements Machine<T> {
  /** Whether the stream is polled. */
  polling = false;
  protected readonly rules: ReconnectRules;
  protected handle: (outcome: Outcome) => Action<T>;
  readonly #buffer: FrameBuffer;
  readonly #retries: Retries;
  #action: Action<T> | undefined;
  #limit: number;
  #silent = 0;
  #openedAt = 0;
  #outlived = false;
  /** Whether the stream is known to exist: from here on failures are the connection's. */
  #begun: boolean;

  constructor(rules: ReconnectRules, buffer: FrameBuffer, begun = false) {
    this.rules = rules;
    this.polling = rules.streams?.possible === false;
    this.#buffer = buffer;
    this.#retries = new Retries(rules);
    this.#limit = rules.silence;
    this.#begun = begun;
    this.handle = (outcome) => this.#onOpen(outcome);
  }

  /** Whether items are there or awaited. */
  get opened(): boolean {
    return this.#buffer.ready.length > 0 || this.#action?.do === 'read';
  }

  /** Return what to do now: the same until `give` is called, except for items that are ready. */
  next(): Action<T> {
    this.#action ??= this.connect();
    return this.#buffer.ready.length ? this.deliver() : this.#action;
  }

  /** Report the outcome of the last action. */
  give(outcome: Outcome): void {
    try {
      this.#action = this.handle(outcome);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      // An expired credential is replaced when the stream is opened again.
      const renewed = this.rules.renewable && error instanceof AuthenticationError;
      this.#action = error.retryable || renewed ? this.#again(error) : { do: 'finish', error };
    }
  }

  // -- what a subclass defines ------------------------------------------------------------------

  /** Hand out the oldest item that is ready. */
  protected abstract deliver(): Action<T>;
  /** The request that opens the stream from its current place. */
  protected abstract streamRequest(): Request;
  /** The request that polls for the next items. */
  protected abstract pollRequest(): Request;
  /** Read the headers of an opened stream. Throws StreamError. */
  protected abstract meet(headers: Headers): void;
  /** The action after the server ended the stream. Throws StreamError. */
  protected abstract ended(): Action<T>;
  /** The action after a poll's answer; undefined if the answer is not the expected one. */
  protected abstract polled(answer: Answer): Action<T> | undefined;
  /** Write the stream's place into `error`. */
  protected abstract locate(error: StreamError): void;

  /** End the stream, whatever was planned. */
  protected finish(error?: StreamError): Action<T> {
    this.#action = { do: 'finish', error };
    return this.#action;
  }

  // -- connecting -------------------------------------------------------------------------------

  protected connect(): Action<T> {
    if (this.polling) {
      this.handle = (outcome) => this.#onPoll(outcome);
      return { do: 'fetch', request: this.pollRequest() };
    }
    this.#buffer.connected();
    this.#outlived = false;
    this.handle = (outcome) => this.#onOpen(outcome);
    return { do: 'open', request: this.streamRequest() };
  }

  #onOpen(outcome: Outcome): Action<T> {
    if (outcome.was !== 'opened') return this.notThere(outcome);
    this.meet(outcome.headers);
    this.#begun = true;
    this.#openedAt = this.rules.clock();
    const heartbeat = seconds(outcome.headers.get('x-heartbeat-seconds'));
    this.#limit = heartbeat ? Math.min(2 * heartbeat, MAX_SILENCE) : this.rules.silence;
    this.handle = (next) => this.#onRead(next);
    return { do: 'read', limit: this.#limit };
  }

  // -- reading ----------------------------------------------------------------------------------

  #onRead(outcome: Outcome): Action<T> {
    if (outcome.was === 'ended') return this.ended();
    if (outcome.was !== 'received') return this.notThere(outcome);
    if (this.rules.clock() - this.#openedAt >= this.#limit) {
      this.#outlived = true;
      this.#retries.progress();
    }
    this.#progressing(() => this.#buffer.feed(outcome.data));
    return this.#buffer.complete ? { do: 'finish' } : { do: 'read', limit: this.#limit };
  }

  #onPoll(outcome: Outcome): Action<T> {
    if (outcome.was !== 'answered') return this.notThere(outcome);
    const action = this.#progressing(() => this.polled(outcome.answer));
    if (!action) return this.notThere(outcome);
    this.#begun = true;
    this.handle = () => this.connect();
    return action;
  }

  #progressing<R>(take: () => R): R {
    const before = this.#buffer.fresh;
    try {
      return take();
    } finally {
      if (this.#buffer.fresh > before) this.#retries.progress();
    }
  }

  // -- when it goes wrong -----------------------------------------------------------------------

  /** The action after an unexpected outcome. */
  protected notThere(outcome: Outcome): Action<T> {
    if (outcome.was === 'answered') return this.refused(outcome.answer);
    if (outcome.was === 'lost') {
      const error = outcome.error ?? new ConnectionLost(outcome.reason);
      this.locate(error);
      throw error;
    }
    return this.#silence();
  }

  protected refused(answer: Answer): Action<T> {
    const success = answer.status >= 200 && answer.status < 300;
    const error = success ? unexpected(answer) : errorFromAnswer(answer);
    this.locate(error);
    if (success || isRepeated(answer.status) || (answer.status === 500 && this.#begun)) {
      return this.#again(error);
    }
    return this.finish(error);
  }

  #silence(): Action<T> {
    if (!this.polling) {
      const useful = this.#buffer.fresh > 0 || this.#outlived;
      this.#silent = useful ? 0 : this.#silent + 1;
      if (this.#silent >= MAX_SILENT || this.rules.streams?.possible === false) {
        this.polling = true;
        return this.connect();
      }
    }
    throw this.lost(`nothing came for ${this.#limit} s`);
  }

  #again(error: StreamError): Action<T> {
    const floor = this.#buffer.retry;
    const wait = this.#retries.after(error, floor);
    if (wait === undefined) return this.#giveUp(error);
    this.handle = () => this.connect();
    const least = Math.max(floor, error.retryAfter ?? 0);
    return { do: 'wait', seconds: wait, least, why: error.message };
  }

  #giveUp(error: StreamError): Action<T> {
    if (error instanceof ConnectionLost || error instanceof RateLimited || !this.#begun) {
      return this.finish(error);
    }
    const lost = this.lost(error.message, error);
    lost.retryAfter = error.retryAfter;
    lost.requestId = error.requestId;
    return this.finish(lost);
  }

  protected lost(reason: string, cause?: unknown): ConnectionLost {
    const lost = new ConnectionLost(reason, { cause });
    this.locate(lost);
    return lost;
  }
}
