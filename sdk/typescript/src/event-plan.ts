/** Every request of a subscription. No I/O. */

import { EVENTS_PATH, placeOf, selectionQuery } from './core/event-filter.js';
import { query, type Request } from './core/messages.js';
import { POLL_LIMIT, POLL_WAIT, SSE } from './core/session-request.js';
import type { EventSelection, Place } from './types.js';

/** After everything there is: the place found there is the end of the log. */
const AFTER_ALL = '9999-12-31T23:59:59Z';

/** A subscription: which events, from where; without `since`: from now. */
export class EventRequests {
  readonly since: string | undefined;
  readonly earliest: boolean;
  readonly #query: Record<string, string>;

  constructor(wanted: EventSelection, since: Place | undefined, onExpired = 'raise') {
    this.#query = selectionQuery(wanted);
    this.since = placeOf(since);
    this.earliest = onExpired === 'earliest';
  }

  /** Opens or reopens the stream behind `cursor`. */
  open(cursor: string | undefined): Request {
    const place = query({
      since: cursor === undefined ? this.since : undefined,
      on_expired: this.earliest ? 'earliest' : undefined,
    });
    return {
      method: 'GET',
      path: `${EVENTS_PATH}/subscribe`,
      query: { ...this.#query, ...place },
      headers: cursor === undefined ? SSE : { ...SSE, 'Last-Event-ID': cursor },
    };
  }

  /** Asks for the end of the log, so that a first connection that breaks loses nothing. */
  now(): Request {
    return { method: 'GET', path: EVENTS_PATH, query: { since: AFTER_ALL, limit: '1' } };
  }

  /** The events behind `cursor`, or the first that comes. */
  poll(cursor: string | undefined): Request {
    const since = cursor === undefined ? this.since : undefined;
    return {
      method: 'GET',
      path: EVENTS_PATH,
      query: { ...this.#query, ...query({ cursor, since, limit: POLL_LIMIT, wait: POLL_WAIT }) },
      patience: POLL_WAIT,
    };
  }
}
