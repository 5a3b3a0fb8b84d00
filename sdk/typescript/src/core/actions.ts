/**
 * Actions and outcomes: everything that logic and I/O say to each other.
 *
 * A shell performs `machine.next()` and reports with `machine.give(outcome)`. `emit` and `finish` are
 * results and need no report. The shell closes an open stream before any action but `read` and
 * `emit`. Times are in seconds.
 */
import type { StreamError } from '../errors.js';
import type { Answer, Request } from './messages.js';

export type Action<T> =
  /** Send the request and open its answer as a stream. Outcome: opened, answered, lost or silent. */
  | { readonly do: 'open'; readonly request: Request }
  /** Read from the open stream. Outcome: received, ended, lost, or silent after `limit`. */
  | { readonly do: 'read'; readonly limit: number }
  /** Send the request and read its whole answer. Outcome: answered, lost or silent. */
  | { readonly do: 'fetch'; readonly request: Request }
  /** Wait. The network's return ends the wait early, but not before `least`. Outcome: waited. */
  | {
      readonly do: 'wait';
      readonly seconds: number;
      readonly least?: number;
      readonly why?: string;
    }
  /** Give the item to the caller. */
  | { readonly do: 'emit'; readonly item: T }
  /** End the stream, or throw `error`. */
  | { readonly do: 'finish'; readonly error?: StreamError | undefined };

export type Outcome =
  /** A 200 with an event stream. */
  | { readonly was: 'opened'; readonly headers: Headers }
  /** Any other answer, complete. */
  | { readonly was: 'answered'; readonly answer: Answer }
  /** Bytes of the open stream. */
  | { readonly was: 'received'; readonly data: Uint8Array }
  /** The open stream ended as HTTP ends a body. */
  | { readonly was: 'ended' }
  /** There was no connection, or it broke. `reason` is for people; `error` has details if known. */
  | { readonly was: 'lost'; readonly reason: string; readonly error?: StreamError }
  /** There was a connection, but nothing came in time. */
  | { readonly was: 'silent' }
  /** The wait is over. */
  | { readonly was: 'waited' };

/** Logic that a shell runs. */
export interface Machine<T> {
  /** Whether the machine has data or waits for data on an open connection. */
  readonly opened: boolean;
  /** Whether the machine polls because nothing comes through as a stream. */
  readonly polling: boolean;
  /** Return what to do now. */
  next(): Action<T>;
  /** Report the outcome of the last action. */
  give(outcome: Outcome): void;
}
