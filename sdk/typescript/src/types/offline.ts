/** Executes that wait for the network. */
import type { ErrorInfo } from './chunks.js';
import type { ExecuteParams } from './streams.js';

/**
 * `queued`: waits for its turn; `sending`: is on its way; `sent`: the server has it, `sessionId` and
 * `turn` name it; `failed`: the server refused it, `error` says why; `stale`: older than the server's
 * memory of its key, so that sending it might start the turn a second time: `retry` it or `remove` it.
 */
export type QueuedStatus = 'queued' | 'sending' | 'sent' | 'failed' | 'stale';

export interface QueuedExecute {
  /** Its Idempotency-Key. */
  readonly id: string;
  readonly params: ExecuteParams;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly status: QueuedStatus;
  readonly sessionId?: string;
  readonly turn?: number;
  readonly error?: ErrorInfo;
}

/** Where what was not sent is kept. */
export interface QueueStorage {
  load(): Promise<QueuedExecute[]>;
  put(item: QueuedExecute): Promise<void>;
  delete(id: string): Promise<void>;
}

export interface OfflineQueueOptions {
  /** `indexeddb` where there is one, so that a closed page loses nothing; else `memory`. */
  storage?: 'indexeddb' | 'memory' | QueueStorage | undefined;
  /** Of the database: pages of one origin with the same name share a queue. */
  name?: string | undefined;
  /** How many may wait; 100 by default. */
  maxItems?: number | undefined;
  /** Told of each change. */
  onChange?: ((items: readonly QueuedExecute[]) => void) | undefined;
}
