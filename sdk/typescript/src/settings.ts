/** Settings of a client: address, credential, reachability. Nothing throws before it is used. */

import { MAX_EVENT } from './core/chunk-buffer.js';
import { asObject, asText, errorFromAnswer, parseJson } from './core/messages.js';
import type { ReconnectRules } from './core/reconnector.js';
import { AuthenticationError, ConnectionLost, InvalidRequest, StreamError } from './errors.js';
import { canStream, notifyAll, now, TIMED_OUT, variable, withTimeout } from './platform.js';
import type { ClientOptions, GetToken, Logger, LogLevel, Readable } from './types.js';

const DEFAULT_BASE_URL = 'https://api.resonantgenesis.xyz';
const BASE_URL = 'RESONANTGENESIS_BASE_URL';
const API_KEY = 'RESONANTGENESIS_API_KEY';
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Seconds for a connection, and for `getToken`. */
export const CONNECT = 10;

export interface Settings extends ReconnectRules {
  readonly options: ClientOptions;
  readonly credential: Credential;
  /** Seconds for an answer that does not stream; the server holds `execute` for 50. */
  readonly timeout: number;
  readonly log: (level: Exclude<LogLevel, 'silent'>, message: string) => void;
  readonly reach: Reach;
}

export function settingsOf(options: ClientOptions): Settings {
  const log = logOf(options);
  const reach = new Reach(options, log);
  return {
    options,
    credential: new Credential(options, reach),
    timeout: options.timeout ?? 65,
    log,
    reach,
    maxRetries: options.maxRetries ?? 8,
    backoff: { base: 0.5, cap: 8 },
    silence: 8,
    maxEvent: MAX_EVENT,
    clock: now,
    // Whether a caller's own `fetch` can stream shows with its first answer.
    streams: {
      possible: (options.fetch !== undefined || canStream()) && typeof TextDecoder === 'function',
    },
    random: Math.random,
    renewable: options.getToken !== undefined,
  };
}

