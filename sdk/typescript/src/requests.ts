/** The requests that more than one part makes. */

import { keyHeader, query, type Request, segment } from './core/messages.js';
import { snake } from './names.js';
import type { JsonObject } from './types.js';

/** A POST that makes something, repeatable by its key. */
export function createRequest(path: string, params: object, key?: string): Request {
  return { method: 'POST', path, body: snake(params), headers: keyHeader(key) };
}

/** One thing of a collection, or what belongs to it. */
export function itemRequest(method: string, path: string, id: string, below = ''): Request {
  return { method, path: `${path}/${segment(id)}${below}` };
}

/** A page of a collection. */
export function listRequest(path: string, params: object): Request {
  return { method: 'GET', path, query: query(snake(params) as Record<string, string | number>) };
}

/** By session, or by the key of an execute whose answer never came. */
export function cancelRequest(
  sessionId: string | undefined,
  { turn, idempotencyKey }: { turn?: number | undefined; idempotencyKey?: string | undefined },
): Request {
  const body: JsonObject = snake(sessionId === undefined ? { idempotencyKey } : { turn });
  if (sessionId === undefined) return { method: 'POST', path: '/v1/sessions/cancel', body };
  return { ...itemRequest('POST', '/v1/sessions', sessionId, '/cancel'), body };
}
