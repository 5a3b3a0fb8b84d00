/** Platform events: what is asked for, and every request about them. No I/O. */
import { InvalidRequest } from './errors.js';
import { POLL_LIMIT, POLL_WAIT, SSE } from './plan.js';
import type { EventSelection, JsonObject, Place } from './types.js';
import { query, type Request } from './wire.js';

export const EVENTS_PATH = '/v1/events';
/** After everything there is: the place found there is the end of the log. */
const AFTER_ALL = '9999-12-31T23:59:59Z';

/** As the wire has it. */
export function placeOf(place: Place | undefined): string | undefined {
  return place instanceof Date ? place.toISOString() : place;
}

/** One name or several, as several. */
export function listed(names: string | readonly string[]): readonly string[] {
  return typeof names === 'string' ? [names] : names;
}

/** A selection as fields of a JSON object. Throws InvalidRequest for one that nothing can match. */
export function selection({ events, channels, filters }: EventSelection): JsonObject {
  let patterns = events === undefined ? undefined : listed(events);
  if (channels !== undefined) patterns = within(patterns ?? ['*'], listed(channels));
  if (patterns && !patterns.length) {
    throw new InvalidRequest(
      'events: no pattern is named, or none of the channels; that is silence',
    );
  }
  return { ...(patterns && { events: patterns }), ...(filters && { filters }) };
}

/** The same as a query. */
export function selectionQuery(wanted: EventSelection): Record<string, string> {
  const { events, filters } = selection(wanted);
  return query({
    events: (events as string[] | undefined)?.join(','),
    filters: filters ? JSON.stringify(filters) : undefined,
  });
}

/** The patterns, confined to channels: a type begins with its channel's name in the singular. */
function within(patterns: readonly string[], channels: readonly string[]): string[] {
  const firsts = channels.map((name) => name.replace(/(?<=session|agent|team|webhook)s$/, ''));
  return patterns.flatMap((pattern) => {
    const [first, ...rest] = pattern.split('.');
    const last = rest.length ? rest : ['*'];
    if (first === '*') return firsts.map((name) => [name, ...last].join('.'));
    return firsts.includes(first ?? '') ? [pattern] : [];
  });
}

/** A subscription: which events, from where; without `since`: from now. */
export class EventPlan {
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
