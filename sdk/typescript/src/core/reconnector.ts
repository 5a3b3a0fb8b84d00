/**
 * How a stream lives on over its connections: connect, read, recover, poll. No I/O.
 *
 * The rules, of which `protocol/resume.yaml` holds the cases:
 *
 * - The retries start anew with everything that comes through, and with a connection that has
 *   outlived the silence limit (heartbeats count: an agent may think for long).
 * - A broken, ended-too-early or silent connection, and an answer that is to be repeated, is tried
 *   again after the back-off, at most `maxRetries` times in a row.
 * - Two attempts in a row that connected but brought nothing before the limit: something on the way
 *   collects the stream, so it is polled from then on.
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

/** Silent attempts in a row after which a stream is polled. */
const MAX_SILENT = 2;
/** Seconds between polls that find something: 240 a minute, well below the usual 600 per key. */
export const PACE = 0.25;
/** No heartbeat may stretch the silence limit beyond this, in seconds. */
const MAX_SILENCE = 600;

/** What the machines have to know. Times in seconds. */
export interface ReconnectRules extends RetryRules {
  /** A stream without a byte for so long is dead, until the server has announced its heartbeat. */
  readonly silence: number;
  /** In characters. */
  readonly maxEvent: number;
  readonly clock: () => number;
  /** Whether a credential that ended can be replaced. */
  readonly renewable: boolean;
  /** Whether a body can be read as it comes, as far as is known; else everything is polled. */
  readonly streams?: { possible: boolean };
}

/** Ask `next()` what to do, tell `give()` what became of it; see actions.ts. */
export abstract class Reconnector<T> implements Machine<T> {
  /** Whether nothing comes through as a stream. */
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
  /** The stream is known to exist: a failure from here on is the connection's. */
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

  /** Whether something is there or waited for. */
  get opened(): boolean {
    return this.#buffer.ready.length > 0 || this.#action?.do === 'read';
  }

  /** What to do now; the same until `give` is called, except for what waits to be handed on. */
  next(): Action<T> {
    this.#action ??= this.connect();
    return this.#buffer.ready.length ? this.deliver() : this.#action;
  }

  /** What became of it. */
  give(outcome: Outcome): void {
    try {
      this.#action = this.handle(outcome);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      // A credential that ended in mid-stream is replaced when the stream is opened again.
      const renewed = this.rules.renewable && error instanceof AuthenticationError;
      this.#action = error.retryable || renewed ? this.#again(error) : { do: 'finish', error };
    }
  }

  // -- what a subclass says ---------------------------------------------------------------------

  /** Takes the oldest of what is ready. */
  protected abstract deliver(): Action<T>;
  /** Opens or reopens the stream from where it stands. */
  protected abstract streamRequest(): Request;
  /** Asks for what comes next, in place of the stream. */
  protected abstract pollRequest(): Request;
  /** Looks at the headers of a stream that is there. Throws StreamError. */
  protected abstract meet(headers: Headers): void;
  /** What follows when the server ends the stream. Throws StreamError. */
  protected abstract ended(): Action<T>;
  /** What follows from a poll's answer; undefined if it is not the one asked for. */
  protected abstract polled(answer: Answer): Action<T> | undefined;
  /** Names in `error` where the stream stands. */
  protected abstract locate(error: StreamError): void;

  /** It is over, whatever else had been planned. */
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

  /** What follows from an outcome that is not what was asked for. */
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
