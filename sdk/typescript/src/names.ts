/** Names: camelCase outside, the wire's snake_case inside. Only an object's own fields change. */

import { isObject } from './core/messages.js';
import type { JsonObject } from './types.js';

/** Objects of ours inside an answer; whatever else is nested belongs to others. */
const OURS = new Set(['usage', 'error']);
const known = new Map<string, string>();

/** An answer as callers read it. */
export function camel<T>(raw: JsonObject): T {
  const result: JsonObject = {};
  for (const name of Object.keys(raw)) {
    const value = raw[name];
    result[camelName(name)] = OURS.has(name) && isObject(value) ? camel(value) : value;
  }
  return result as T;
}

/** Parameters as the server takes them; what is undefined is left out. */
export function snake(params: object): JsonObject {
  const result: JsonObject = {};
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined) result[name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)] = value;
  }
  return result;
}

function camelName(name: string): string {
  let found = known.get(name);
  if (found === undefined) {
    // No name that comes out of this is `__proto__`, which would be no field.
    found = name.replace(/_+([a-z0-9])/g, (_, c: string) => c.toUpperCase());
    if (known.size < 512) known.set(name, found);
  }
  return found;
}
