import type { ConnectionState, ExecuteParams } from '../types.js';
import type { TurnPlace } from './begin-turn.js';
import { beginTurn, cancelByKey } from './begin-turn.js';
import type { StreamClient } from './client.js';

/** What an `Outbox` needs from the session it sends to. */
export interface OutboxPort {
  /** Null until the first goal has made the session. */
  sessionId(): string | null;
  taken(key: string, place: TurnPlace): void;
  /** Not taken: with an error it was refused, else withdrawn. */
  dropped(key: string, error: Error | null): void;
  connection(state: ConnectionState): void;
}

/** Sends goals one after another, so that a session has them in the order in which they were given. */
export class Outbox {
  readonly #client: StreamClient;
  readonly #port: OutboxPort;
  readonly #unanswered = new Map<string, AbortController>();
  #last: Promise<void> = Promise.resolve();

  constructor(client: StreamClient, port: OutboxPort) {
    this.#client = client;
    this.#port = port;
  }

  /** Resolves when the goal was taken, refused or withdrawn; the port is told which. Never rejects. */
  send(key: string, params: ExecuteParams): Promise<void> {
    const abort = new AbortController();
    this.#unanswered.set(key, abort);
    this.#last = this.#last.then(() => this.#send(key, params, abort));
    return this.#last;
  }

  /**
   * Withdraws what the server has not answered for yet, and cancels what of it the server has all the
   * same. Rejects with a StreamError where the server could not be told.
   */
  async withdraw(): Promise<void> {
    const keys = [...this.#unanswered.keys()];
    for (const abort of this.#unanswered.values()) {
      abort.abort();
    }
    await Promise.all(keys.map((idempotencyKey) => cancelByKey(this.#client, idempotencyKey)));
  }

  async #send(key: string, params: ExecuteParams, { signal }: AbortController): Promise<void> {
    try {
      signal.throwIfAborted();
      const sessionId = this.#port.sessionId();
      // A session knows its agent.
      const where = sessionId === null ? {} : { sessionId, agentId: undefined };
      const place = await beginTurn(
        this.#client,
        { ...params, ...where, idempotencyKey: key },
        { signal, onState: (state) => this.#port.connection(state) },
      );
      this.#port.taken(key, place);
    } catch (error) {
      this.#port.dropped(key, signal.aborted ? null : asError(error));
    } finally {
      this.#unanswered.delete(key);
    }
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
