/** Keeps one socket open: opens a new one whenever the last was lost, until the retries are spent. */

import { snake } from '../core/messages.js';
import type { Consumer } from '../core/realtime/consumers.js';
import { SocketMachine } from '../core/realtime/socket-machine.js';
import { Retries } from '../core/retry.js';
import { AuthenticationError, ConnectionLost, StreamError } from '../errors.js';
import { isOffline, notifyAll, pause } from '../platform.js';
import type { Settings } from '../settings.js';
import type { ConnectionState, RealtimeOptions } from '../types.js';
import { SocketConnection } from './socket-connection.js';
import { socketClass, socketUrl } from './web-socket.js';

export class SocketRunner {
  state: ConnectionState = 'connecting';
  readonly #logic: SocketMachine;
  readonly #settings: Settings;
  readonly #interval: number;
  readonly #patience: number;
  readonly #watchers = new Set<(state: ConnectionState) => void>();
  readonly #stop = new AbortController();
  readonly #retries: Retries;
  #socket: SocketConnection | undefined;

  constructor(settings: Settings, { pingInterval = 30, pingTimeout = 10 }: RealtimeOptions) {
    this.#settings = settings;
    this.#interval = pingInterval;
    this.#patience = pingTimeout;
    this.#retries = new Retries(settings);
    this.#logic = new SocketMachine(settings);
  }

  // -- consumers --------------------------------------------------------------------------------

  watch(listener: (state: ConnectionState) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  start(consumer: Consumer<unknown>): void {
    this.#logic.start(consumer);
    this.#socket?.speak();
  }

  taken(consumer: Consumer<unknown>): void {
    this.#logic.taken(consumer);
    if (this.#logic.requests.outbox.length) this.#socket?.speak();
  }

  leave(consumer: Consumer<unknown>): void {
    this.#logic.leave(consumer);
    this.#socket?.speak();
  }

  /** Send a request, and wait for its answer. */
  async ask(message: object): Promise<void> {
    const answer = this.#logic.request(snake(message));
    this.#socket?.speak();
    await answer;
  }

  cancel(sessionId: string, params: { turn?: number | undefined }): Promise<void> {
    return this.ask({ type: 'cancel', sessionId, ...params });
  }

  // -- sockets ----------------------------------------------------------------------------------

  /** Open one socket after the other until the retries are spent or `stop` is called. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const error = await this.#oneSocket();
      const wait = error.retryable ? this.#retries.after(error) : undefined;
      if (wait === undefined) this.#fail(error);
      if (wait === undefined || signal.aborted) break;
      this.#settings.log('info', `socket: ${error.message}; again in ${wait.toFixed(2)} s`);
      this.#tell(isOffline() ? 'offline' : 'reconnecting');
      await pause(wait, signal, { least: error.retryAfter ?? 0, patient: true });
    }
    this.#tell('closed');
  }

  /** End all streams with ConnectionLost; turns continue. */
  stop(): void {
    this.#fail(new ConnectionLost('the realtime() was closed', { retryable: false }));
    this.#stop.abort();
    this.#socket?.end(new ConnectionLost('closed'));
  }

  #fail(error: StreamError): void {
    this.#logic.fail(error);
  }

  /** Connect and serve until the socket is lost. Returns the reason. */
  async #oneSocket(): Promise<StreamError> {
    const { credential, options } = this.#settings;
    try {
      const first = await credential.get();
      const Socket = await socketClass(options);
      if (this.#stop.signal.aborted) return new ConnectionLost('closed');
      const { error, token } = await this.#serve(new Socket(socketUrl(options, '/v1/ws')), first);
      error.retryAfter = this.#logic.draining ?? error.retryAfter;
      // The credential was refused or expired: another one may be accepted.
      const renewed = error instanceof AuthenticationError && (await credential.renew(token));
      return renewed ? new ConnectionLost(error.message) : error;
    } catch (error) {
      if (error instanceof StreamError) return error;
      return new ConnectionLost(this.#settings.reach.lost(String(error)), { cause: error });
    }
  }

  #serve(socket: WebSocket, token: string): Promise<{ error: StreamError; token: string }> {
    return new Promise((resolve) => {
      this.#socket = new SocketConnection({
        socket,
        token,
        state: this.#logic,
        settings: this.#settings,
        interval: this.#interval,
        patience: this.#patience,
        opened: () => this.#tell('open'),
        progress: () => this.#retries.progress(),
        ended: (error, last) => {
          this.#socket = undefined;
          resolve({ error, token: last });
        },
      });
    });
  }

  #tell(state: ConnectionState): void {
    if (state === this.state) return;
    this.state = state;
    notifyAll(this.#watchers, state);
  }
}
