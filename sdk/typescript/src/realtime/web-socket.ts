/** The platform's WebSocket class, the address of the server's sockets, and why one was closed. */
import {
  AuthenticationError,
  ConnectionLost,
  InvalidRequest,
  RateLimited,
  type StreamError,
  Unavailable,
} from '../errors.js';
import { baseUrlOf } from '../settings.js';
import type { ClientOptions, WebSocketLike } from '../types.js';

/** The URL of a socket of the server. */
export function socketUrl(options: ClientOptions, path: string): string {
  return baseUrlOf(options).replace(/^http/, 'ws') + path;
}

/** The WebSocket class: the caller's, the platform's, or the package `ws`'s. Throws InvalidRequest. */
export async function socketClass({ webSocket }: ClientOptions): Promise<typeof WebSocket> {
  const found: WebSocketLike | undefined = webSocket ?? globalThis.WebSocket;
  // Every WebSocket has the handlers that are used here; only the types differ.
  if (found) return found as typeof WebSocket;
  // A literal would make bundlers for browsers look for the package.
  const name = 'ws';
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)).default;
  } catch (cause) {
    throw new InvalidRequest('there is no WebSocket here: install `ws`, or pass webSocket', {
      cause,
    });
  }
}

/** The error of a close code (PROTOCOL.md, section 6). */
export function closedError(code: number, reason: string): StreamError {
  const why = reason || `the socket was closed with code ${code}`;
  switch (code) {
    case 4401:
      return new AuthenticationError(why);
    case 4429:
      return new RateLimited(why);
    case 1001:
    case 1012:
    case 1013:
      return new Unavailable(why);
    default:
      return new ConnectionLost(why);
  }
}
