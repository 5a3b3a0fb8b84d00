/** Requests and answers as values, the names of their fields, and the errors of answers. No I/O. */
import {
  InvalidRequest,
  makeError,
  type StreamError,
  type StreamErrorFields,
  Unavailable,
} from '../errors.js';
import type { ClientOptions, JsonObject, Page } from '../types.js';

/** Paths of the collections, below the base URL. */
export const AGENTS = '/v1/agents';
export const EVENTS = '/v1/events';
export const FILES = '/v1/files';
export const SESSIONS = '/v1/sessions';

/** One request below the base URL, without its credential. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: JsonObject;
  readonly headers?: Readonly<Record<string, string>>;
  /** Seconds that the server may wait, added to the time-out of the answer. */
  readonly patience?: number;
  /** Sends the request in place of `fetch`, with a body that is no JSON. */
  readonly send?: NonNullable<ClientOptions['fetch']>;
  /** Whether a success is the content of a file, to be read as a stream. */
  readonly binary?: boolean;
}

/** A complete answer. `body` is the parsed JSON; undefined if it is no JSON. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** How long the server knows an idempotency key, in milliseconds (PROTOCOL.md). */
export const KEY_WINDOW_MS = 24 * 3_600_000;

/** The header that makes a call repeatable: the server acts once for a key. */
export function keyHeader(key = newKey()): Record<string, string> {
  return { 'Idempotency-Key': key };
}

