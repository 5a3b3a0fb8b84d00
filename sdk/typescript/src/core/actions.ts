/**
 * What a machine wants done, and what became of it: the whole talk between logic and I/O.
 *
 * A shell takes `machine.next()`, does it, and reports with `machine.give(outcome)`; `emit` and
 * `finish` are results and need no report. Before anything but `read` and `emit` it closes an open
 * stream. Times are in seconds.
 */
import type { StreamError } from '../errors.js';
import type { Answer, Request } from './messages.js';

export type Action<T> =
  /** Send it and open its answer as a stream: opened, answered, lost or silent. */
  | { readonly do: 'open'; readonly request: Request }
  /** Read from the open stream: received, ended, lost, or silent after `limit`. */
  | { readonly do: 'read'; readonly limit: number }
  /** Send it and read its whole answer: answered, lost or silent. */
  | { readonly do: 'fetch'; readonly request: Request }
  /** Wait, then say waited; less, but not less than `least`, if the network has come back. */
  | {
      readonly do: 'wait';
      readonly seconds: number;
      readonly least?: number;
      readonly why?: string;
    }
  /** Hand it to the caller. */
  | { readonly do: 'emit'; readonly item: T }
  /** It is over: throw `error`, or end. */
  | { readonly do: 'finish'; readonly error?: StreamError | undefined };

export type Outcome =
  /** A 200 with an event stream. */
  | { readonly was: 'opened'; readonly headers: Headers }
  /** Any other answer, whole. */
  | { readonly was: 'answered'; readonly answer: Answer }
  /** Bytes of the open stream. */
  | { readonly was: 'received'; readonly data: Uint8Array }
  /** The open stream ended as HTTP ends a body. */
  | { readonly was: 'ended' }
  /** No connection, or it broke; `reason` is for people, `error` says more, if that is known. */
  | { readonly was: 'lost'; readonly reason: string; readonly error?: StreamError }
  /** Connected, but nothing came in time. */
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
  /** Report what became of it. */
  give(outcome: Outcome): void;
}
