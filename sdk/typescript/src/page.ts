import { asText, isObject } from './core/messages.js';
import type { JsonObject, Page } from './types.js';

/** One page of a list; `items` is where the answer has them. */
export function pageOf<T>(raw: JsonObject, items: unknown, make: (raw: JsonObject) => T): Page<T> {
  const data = Array.isArray(items) ? items.filter(isObject).map((one) => make(one)) : [];
  return {
    data,
    nextCursor: asText(raw.next_cursor) ?? null,
    hasMore: raw.has_more === true,
    [Symbol.iterator]: () => data[Symbol.iterator](),
  };
}
