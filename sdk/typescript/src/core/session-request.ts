/** The requests that a stream of a session may need. No I/O. */

import type { JsonObject } from '../types.js';
import { asCount, asText, keyHeader, query, type Request, SESSIONS, segment } from './messages.js';

/** Seconds that the server may hold a poll: below the 60 after which proxies cut. */
export const POLL_WAIT = 25;
export const POLL_LIMIT = 500;

/** A proxy that compresses also buffers, so streams ask for no compression (browsers ignore this). */
export const SSE: Readonly<Record<string, string>> = {
  Accept: 'text/event-stream',
  'Accept-Encoding': 'identity',
};

/** An execute whose answer names the turn at once, without waiting for its end. */
export function detachedExecute(body: JsonObject, idempotencyKey: string | undefined): Request {
  const headers = { ...keyHeader(idempotencyKey), Prefer: 'respond-async' };
  return { method: 'POST', path: executePath(body), body: { ...body, stream: false }, headers };
}

/** The path of an execute. A session knows its agent. */
export function executePath(body: JsonObject): string {
  const sessionId = asText(body.session_id);
  return sessionId && body.agent_id === undefined
    ? `${SESSIONS}/${segment(sessionId)}/execute`
    : `${SESSIONS}/execute`;
}

/** What is needed to resume a stream. */
export interface ResumePoint {
  idempotencyKey?: string | undefined;
  sessionId?: string | undefined;
  turn?: number | undefined;
  epoch?: string | undefined;
  /** The position of the last chunk handed to the caller; 0: none yet. */
  position: number;
}

interface SessionRequestsOptions {
  /** The body of an execute, without `resume_from`; undefined for a join. */
  body?: JsonObject | undefined;
  resumePoint: ResumePoint;
  resumeFrom?: number | undefined;
  /** The join is for this turn alone. */
  turn?: number | undefined;
  compact?: boolean | undefined;
  follow?: boolean | undefined;
  raiseOnError?: boolean | undefined;
  /** Whether the stream ran before and is resumed. */
  recalled?: boolean | undefined;
}

export class SessionRequests {
  readonly options: SessionRequestsOptions;
  readonly resumePoint: ResumePoint;
  readonly body: JsonObject | undefined;

  constructor(options: SessionRequestsOptions) {
    this.options = options;
    this.resumePoint = options.resumePoint;
    this.body = options.body;
  }

  /** The position before the first chunk; undefined if only the server knows it. */
  get start(): number | undefined {
    const startsSession = this.body && this.body.session_id === undefined;
    return this.options.resumeFrom ?? (startsSession ? 0 : undefined);
  }

  /** The turn whose `done` ends the stream; undefined: the server says when it ends. */
  get target(): number | undefined {
    return this.body ? this.resumePoint.turn : this.options.turn;
  }

  /** Whether the server has yet to name the session or the turn. */
  get unnamed(): boolean {
    return !this.resumePoint.sessionId || (this.body !== undefined && !this.resumePoint.turn);
  }

  /** Whether this chunk is the `done` of the turn that was asked for. */
  endsWith(raw: JsonObject): boolean {
    const target = this.target;
    if (raw.type !== 'done' || target === undefined) return false;
    return (asCount(raw.turn) ?? target) >= target;
  }

  /** Open or reopen the stream behind `last`. */
  open(last: number | undefined): Request {
    if (this.unnamed) return this.#execute(last);
    // Nothing of the turn was received: resume from the turn's start, not from the session's.
    const place = last === 0 && this.body ? undefined : last;
    return {
      method: 'GET',
      path: `${this.#session()}/stream`,
      query: query({
        resume_from: place,
        turn: this.target,
        compact: this.options.compact || undefined,
        follow: this.options.follow || undefined,
      }),
      headers: SSE,
    };
  }

  /** Ask for the turn's name, for an execute whose streamed answer never arrives. */
  detached(): Request {
    return detachedExecute(this.body ?? {}, this.resumePoint.idempotencyKey);
  }

  /** Ask for the session's state. */
  snapshot(): Request {
    return { method: 'GET', path: this.#session() };
  }

  /** Ask for the chunks after `after`; with `waiting`, wait for the first one. */
  poll(after: number, waiting: boolean): Request {
    const patience = waiting ? POLL_WAIT : 0;
    return {
      method: 'GET',
      path: `${this.#session()}/events`,
      query: query({
        after,
        limit: POLL_LIMIT,
        wait: patience,
        compact: this.options.compact || undefined,
      }),
      patience,
    };
  }

  #execute(last: number | undefined): Request {
    const place = last ? { resume_from: last } : {};
    const form = this.options.compact && { compact: true };
    const body = { ...this.body, stream: true, ...place, ...form };
    const headers = { ...keyHeader(this.resumePoint.idempotencyKey), ...SSE };
    return { method: 'POST', path: executePath(body), body, headers };
  }

  #session(): string {
    return `${SESSIONS}/${segment(this.resumePoint.sessionId ?? '')}`;
  }
}
