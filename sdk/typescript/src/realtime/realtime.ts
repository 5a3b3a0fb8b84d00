/** `client.realtime()`: one socket for any number of channels and sessions. */

import { listed, placeOf, selection } from '../core/event-filter.js';
import { newKey, segment, snake } from '../core/messages.js';
import { ChunkConsumer, EventConsumer, MAX_ITEMS } from '../core/realtime/consumers.js';
import { InvalidRequest } from '../errors.js';
import type { Settings } from '../settings.js';
import type {
  AgentStream,
  AnswerParams,
  ConnectionState,
  RealtimeExecuteParams,
  RealtimeOptions,
  RealtimeSessionParams,
  RealtimeSubscribeParams,
  RealtimeSubscription,
  StreamControls,
} from '../types.js';
import { SocketRunner } from './socket-runner.js';
import { SocketStream, SocketSubscription } from './socket-streams.js';

/**
 * One socket, replaced by a new one whenever it is lost.
 *
 * After a cut, a silence or a restart of the server it reconnects after a back-off with full jitter,
 * and not before the time that the server asked for. It resumes from the last cursors and positions:
 * no gap, no duplicate. After `maxRetries` failed sockets in a row all streams end with an error.
 *
 * Each consumer has a buffer of `bufferSize` items. When the buffer is full, the server stops sending
 * to that consumer; it resumes once most of the buffer has been read. A slow consumer loses nothing
 * and does not slow the others.
 */
export class Realtime {
  readonly #runner: SocketRunner;
  readonly #running: Promise<void>;
  readonly #bufferSize: number;

  constructor(settings: Settings, options: RealtimeOptions = {}) {
    const { bufferSize = MAX_ITEMS, pingInterval = 30, pingTimeout = 10 } = options;
    if (!(bufferSize >= 1 && pingInterval > 0 && pingTimeout > 0)) {
      throw new InvalidRequest('bufferSize, pingInterval and pingTimeout must be more than 0');
    }
    this.#bufferSize = bufferSize;
    this.#runner = new SocketRunner(settings, options);
    if (options.onState) this.#runner.watch(options.onState);
    this.#running = this.#runner.run();
  }

  /** The state of the socket. */
  get state(): ConnectionState {
    return this.#runner.state;
  }

  /**
   * Events of `channels` from now on, or from `since`. Resolves when the server has confirmed the
   * subscription. Throws StreamError.
   */
  async subscribe(params: RealtimeSubscribeParams): Promise<RealtimeSubscription> {
    const { events, filters, since, onExpired } = params;
    const channels = [...new Set(listed(params.channels))];
    if (!channels.length || channels.some((name) => name.startsWith('session:'))) {
      throw new InvalidRequest('channels: name at least one; a session has session()');
    }
    const consumer = new EventConsumer(
      channels,
      selection({ events, filters }),
      placeOf(since),
      onExpired === 'earliest',
      this.#bufferSize,
    );
    return new SocketSubscription(this.#runner, consumer, params).open();
  }

  /**
   * A session's chunks from behind `resumeFrom`, else from the start of its newest turn. If this
   * socket reads the session already, the stream starts where the socket is. Includes later turns.
   */
  async session(sessionId: string, params: RealtimeSessionParams = {}): Promise<AgentStream> {
    segment(sessionId);
    const { resumeFrom, compact, raiseOnError } = params;
    const options = { sessionId, resumeFrom, compact, raiseOnError };
    return new SocketStream(
      this.#runner,
      new ChunkConsumer(options, this.#bufferSize),
      params,
    ).open();
  }

  /**
   * Starts a turn and streams its chunks. An idempotency key names the turn, so an execute whose
   * answer was lost never starts a second turn.
   */
  async execute(
    params: RealtimeExecuteParams,
    controls: StreamControls = {},
  ): Promise<AgentStream> {
    const { compact, raiseOnError, idempotencyKey: key, ...fields } = params;
    const options = { body: snake(fields), key, compact, raiseOnError };
    return new SocketStream(
      this.#runner,
      new ChunkConsumer(options, this.#bufferSize),
      controls,
    ).open();
  }

  /** Cancels what runs or waits in a session, or only `turn`. Throws StreamError. */
  cancel(sessionId: string, params: { turn?: number | undefined } = {}): Promise<void> {
    return this.#runner.cancel(sessionId, params);
  }

  /**
   * Says something to the open turn of a session; the id of the message. Throws StreamError. See
   * `client.sessions.send`.
   */
  async send(sessionId: string, content: string, messageId = `msg_${newKey()}`): Promise<string> {
    await this.#runner.ask({ type: 'message', sessionId, content, messageId });
    return messageId;
  }

  /**
   * Answers what a turn asks, like `sessions.input`; its chunks go on in the streams of its session.
   * Throws StreamError.
   */
  async input(sessionId: string, callId: string, answer: AnswerParams): Promise<void> {
    await this.#runner.ask({ type: 'input', sessionId, callId, ...answer });
  }

  /** Closes the socket. Open streams throw ConnectionLost; turns continue. */
  async close(): Promise<void> {
    this.#runner.stop();
    await this.#running;
  }
}
