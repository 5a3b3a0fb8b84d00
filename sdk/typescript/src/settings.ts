/** What a client is told when it is made. Nothing here throws before it is used. */
import { AuthenticationError, ConnectionLost, InvalidRequest } from './errors.js';
import { MAX_EVENT } from './intake.js';
import type { Rules } from './link.js';
import { LATE, variable, within } from './platform.js';
import type { ClientOptions, GetToken, Logger, LogLevel } from './types.js';

const DEFAULT_BASE_URL = 'https://api.resonantgenesis.xyz';
const BASE_URL = 'RESONANTGENESIS_BASE_URL';
const API_KEY = 'RESONANTGENESIS_API_KEY';
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** Seconds for a connection, and for `getToken`. */
export const CONNECT = 10;

export interface Settings extends Rules {
  readonly options: ClientOptions;
  readonly credential: Credential;
  /** Seconds for an answer that does not stream; the server holds `execute` for 50. */
  readonly timeout: number;
  readonly log: (level: Exclude<LogLevel, 'silent'>, message: string) => void;
}

export function settingsOf(options: ClientOptions): Settings {
  return {
    options,
    credential: new Credential(options),
    timeout: options.timeout ?? 65,
    log: logOf(options),
    maxRetries: options.maxRetries ?? 8,
    backoff: { base: 0.5, cap: 8 },
    silence: 8,
    maxEvent: MAX_EVENT,
    clock: () => performance.now() / 1000,
    random: Math.random,
    renewable: options.getToken !== undefined,
  };
}

/** The address without `/v1`. Throws InvalidRequest for what is none. */
export function baseUrlOf({ baseUrl }: ClientOptions): string {
  const world = globalThis as { [BASE_URL]?: string; location?: { href: string } };
  const text = baseUrl || variable(BASE_URL) || world[BASE_URL] || DEFAULT_BASE_URL;
  try {
    // On a page it may be a path of the same origin.
    const { protocol, username, search, hash, origin, pathname } = new URL(
      text,
      world.location?.href,
    );
    if (/^https?:$/.test(protocol) && !username && !search && !hash) {
      return origin + pathname.replace(/\/+$/, '').replace(/\/v1$/, '');
    }
  } catch {
    // What is no URL at all is refused in the same words.
  }
  throw new InvalidRequest('baseUrl must look like https://host[:port][/prefix]');
}

function logOf({ logLevel = 'warn', logger = console }: ClientOptions): Settings['log'] {
  const least = LEVELS.indexOf(logLevel);
  return (level, message) => {
    if (least >= 0 && LEVELS.indexOf(level) >= least) {
      (logger as Logger)[level](`resonantgenesis: ${message}`);
    }
  };
}

/** The credential of a client: a fixed one, or fresh ones from a function of the caller's. */
export class Credential {
  readonly #fixed: string;
  readonly #getToken: GetToken | undefined;
  #token: string | undefined;
  #asked: Promise<string> | undefined;

  constructor({ apiKey, token, getToken }: ClientOptions) {
    this.#fixed = (token || apiKey || variable(API_KEY) || '').trim();
    this.#getToken = getToken;
  }

  /** Whether there is a function to ask for another one. */
  get renewable(): boolean {
    return this.#getToken !== undefined;
  }

  /**
   * The one to use now. Throws AuthenticationError where there is none, ConnectionLost where
   * `getToken` fails or takes too long, since that may pass.
   */
  async get(): Promise<string> {
    const token = this.#getToken ? await this.#current(this.#getToken) : this.#fixed;
    // Says what is wrong without repeating the credential: messages end up in logs.
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new AuthenticationError(
        `${token ? 'the credential cannot stand in a header' : 'no credential'}: pass apiKey, token or getToken`,
      );
    }
    return token;
  }

  /** Whether there is another one than this, which was refused or is about to end. */
  async renew(old: string): Promise<boolean> {
    if (!this.#getToken) return false;
    if (this.#token === old) this.#token = undefined;
    return (await this.get()) !== old;
  }

  async #current(getToken: GetToken): Promise<string> {
    if (this.#token !== undefined) return this.#token;
    // Asked once, however many calls wait for it.
    this.#asked ??= ask(getToken).finally(() => {
      this.#asked = undefined;
    });
    this.#token = await this.#asked;
    return this.#token;
  }
}

async function ask(getToken: GetToken): Promise<string> {
  let token: string | typeof LATE;
  try {
    token = await within(CONNECT, Promise.resolve(getToken()));
  } catch (cause) {
    // The function is the caller's: whatever it throws, it brought no credential.
    throw new ConnectionLost(`getToken failed: ${cause}`, { cause });
  }
  if (token === LATE) throw new ConnectionLost('getToken took too long');
  return String(token);
}
