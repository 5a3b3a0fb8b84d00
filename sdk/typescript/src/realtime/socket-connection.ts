/** One socket from opening to close: authentication, messages, pings. */
import { Keepalive, SendRate } from '../core/realtime/keepalive.js';
import type { SocketMachine } from '../core/realtime/socket-machine.js';
import { ConnectionLost, type StreamError } from '../errors.js';
import { onWake } from '../platform.js';
import { CONNECT, type Settings } from '../settings.js';
import { closedError } from './web-socket.js';

/** Seconds between two attempts to fetch a token. */
const RENEW_AGAIN = 1;
/** The part of a token's remaining life after which it is replaced. */
const USED = 0.8;
/** Seconds after which messages over the send rate are tried again. */
const HELD_BACK = 0.05;

interface SocketConnectionOptions {
  readonly socket: WebSocket;
  readonly token: string;
  readonly state: SocketMachine;
  readonly settings: Settings;
  /** Seconds between pings, and for an answer to one. */
  readonly interval: number;
  readonly patience: number;
  opened(): void;
  /** An item came through. */
  progress(): void;
  /** The socket ended: the error, and the credential in use. */
  ended(error: StreamError, token: string): void;
}

export class SocketConnection {
  readonly #parts: SocketConnectionOptions;
  readonly #sendRate: SendRate;
  readonly #forget: () => void;
  /** Set once the socket is open. */
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
      // The socket never opened. Platforms do not say why.
      const never = !this.#watch && error instanceof ConnectionLost;
      this.end(never ? new ConnectionLost(settings.reach.lost(error.message)) : error);
    };
    // The close event that follows has the reason. Without a listener an error ends a Node process.
    socket.onerror = () => {};
  }

  /** End the socket. Harmless if repeated. */
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
    // A dead connection would not answer the close, so nobody waits for it.
    socket.close();
    state.socketClosed();
    const last = state.lastError;
    this.#parts.ended(last?.code === error.code ? last : error, this.#token);
  }

  /** Send pending messages at the rate the server accepts, and schedule the next call. */
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

  /** Fetch a fresh token and authenticate again before the old one expires. */
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
