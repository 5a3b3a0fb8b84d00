/** One socket, from its opening to its end: authenticates, listens, speaks, pings. */
import { Keepalive, SendRate } from '../core/realtime/keepalive.js';
import type { SocketMachine } from '../core/realtime/socket-machine.js';
import {
  AuthenticationError,
  ConnectionLost,
  InvalidRequest,
  RateLimited,
  type StreamError,
  Unavailable,
} from '../errors.js';
import { onWake } from '../platform.js';
import { baseUrlOf, CONNECT, type Settings } from '../settings.js';
import type { ClientOptions, WebSocketLike } from '../types.js';

/** Seconds before a token that could not be fetched is asked for again; never more often. */
const RENEW_AGAIN = 1;
/** A token is replaced when so much of its remaining life is over. */
const USED = 0.8;
/** Seconds after which what the pace held back is tried again. */
const HELD_BACK = 0.05;

export interface SocketConnectionOptions {
  readonly socket: WebSocket;
  readonly token: string;
  readonly state: SocketMachine;
  readonly settings: Settings;
  /** Seconds between pings, and for an answer to one. */
  readonly interval: number;
  readonly patience: number;
  opened(): void;
  /** Something came through. */
  progress(): void;
  /** Why it ended, and with which credential. */
  ended(error: StreamError, token: string): void;
}

export class SocketConnection {
  readonly #parts: SocketConnectionOptions;
  readonly #sendRate: SendRate;
  readonly #forget: () => void;
  /** There once the socket is open. */
  #watch: Keepalive | undefined;
  #token: string;
  #renewAt: number | undefined;
  #renewing = false;
  #over = false;
  #timer: ReturnType<typeof setTimeout>;

  constructor(parts: SocketConnectionOptions) {
    const { socket, settings } = parts;
    this.#parts = parts;
    this.#token = parts.token;
    this.#sendRate = new SendRate(settings.clock());
    this.#timer = setTimeout(
      () => this.end(new ConnectionLost(settings.reach.lost('no answer in time'))),
      CONNECT * 1000,
    );
    this.#forget = onWake((what) => {
      if (what === 'offline') this.end(new ConnectionLost('the browser is offline'));
      else this.#watch?.pingNow(settings.clock());
      this.speak();
    });
    socket.onopen = () => this.#open();
    socket.onmessage = ({ data }) => this.#hear(String(data));
    socket.onclose = ({ code, reason }) => {
      const error = closedError(code, reason);
      // Before it is open, it could not be: the platforms do not say why.
      const never = !this.#watch && error instanceof ConnectionLost;
      this.end(never ? new ConnectionLost(settings.reach.lost(error.message)) : error);
    };
    // What went wrong, the closing that follows tells; unheard, it would end a Node process.
    socket.onerror = () => {};
  }

  /** Ends it. Harmless if repeated. */
  end(error: StreamError): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#forget();
    const { socket, state, settings } = this.#parts;
    if (this.#watch?.outlived(settings.clock())) this.#parts.progress();
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    // A dead link would not answer the goodbye: nobody waits for it.
    socket.close();
    state.socketClosed();
    const last = state.lastError;
    this.#parts.ended(last?.code === error.code ? last : error, this.#token);
  }

  /** Says what is to be said, at a pace that the server takes, and sets the time to look again. */
  speak(): void {
    if (!this.#watch || this.#over) return;
    const { socket, state, settings } = this.#parts;
    const { requests } = state;
    const now = settings.clock();
    const times = [requests.sendDue(now)];
    const due = this.#watch.due(now);
    if (due === 'dead') {
      this.end(new ConnectionLost('the link does not answer'));
      return;
    }
    if (due === 'ping') requests.notify({ type: 'ping' });
    if (this.#renewAt !== undefined && now >= this.#renewAt) this.#renew(now);
    while (requests.outbox.length && this.#sendRate.take(now))
      socket.send(requests.outbox.shift() ?? '');
    if (requests.outbox.length) times.push(now + HELD_BACK);
    times.push(this.#watch.nextAt, this.#renewAt);
    const next = Math.min(...times.filter((at) => at !== undefined));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.speak(), Math.max(0, next - now) * 1000);
  }

  #open(): void {
    const { socket, state, settings, interval, patience } = this.#parts;
    this.#watch = new Keepalive(settings.clock(), interval, patience);
    settings.reach.found();
    state.authenticated = (expiresAt) => this.#authenticated(expiresAt);
    socket.send(this.#auth());
    state.socketOpened();
    this.#parts.opened();
    this.speak();
  }

  #hear(text: string): void {
    const { state, settings, progress } = this.#parts;
    this.#watch?.received();
    if (state.receive(text, settings.clock())) progress();
    if (state.requests.outbox.length) this.speak();
  }

  #auth(): string {
    return JSON.stringify({ type: 'auth', token: this.#token });
  }

  #authenticated(expiresAt: unknown): void {
    const { settings } = this.#parts;
    const left = (Date.parse(String(expiresAt)) - Date.now()) / 1000;
    this.#renewAt =
      settings.renewable && Number.isFinite(left)
        ? settings.clock() + Math.max(RENEW_AGAIN, left * USED)
        : undefined;
    this.speak();
  }

  /** A fresh token, said again before the old one ends. */
  async #renew(now: number): Promise<void> {
    this.#renewAt = now + RENEW_AGAIN;
    if (this.#renewing) return;
    this.#renewing = true;
    const { credential, log } = this.#parts.settings;
    try {
      if (await credential.renew(this.#token)) {
        this.#token = await credential.get();
        if (!this.#over) this.#parts.socket.send(this.#auth());
      }
    } catch (error) {
      log('warn', `no fresh token: ${error}`);
    } finally {
      this.#renewing = false;
    }
  }
}

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
