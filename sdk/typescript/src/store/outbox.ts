import { KEY_WINDOW_MS } from '../core/messages.js';
import { InternalError, NotFound } from '../errors.js';
import { throwIfAborted } from '../platform.js';
import type { ConnectionState, ExecuteStreamParams, StreamControls } from '../types.js';
import type { SendParams } from './snapshots.js';
import type { StreamClient } from './stream-client.js';

/** A turn that the server has accepted. */
interface AcceptedTurn {
  readonly sessionId: string;
  readonly turn: number;
}

/**
 * Start a turn and leave it running; its chunks are read elsewhere.
 *
 * Throws the StreamError of a refusal, and the reason of the signal when that aborts.
 */
export async function beginTurn(
  client: StreamClient,
  params: ExecuteStreamParams,
  controls: StreamControls,
): Promise<AcceptedTurn> {
  const stream = await client.sessions.executeStream(params, controls);
  const { sessionId, turn } = stream;
  await stream.close();
  if (sessionId === undefined || turn === undefined) {
    throw new InternalError('the server did not name the turn');
  }
  return { sessionId, turn };
}

/** Cancel the turn of an idempotency key, if there is one. */
export async function cancelByKey(client: StreamClient, idempotencyKey: string): Promise<void> {
  try {
    await client.sessions.cancel({ idempotencyKey });
  } catch (error) {
    if (!(error instanceof NotFound)) throw error;
    // The server does not know the key.
  }
}

/** Milliseconds in which a goal may be sent again: an hour is left for clocks and queues. */
const RESEND_WINDOW_MS = KEY_WINDOW_MS - 3_600_000;

/** A goal and its parameters. */
export interface UnsentGoal {
  readonly goal: string;
  readonly params: SendParams;
  /** When it was given, in milliseconds. */
  readonly at: number;
}

/** The session that an `Outbox` sends to. */
interface OutboxPort {
  /** Null until the first goal has made the session. */
  sessionId(): string | null;
  taken(key: string, place: AcceptedTurn): void;
  /** The goal was refused (`error`) or withdrawn (null). */
  dropped(key: string, error: Error | null): void;
  connection(state: ConnectionState): void;
}

/** Sends goals one after another, so that a session has them in the order in which they were given. */
export class Outbox {
  readonly #client: StreamClient;
  readonly #port: OutboxPort;
  readonly #sends = new Map<string, UnsentGoal>();
  readonly #unanswered = new Map<string, AbortController>();
  #last: Promise<void> = Promise.resolve();

  constructor(client: StreamClient, port: OutboxPort) {
    this.#client = client;
    this.#port = port;
  }

  /** Goals that were neither accepted nor withdrawn, by idempotency key. */
  get sends(): Readonly<Record<string, UnsentGoal>> {
    return Object.fromEntries(this.#sends);
  }

  /** The goal of this key, if it may be sent again as the same turn. */
  again(key: string): UnsentGoal | undefined {
    const send = this.#sends.get(key);
    return send !== undefined && Date.now() - send.at < RESEND_WINDOW_MS ? send : undefined;
  }

  /** Take over a goal that an earlier page did not send. */
  keep(key: string, send: UnsentGoal): void {
    this.#sends.set(key, send);
  }

  /** Resolves when the goal was taken, refused or withdrawn, after a call of the port. Never rejects. */
  send(key: string, send: UnsentGoal): Promise<void> {
    const abort = new AbortController();
    this.#sends.set(key, send);
    this.#unanswered.set(key, abort);
    this.#last = this.#last.then(() => this.#send(key, send, abort));
    return this.#last;
  }

  /**
   * Withdraw goals that the server has not answered, and cancel those that it has accepted. Rejects
   * with a StreamError if the server cannot be reached.
   */
  async withdraw(): Promise<void> {
    const keys = [...this.#unanswered.keys()];
    for (const abort of this.#unanswered.values()) abort.abort();
    await Promise.all(keys.map((idempotencyKey) => cancelByKey(this.#client, idempotencyKey)));
  }

  async #send(
    idempotencyKey: string,
    { goal, params }: UnsentGoal,
    { signal }: AbortController,
  ): Promise<void> {
    try {
      throwIfAborted(signal);
      const sessionId = this.#port.sessionId();
      // A session knows its agent.
      const where = sessionId === null ? {} : { sessionId, agentId: undefined };
      const place = await beginTurn(
        this.#client,
        { ...params, ...where, goal, idempotencyKey },
        { signal, onState: (state) => this.#port.connection(state) },
      );
      this.#sends.delete(idempotencyKey);
      this.#port.taken(idempotencyKey, place);
    } catch (error) {
      this.#dropped(idempotencyKey, signal.aborted ? null : asError(error));
    } finally {
      this.#unanswered.delete(idempotencyKey);
    }
  }

  #dropped(key: string, error: Error | null): void {
    if (error === null) {
      // Its key may name a cancelled turn by now.
      this.#sends.delete(key);
    }
    this.#port.dropped(key, error);
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
