/** The one module that knows WebSockets: where the class is, and what its closing means. */
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

/** Where the socket of a server is. */
export function socketUrl(options: ClientOptions): string {
  return `${baseUrlOf(options).replace(/^http/, 'ws')}/v1/ws`;
}

/** The class: the caller's, the platform's, or that of the package `ws`. Throws InvalidRequest. */
export async function socketClass({ webSocket }: ClientOptions): Promise<typeof WebSocket> {
  const found: WebSocketLike | undefined = webSocket ?? globalThis.WebSocket;
  // What is given to us has the handlers of every WebSocket, which differ in their types alone.
  if (found) return found as typeof WebSocket;
  // Not written as a literal, or bundlers for browsers would look for it.
  const name = 'ws';
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)).default;
  } catch (cause) {
    throw new InvalidRequest('there is no WebSocket here: install `ws`, or pass webSocket', {
      cause,
    });
  }
}

/** What it means that a socket was closed, by its code (PROTOCOL.md, section 6). */
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
