/** The selection of platform events, and the place where reading starts, as the wire has them. */
import { InvalidRequest } from '../errors.js';
import type { EventSelection, JsonObject, Place } from '../types.js';
import { query } from './messages.js';

/** A cursor or an RFC 3339 time. */
export function placeOf(place: Place | undefined): string | undefined {
  return place instanceof Date ? place.toISOString() : place;
}

/** One name or several, as a list. */
export function listed(names: string | readonly string[]): readonly string[] {
  return typeof names === 'string' ? [names] : names;
}

/** A selection as fields of a JSON object. Throws InvalidRequest if no event can match. */
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

/** A selection as a query. Throws InvalidRequest. */
export function selectionQuery(wanted: EventSelection): Record<string, string> {
  const { events, filters } = selection(wanted);
  return query({
    events: (events as string[] | undefined)?.join(','),
    filters: filters ? JSON.stringify(filters) : undefined,
  });
}

/** Confine patterns to channels. A type begins with its channel's name in the singular. */
function within(patterns: readonly string[], channels: readonly string[]): string[] {
  const firsts = channels.map((name) => name.replace(/^(session|agent|team|webhook)s$/, '$1'));
  return patterns.flatMap((pattern) => {
    const [first, ...rest] = pattern.split('.');
    const last = rest.length ? rest : ['*'];
    if (first === '*') return firsts.map((name) => [name, ...last].join('.'));
    return firsts.includes(first ?? '') ? [pattern] : [];
  });
}