/** The base URL without `/v1`. Throws InvalidRequest if it is no address. */
export function baseUrlOf(options: ClientOptions): string {
  const { location } = globalThis as { location?: { href: string } };
  try {
    // On a page it may be a path of the same origin. React Native's URL has nothing but `href`.
    const { href } = new URL(namedUrl(options) || DEFAULT_BASE_URL, location?.href);
    const [, origin, path = ''] = /^(https?:\/\/[^/?#@]+)(\/[^?#]*)?$/i.exec(href) ?? [];
    if (origin) return origin + path.replace(/\/+$/, '').replace(/\/v1$/, '');
  } catch {
    // A text that is no URL gets the same error.
  }
  throw new InvalidRequest('baseUrl must look like https://host[:port][/prefix]');
}

function namedUrl({ baseUrl }: ClientOptions): string | undefined {
  return baseUrl || variable(BASE_URL) || (globalThis as { [BASE_URL]?: string })[BASE_URL];
}

/** Host and port, for error messages; says so if they are the default. */
export function addressOf(options: ClientOptions): string {
  const [scheme, , host = ''] = baseUrlOf(options).split('/');
  const port = /:\d+$/.test(host) ? '' : scheme === 'https:' ? ':443' : ':80';
  const hint = namedUrl(options) ? '' : ` (the default, as neither baseUrl nor ${BASE_URL} is set)`;
  return host + port + hint;
}

/**
 * Why the server cannot be reached; null while it can. Every request of the client updates it. Logs
 * once for each outage.
 */
class Reach implements Readable<StreamError | null> {
  readonly #options: ClientOptions;
  readonly #log: Settings['log'];
  readonly #listeners = new Set<() => void>();
  #out = false;
  #error: StreamError | null = null;

  constructor(options: ClientOptions, log: Settings['log']) {
    this.#options = options;
    this.#log = log;
  }

  readonly getSnapshot = (): StreamError | null => this.#error;

  readonly subscribe = (listener: () => void): (() => void) => {
    // A function of its own, since the same listener may subscribe twice.
    const entry = () => listener();
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  };

  /** Note that no connection could be made. Returns the reason with the address. */
  lost(why: string): string {
    const text = `could not connect to ${addressOf(this.#options)}: ${why}`;
    if (!this.#out) this.#log('warn', text);
    this.#out = true;
    this.failed(new ConnectionLost(text));
    return text;
  }

  /** Note that there is a connection. */
  found(): void {
    if (this.#out) this.#log('warn', `connected again to ${addressOf(this.#options)}`);
    this.#out = false;
    this.failed(undefined);
  }

  /** Note the error of the last attempt; undefined: it succeeded. */
  failed(error: StreamError | undefined): void {
    if (error?.message === this.#error?.message && error?.code === this.#error?.code) return;
    this.#error = error ?? null;
    notifyAll(this.#listeners, undefined);
  }
}

function logOf({ logLevel = 'warn', logger = console }: ClientOptions): Settings['log'] {
  const least = LEVELS.indexOf(logLevel);
  return (level, message) => {
    if (least >= 0 && LEVELS.indexOf(level) >= least) {
      (logger as Logger)[level](`resonantgenesis: ${message}`);
    }
  };
}

/** The credential of a client: a fixed one, or fresh ones from `getToken`. */
class Credential {
  readonly #fixed: string;
  readonly #getToken: GetToken | undefined;
  #token: string | undefined;
  readonly #reach: Reach;
  #asked: Promise<string> | undefined;

  constructor({ apiKey, token, getToken }: ClientOptions, reach: Reach) {
    this.#reach = reach;
    this.#fixed = (token || apiKey || variable(API_KEY) || '').trim();
    this.#getToken = getToken;
  }

  /** Whether `getToken` can bring another credential. */
  get renewable(): boolean {
    return this.#getToken !== undefined;
  }

  /**
   * The current credential. Throws AuthenticationError if there is none, the error of the answer that
   * `getToken` returned, or ConnectionLost if `getToken` fails or takes too long.
   */
  async get(): Promise<string> {
    const token = this.#getToken ? await this.#current(this.#getToken) : this.#fixed;
    // The message does not repeat the credential, because messages end up in logs.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new AuthenticationError(
        `${token ? 'the credential cannot stand in a header' : 'no credential'}: pass apiKey, token or getToken`,
      );
    }
    return token;
  }

  /** Replace a credential that was refused or is about to expire. Returns whether there is another. */
  async renew(old: string): Promise<boolean> {
    if (!this.#getToken) return false;
    if (this.#token === old) this.#token = undefined;
    return (await this.get()) !== old;
  }

  async #current(getToken: GetToken): Promise<string> {
    if (this.#token !== undefined) return this.#token;
    // One call of `getToken` serves all requests that wait.
    this.#asked ??= ask(getToken, this.#reach).finally(() => {
      this.#asked = undefined;
    });
    this.#token = await this.#asked;
    return this.#token;
  }
}

async function ask(getToken: GetToken, reach: Reach): Promise<string> {
  try {
    const token = await withTimeout(CONNECT, tokenOf(getToken));
    if (token === TIMED_OUT) throw new ConnectionLost('getToken took too long');
    return token;
  } catch (cause) {
    // Whatever the caller's function throws, there is no credential.
    const error =
      cause instanceof StreamError
        ? cause
        : new ConnectionLost(`getToken failed: ${cause}`, { cause });
    if (error.retryable) reach.failed(error);
    throw error;
  }
}

async function tokenOf(getToken: GetToken): Promise<string> {
  const got = await getToken();
  if (typeof (got as Partial<Response> | undefined)?.text !== 'function') return String(got);
  const { ok, status, headers } = got as Response;
  const text = await (got as Response).text();
  const body = parseJson(text);
  if (!ok) throw errorFromAnswer({ status, headers, body });
  return asText(asObject(body).token) ?? text.trim();
}
