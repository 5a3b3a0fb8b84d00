/** What a client is made with. */
import type { MaybePromise } from './base.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Where the SDK's words go; `console` is one. Credentials are never among them. */
export type Logger = Record<Exclude<LogLevel, 'silent'>, (message: string) => void>;

/**
 * Returns a credential, or the answer of a back end that holds one: as its text, or as `token` of its
 * JSON. Asked again when one is refused or about to end. An answer of 401, 403 or another that would
 * not change is thrown as its error; 429, 5xx and whatever the function throws are tried again,
 * unless that is a StreamError which says that it is of no use.
 */
export type GetToken = () => MaybePromise<string | Response>;

/** A WebSocket class; the browser's own is one, and that of `ws`. */
export type WebSocketLike = new (url: string) => { send(data: string): void; close(): void };

export interface ClientOptions {
  /** For servers. In a browser use `token` or `getToken`, which hold no key. */
  apiKey?: string | undefined;
  /** A client token. */
  token?: string | undefined;
  /** Where client tokens come from; wins over the others. */
  getToken?: GetToken | undefined;
  /**
   * With or without `/v1`. Left out: the variable RESONANTGENESIS_BASE_URL, then
   * `globalThis.RESONANTGENESIS_BASE_URL`, then the public service.
   */
  baseUrl?: string | undefined;
  fetch?: typeof fetch | undefined;
  webSocket?: WebSocketLike | undefined;
  /** `warn` by default. */
  logLevel?: LogLevel | undefined;
  logger?: Logger | undefined;
  /** Failures in a row before an error is thrown; 8 by default, 0: none. */
  maxRetries?: number | undefined;
  /** Seconds for an answer that does not stream; 65 by default. */
  timeout?: number | undefined;
}
