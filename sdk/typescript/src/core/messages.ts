/** Requests and answers as values: what is sent, what came back. No I/O. */
import {
  InvalidRequest,
  makeError,
  type StreamError,
  type StreamErrorFields,
  Unavailable,
} from '../errors.js';
import type { ClientOptions, JsonObject, Page } from '../types.js';

/** Where the collections are, below the base URL. */
export const AGENTS = '/v1/agents';
export const EVENTS = '/v1/events';
export const FILES = '/v1/files';
export const SESSIONS = '/v1/sessions';
export const TOKENS = '/v1/tokens';

/** One request below the base URL, credential aside. */
export interface Request {
  readonly method: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: JsonObject;
  readonly headers?: Readonly<Record<string, string>>;
  /** Added to the time the answer may take, in seconds: the server is asked to wait. */
  readonly patience?: number;
  /** What sends it in place of `fetch`: a body that is no JSON is its matter. */
  readonly send?: NonNullable<ClientOptions['fetch']>;
  /** Whether a success is a file's content, to be read as it comes. */
  readonly binary?: boolean;
}

/** A complete answer. `body` is what its JSON says; undefined if it is none. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

/** How long the server knows an idempotency key, in milliseconds (PROTOCOL.md). */
export const KEY_WINDOW_MS = 24 * 3_600_000;

/** Makes a header of a call repeatable: the same key never does a thing twice. */
export function keyHeader(key = newKey()): Record<string, string> {
  return { 'Idempotency-Key': key };
}

/** A fresh Idempotency-Key. It has to be unique, not secret, so an old Node's Math.random will do. */
export function newKey(): string {
  const bytes = new Uint8Array(16).map(() => Math.random() * 256);
  globalThis.crypto?.getRandomValues?.(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A query as it stands in an address; not every platform's URLSearchParams can write one. */
export function queryText(fields: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries(fields).map((pair) => pair.map(encodeURIComponent).join('='));
  return pairs.length ? `?${pairs.join('&')}` : '';
}

/** `text` as one segment of a path, whatever it contains. Throws InvalidRequest where it cannot. */
export function segment(text: string): string {
  if (typeof text !== 'string' || !text || text === '.' || text === '..') {
    throw new InvalidRequest(`${JSON.stringify(text)} is not an id`);
  }
  return encodeURIComponent(text);
}

/** The value as an object; empty for anything else, whatever a proxy put there. */
export function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What `text` says as JSON; undefined if it is none. */
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

/** `Retry-After` or `retry_after`: seconds as a number or text, or an HTTP date. */
export function seconds(value: unknown): number | undefined {
  if (typeof value !== 'number' && !asText(value)) return undefined;
  let number = Number(value);
  // Date.parse takes almost anything; an HTTP date has a month's name and a colon.
  if (Number.isNaN(number) && /[a-z]{3} \d{4} \d\d:/i.test(String(value))) {
    number = (Date.parse(String(value)) - Date.now()) / 1000;
  }
  return Number.isFinite(number) ? Math.max(0, number) : undefined;
}

/** The fields that were given, as texts. */
export function query(
  fields: Record<string, string | number | true | undefined>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)]],
    ),
  );
}

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
  if (sessionId === undefined) return { method: 'POST', path: `${SESSIONS}/cancel`, body };
  return { ...itemRequest('POST', SESSIONS, sessionId, '/cancel'), body };
}

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

/** Answers to which the same request is sent again without asking anybody. */
export function isRepeated(status: number): boolean {
  return [408, 425, 429, 502, 503, 504].includes(status);
}

/** The error of an answer that is not a success, or not what was asked for. */
export function errorFromAnswer({ status, headers, body }: Answer): StreamError {
  // A browser does not show what a redirection is: its status is 0 there.
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

/** The error an `error` chunk, frame or message tells of. */
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

/** For a success without the body it should have: something on the way answered instead. */
export function unexpected({ status, headers }: Answer): StreamError {
  return new Unavailable(describe(status, headers), { status });
}

/** What comes from things on the way (proxies, balancers) has no code. */
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
 * Nothing here follows a redirection: the credential would go along, to whoever it names. What may be
 * a credential there is not shown.
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
