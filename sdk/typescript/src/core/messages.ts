/** Requests and answers as values: what is sent, what came back. No I/O. */
import { InvalidRequest } from '../errors.js';
import type { JsonObject } from '../types.js';

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
  readonly send?: typeof fetch;
  /** Whether a success is a file's content, to be read as it comes. */
  readonly binary?: boolean;
}

/** A complete answer. `body` is what its JSON says; undefined if it is none. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

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