/** A fresh idempotency key. It must be unique but not secret, so Math.random serves as a fallback. */
export function newKey(): string {
  const bytes = new Uint8Array(16).map(() => Math.random() * 256);
  globalThis.crypto?.getRandomValues?.(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A query as part of a URL. Not every platform's URLSearchParams can write one. */
export function queryText(fields: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries(fields).map((pair) => pair.map(encodeURIComponent).join('='));
  return pairs.length ? `?${pairs.join('&')}` : '';
}

/** `text` as one segment of a path. Throws InvalidRequest if that is impossible. */
export function segment(text: string): string {
  if (typeof text !== 'string' || !text || text === '.' || text === '..') {
    throw new InvalidRequest(`${JSON.stringify(text)} is not an id`);
  }
  return encodeURIComponent(text);
}

/** The value as an object; an empty object for anything else. */
export function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Parse JSON; undefined if `text` is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A non-empty text; undefined for anything else. */
export function asText(value: unknown): string | undefined {
  return typeof value === 'string' && value ? value : undefined;
}

/** A whole number from 0; undefined for anything else. */
export function asCount(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

/** Whether these headers announce server-sent events. */
export function isEventStream(headers: Headers): boolean {
  return contentType(headers) === 'text/event-stream';
}

export function contentType(headers: Headers): string {
  return (headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

/** Seconds from `Retry-After` or `retry_after`: a number, a text or an HTTP date. */
export function seconds(value: unknown): number | undefined {
  if (typeof value !== 'number' && !asText(value)) return undefined;
  let number = Number(value);
  // Date.parse accepts almost anything; an HTTP date has a month's name and a colon.
  if (Number.isNaN(number) && /[a-z]{3} \d{4} \d\d:/i.test(String(value))) {
    number = (Date.parse(String(value)) - Date.now()) / 1000;
  }
  return Number.isFinite(number) ? Math.max(0, number) : undefined;
}

/** The defined fields, as texts. */
export function query(
  fields: Record<string, string | number | true | undefined>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  );
}

/** A POST that creates something, repeatable by its idempotency key. */
export function createRequest(path: string, params: object, key?: string): Request {
  return { method: 'POST', path, body: snake(params), headers: keyHeader(key) };
}

/** A request about one item of a collection, or about something `below` it. */
export function itemRequest(
  method: string,
  path: string,
  id: string,
  below = '',
  params?: object,
): Request {
  const request = { method, path: `${path}/${segment(id)}${below}` };
  return params ? { ...request, body: snake(params) } : request;
}

/** A request for one page of a collection. */
export function listRequest(path: string, params: object): Request {
  return { method: 'GET', path, query: query(snake(params) as Record<string, string | number>) };
}

/** Cancel by session, or by the idempotency key of an execute whose answer never came. */
export function cancelRequest(
  sessionId: string | undefined,
  { turn, idempotencyKey }: { turn?: number | undefined; idempotencyKey?: string | undefined },
): Request {
  return sessionId === undefined
    ? itemRequest('POST', SESSIONS, 'cancel', '', { idempotencyKey })
    : itemRequest('POST', SESSIONS, sessionId, '/cancel', { turn });
}

/** Nested objects, and lists of them, whose fields are the protocol's; other nested objects are free-form data. */
const OURS = ['usage', 'error', 'forked_from', 'waiting'];
const known = new Map<string, string>();

/** An answer with camelCase names, as callers read it. Only an object's own fields change. */
export function camel<T>(raw: JsonObject): T {
  const result: JsonObject = {};
  for (const name of Object.keys(raw)) {
    const value = raw[name];
    result[camelName(name)] = OURS.includes(name) ? inner(value) : value;
  }
  return result as T;
}

function inner(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inner);
  return isObject(value) ? camel(value) : value;
}

/** Parameters with snake_case names, as the server reads them. Undefined fields are left out. */
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
    // The result is never `__proto__`, which would not be a field.
    found = name.replace(/_+([a-z0-9])/g, (_, c: string) => c.toUpperCase());
    if (known.size < 512) known.set(name, found);
  }
  return found;
}

/** One page of a list; `items` is the list in the answer. */
export function pageOf<T>(
  raw: JsonObject,
  make: (raw: JsonObject) => T = camel,
  items: unknown = raw.data,
): Page<T> {
  const data = Array.isArray(items) ? items.filter(isObject).map((one) => make(one)) : [];
  return {
    data,
    nextCursor: asText(raw.next_cursor) ?? null,
    hasMore: raw.has_more === true,
    [Symbol.iterator]: () => data[Symbol.iterator](),
  };
}

/** Whether an answer of this status is retried without asking the caller. */
export function isRepeated(status: number): boolean {
  return [408, 425, 429, 502, 503, 504].includes(status);
}

/** The error of an answer that is no success. */
export function errorFromAnswer({ status, headers, body }: Answer): StreamError {
  // A browser hides redirections: their status is 0.
  if (status === 0 || (status >= 300 && status < 400)) {
    return redirected(status, headers.get('location'));
  }
  const told = asObject(asObject(body).error);
  return makeError(
    asText(told.code) ?? codeOfStatus(status),
    typeof told.message === 'string' ? told.message : describe(status, headers),
    {
      retryAfter: seconds(told.retry_after) ?? seconds(headers.get('retry-after')),
      requestId: asText(told.request_id) ?? asText(headers.get('x-request-id')),
      details: asObject(told.details),
      status,
    },
  );
}

/** The error of an `error` chunk, frame or message. */
export function errorFromChunk(raw: JsonObject, place: StreamErrorFields = {}): StreamError {
  return makeError(asText(raw.code) ?? 'INTERNAL', asText(raw.message) ?? 'the turn failed', {
    retryable: typeof raw.retryable === 'boolean' ? raw.retryable : undefined,
    retryAfter: seconds(raw.retry_after),
    requestId: asText(raw.request_id),
    details: isObject(raw.details) ? raw.details : undefined,
    sessionId: asText(raw.session_id) ?? place.sessionId,
    position: place.position,
  });
}

/** The error of a success without its body: a proxy answered in place of the server. */
export function unexpected({ status, headers }: Answer): StreamError {
  return new Unavailable(describe(status, headers), { status });
}

/** Codes for answers without one, which come from proxies and load balancers. */
const STATUS_CODES: Readonly<Record<number, string>> = {
  401: 'UNAUTHENTICATED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  407: 'UNAVAILABLE',
  409: 'CONFLICT',
  410: 'POSITION_EXPIRED',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  416: 'RANGE_NOT_SATISFIABLE',
  429: 'RATE_LIMITED',
};

function codeOfStatus(status: number): string {
  const known = STATUS_CODES[status];
  if (known || isRepeated(status)) return known ?? 'UNAVAILABLE';
  return status >= 500 ? 'INTERNAL' : 'INVALID_REQUEST';
}

function describe(status: number, headers: Headers): string {
  return `unexpected answer: ${status} ${contentType(headers)}`;
}

/**
 * The error of a redirection. Redirections are not followed: they could send the credential to
 * another host. Parts of the location that may hold a credential are not shown.
 */
export function redirected(status: number, location: string | null): StreamError {
  const place = location?.replace(/[?#].*$/s, '').replace(/\/\/[^/]*@/, '//');
  const where = place ? ` to ${place.slice(0, 200)}` : '';
  return makeError(
    'INVALID_REQUEST',
    `the server redirects (${status})${where}, which is not followed; baseUrl must be the final address`,
    { status },
  );
}
