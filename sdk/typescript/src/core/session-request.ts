/** What a stream was asked for, and every request that may have to be made for it. */

import type { JsonObject } from '../types.js';
import { asCount, asText, keyHeader, query, type Request, SESSIONS, segment } from './messages.js';

/** How long the server may hold a poll, in seconds: below the 60 at which proxies cut. */
export const POLL_WAIT = 25;
export const POLL_LIMIT = 500;

/** A proxy that compresses also collects, so streams ask for neither (browsers decide themselves). */
export const SSE: Readonly<Record<string, string>> = {
  Accept: 'text/event-stream',
  'Accept-Encoding': 'identity',
};

/** An execute whose answer names the turn at once, without waiting for its end. */
export function detachedExecute(body: JsonObject, idempotencyKey: string | undefined): Request {
  const headers = { ...keyHeader(idempotencyKey), Prefer: 'respond-async' };
  return { method: 'POST', path: executePath(body), body: { ...body, stream: false }, headers };
}

/** Where an execute goes; a session knows its agent, if the caller does not. */
export function executePath(body: JsonObject): string {
  const sessionId = asText(body.session_id);
  return sessionId && body.agent_id === undefined
    ? `${SESSIONS}/${segment(sessionId)}/execute`
    : `${SESSIONS}/execute`;
}

/** What is needed to find a stream again after it broke off. */
export interface ResumePoint {
  idempotencyKey?: string | undefined;
  sessionId?: string | undefined;
  turn?: number | undefined;
  epoch?: string | undefined;
  /** That of the last chunk handed to the caller; 0: none yet. */
  position: number;
}

export interface SessionRequestsOptions {
  /** Of an execute, without `resume_from`; a join has none. */
  body?: JsonObject | undefined;
  resumePoint: ResumePoint;
  resumeFrom?: number | undefined;
  /** The join is for this turn alone. */
  turn?: number | undefined;
  compact?: boolean | undefined;
  follow?: boolean | undefined;
  raiseOnError?: boolean | undefined;
  /** The stream was running before and is only taken up again. */
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

  /** The position before the first chunk that is due; undefined where only the server knows. */
  get start(): number | undefined {
    const startsSession = this.body && this.body.session_id === undefined;
    return this.options.resumeFrom ?? (startsSession ? 0 : undefined);
  }

  /** The turn whose `done` ends the stream; undefined: the server says when it ends. */
  get target(): number | undefined {
    return this.body ? this.resumePoint.turn : this.options.turn;
  }

  /** Whether the server has still to name the session, or the turn that it starts. */
  get unnamed(): boolean {
    return !this.resumePoint.sessionId || (this.body !== undefined && !this.resumePoint.turn);
  }

  /** Whether this chunk is the `done` of the turn that was asked for. */
  endsWith(raw: JsonObject): boolean {
    const target = this.target;
    if (raw.type !== 'done' || target === undefined) return false;
    return (asCount(raw.turn) ?? target) >= target;
  }

  /** Opens or reopens the stream behind `last`. */
  open(last: number | undefined): Request {
    if (this.unnamed) return this.#execute(last);
    // Nothing received yet of a known turn: its own start is the place, not the session's.
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

  /** Names the turn of an execute whose streamed answer never arrives. */
  detached(): Request {
    return detachedExecute(this.body ?? {}, this.resumePoint.idempotencyKey);
  }

  /** The session as it is now. */
  snapshot(): Request {
    return { method: 'GET', path: this.#session() };
  }

  /** The chunks after `after`; with `waiting`, or the first that comes. */
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
