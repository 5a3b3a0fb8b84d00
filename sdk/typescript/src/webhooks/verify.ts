/** Signatures of webhooks. No I/O. */
import { Sha256 } from '../core/sha256.js';

/** Seconds that the clocks of sender and receiver may be apart. */
const TOLERANCE = 300;
const PREFIX = 'whsec_';
const BLOCK = 64;

/** The request is not one of the server's, or an old one; do not read it. */
export class WebhookVerificationError extends Error {
  override name = 'WebhookVerificationError';
}

export interface WebhookEvent {
  readonly id: string;
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly [name: string]: unknown;
}

export interface VerifyOptions {
  /** Seconds that the timestamp may be away from now; 300 if left out. */
  tolerance?: number;
  /** Seconds since 1970, instead of the clock. */
  now?: number;
}

type HeaderSource =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/**
 * The event of a request, once its signature has been checked. `body` is the body as it came, before
 * it is parsed. `headers` are a `Headers`, or an object such as Node's. The headers of Standard
 * Webhooks are checked, else `X-Webhook-Signature`. `secret` is `whsec_…`, or several while one
 * replaces another. Throws WebhookVerificationError.
 */
export function verifyWebhook(
  body: string | Uint8Array,
  headers: HeaderSource,
  secret: string | readonly string[],
  { tolerance = TOLERANCE, now = Date.now() / 1000 }: VerifyOptions = {},
): WebhookEvent {
  const keys = (typeof secret === 'string' ? [secret] : secret).map(keyOf);
  const raw = typeof body === 'string' ? new TextEncoder().encode(body) : body;
  const header = (name: string) => headerOf(headers, name);
  const standard = header('webhook-signature');
  const plain = header('x-webhook-signature');
  const timestamp = header(standard === undefined ? 'x-webhook-timestamp' : 'webhook-timestamp');
  if (standard === undefined && plain === undefined) fail('the request has no signature');
  if (!timestamp || !/^\d{1,12}$/.test(timestamp)) fail('the request has no timestamp');
  if (!(Math.abs(now - Number(timestamp)) <= tolerance)) fail('the timestamp is too far away');
  if (standard !== undefined) {
    const given = standard.split(' ').filter((one) => one.startsWith('v1,'));
    const prefix = `${header('webhook-id') ?? ''}.${timestamp}.`;
    check(given, keys, (key) => `v1,${base64(hmac(key, prefix, raw))}`);
  } else {
    check([plain ?? ''], keys, (key) => `sha256=${hmac(key, `${timestamp}.`, raw)}`);
  }
  return parsed(raw);
}

/** A secret for a webhook or a callback: `whsec_` and base64 of 32 random bytes. */
export function newWebhookSecret(): string {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(32));
  return PREFIX + btoa(String.fromCharCode(...bytes));
}

function fail(message: string): never {
  throw new WebhookVerificationError(message);
}

function headerOf(headers: HeaderSource, name: string): string | undefined {
  if (typeof headers.get === 'function') return headers.get(name) ?? undefined;
  for (const [key, value] of Object.entries(headers)) {
    if (key.toLowerCase() === name) return typeof value === 'string' ? value : value?.[0];
  }
  return undefined;
}

function check(given: readonly string[], keys: Uint8Array[], sign: (key: Uint8Array) => string) {
  const wanted = keys.map(sign);
  if (!given.some((one) => wanted.some((right) => equal(one, right)))) {
    fail('the signature is wrong');
  }
}

/** Compares in a time that does not tell how much is right. */
function equal(one: string, other: string): boolean {
  let differs = one.length ^ other.length;
  for (let at = 0; at < other.length; at += 1) differs |= one.charCodeAt(at) ^ other.charCodeAt(at);
  return differs === 0;
}

/** HMAC-SHA256 (RFC 2104) over a text and bytes, in hexadecimal. */
function hmac(key: Uint8Array, prefix: string, data: Uint8Array): string {
  const pad = (byte: number) =>
    Uint8Array.from({ length: BLOCK }, (_, at) => (key[at] ?? 0) ^ byte);
  const inner = new Sha256();
  inner.update(pad(0x36));
  inner.update(new TextEncoder().encode(prefix));
  inner.update(data);
  const outer = new Sha256();
  outer.update(pad(0x5c));
  outer.update(bytesOf(inner.digest()));
  return outer.digest();
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from({ length: hex.length / 2 }, (_, at) =>
    Number.parseInt(hex.slice(at * 2, at * 2 + 2), 16),
  );
}

const base64 = (hex: string) => btoa(String.fromCharCode(...bytesOf(hex)));

/** The bytes of a secret: at most 64, which no HMAC has to hash first. */
function keyOf(secret: string): Uint8Array {
  try {
    const text = atob(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
    if (text && text.length <= BLOCK) return Uint8Array.from(text, (char) => char.charCodeAt(0));
  } catch {
    // told below
  }
  throw new TypeError('the secret of a webhook is whsec_ and base64 of 24 to 64 bytes');
}

function parsed(raw: Uint8Array): WebhookEvent {
  let event: unknown;
  try {
    event = JSON.parse(new TextDecoder().decode(raw));
  } catch {
    fail('the body is no JSON');
  }
  if (typeof event !== 'object' || event === null || Array.isArray(event)) {
    fail('the body is no JSON object');
  }
  return event as WebhookEvent;
}
