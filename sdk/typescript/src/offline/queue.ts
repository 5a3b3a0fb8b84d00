/** `client.offlineQueue()`: executes that wait for a network, sent in order when it is there. */

import { asCount, asText, KEY_WINDOW_MS, newKey, snake } from '../core/messages.js';
import { detachedExecute } from '../core/session-request.js';
import { AuthenticationError, InvalidRequest, StreamError } from '../errors.js';
import { isOffline, notifyAll, pause } from '../platform.js';
import type { Transport } from '../transport.js';
import type { ExecuteParams, OfflineQueueOptions, QueuedExecute, QueueStorage } from '../types.js';

/** Seconds between attempts when the server cannot be reached. */
const REST = 5;
/** The largest body that a server takes, in characters (PROTOCOL.md, section 9). */
const MAX_SIZE = 1024 * 1024;

/** Opens the queue, with the items of earlier pages. */
export async function openQueue(
  transport: Transport,
  options: OfflineQueueOptions,
): Promise<OfflineQueue> {
  const { storage, name = 'resonantgenesis-offline', maxItems = 100, onChange } = options;
  const queue = new OfflineQueue(transport, await storageOf(transport, storage, name), maxItems);
  if (onChange) queue.subscribe(onChange);
  await queue.start();
  return queue;
}

async function storageOf(
  transport: Transport,
  storage: OfflineQueueOptions['storage'],
  name: string,
): Promise<QueueStorage> {
  if (typeof storage === 'object') return storage;
  if (storage === 'memory' || !('indexedDB' in globalThis)) return new MemoryStorage();
  try {
    return await IndexedDbStorage.open(name);
  } catch (error) {
    transport.settings.log('warn', `the offline queue is kept in memory only: ${error}`);
    return new MemoryStorage();
  }
}

/**
 * Sends executes one after the other, in the order in which they were added. Each has its own
 * Idempotency-Key, so that its turn starts once, however often the network breaks. A sent item leaves
 * the storage; `sessions.join(item.sessionId, { turn: item.turn })` shows its answer.
 */
export class OfflineQueue {
  readonly #transport: Transport;
  readonly #storage: QueueStorage;
  readonly #maxItems: number;
  readonly #listeners = new Set<(items: readonly QueuedExecute[]) => void>();
  readonly #stop = new AbortController();
  #resting: AbortController | undefined;
  #work: Promise<void> | undefined;
  #items: readonly QueuedExecute[] = [];
  #waiting: QueuedExecute[] = [];
  #sent: QueuedExecute[] = [];
  #sending: string | undefined;
  #newest = 0;

  constructor(transport: Transport, storage: QueueStorage, maxItems: number) {
    this.#transport = transport;
    this.#storage = storage;
    this.#maxItems = maxItems;
  }

  /** Oldest first; a new array after each change. */
  get items(): readonly QueuedExecute[] {
    return this.#items;
  }

  /** Calls back on each change, until the returned function is called. */
  readonly subscribe = (listener: (items: readonly QueuedExecute[]) => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Reads the storage and sends its items. */
  async start(): Promise<void> {
    await this.#refresh();
    this.flush();
  }

  /**
   * Adds an execute, which is sent as soon as there is a network. A further turn of a session waits
   * for the running turn, unless `ifBusy` says otherwise. Throws InvalidRequest if the queue is full.
   */
  async add(params: ExecuteParams): Promise<QueuedExecute> {
    const { idempotencyKey = newKey(), ...fields } = params;
    const text = JSON.stringify({ ...(fields.sessionId && { ifBusy: 'enqueue' }), ...fields });
    if (text.length > MAX_SIZE) {
      throw new InvalidRequest('the execute is too large', { code: 'PAYLOAD_TOO_LARGE' });
    }
    const waiting = await this.#storage.load();
    if (waiting.length >= this.#maxItems) {
      throw new InvalidRequest(`the queue is full: ${waiting.length} executes wait in it`);
    }
    return this.#put(idempotencyKey, JSON.parse(text));
  }

  /** Sends a stale or refused item again, as a new item. */
  async retry(id: string): Promise<QueuedExecute | undefined> {
    const item = this.#items.find((one) => one.id === id);
    if (item?.status !== 'stale' && item?.status !== 'failed') return undefined;
    await this.#storage.delete(id);
    return this.#put(newKey(), item.params);
  }

  /** Forgets an item. An item that is being sent may still reach the server. */
  async remove(id: string): Promise<void> {
    this.#sent = this.#sent.filter((item) => item.id !== id);
    await this.#storage.delete(id);
    await this.#refresh();
  }

  /** Forgets all. */
  async clear(): Promise<void> {
    this.#sent = [];
    for (const { id } of await this.#storage.load()) await this.#storage.delete(id);
    await this.#refresh();
  }

  /** Tries now instead of later. */
  flush(): void {
    this.#resting?.abort();
    if (this.#stop.signal.aborted || this.#work) return;
    this.#work = this.#run()
      .catch((error) =>
        this.#transport.settings.log('error', `the offline queue stopped: ${error}`),
      )
      .finally(() => {
        this.#work = undefined;
      });
  }

  /** Sends no more. The items stay in the storage. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#resting?.abort();
    await this.#work;
  }

  async #put(id: string, params: ExecuteParams): Promise<QueuedExecute> {
    // Items are ordered by time, so no two times are equal.
    this.#newest = Math.max(Date.now(), this.#newest + 1);
    const item: QueuedExecute = { id, params, createdAt: this.#newest, status: 'queued' };
    await this.#storage.put(item);
    await this.#refresh();
    this.flush();
    return item;
  }

  /** Sends until no item is left. */
  async #run(): Promise<void> {
    for (;;) {
      await this.#refresh();
      const item = this.#items.find(({ status }) => status === 'queued');
      if (!item || this.#stop.signal.aborted) return;
      if (Date.now() - item.createdAt > KEY_WINDOW_MS) {
        await this.#storage.put({ ...item, status: 'stale' });
      } else if (isOffline()) {
        await this.#rest(REST);
      } else {
        await this.#send(item);
      }
    }
  }

  async #send(item: QueuedExecute): Promise<void> {
    const request = detachedExecute(snake(item.params), item.id);
    this.#sending = item.id;
    this.#show();
    try {
      const raw = await this.#transport.call(request, this.#stop.signal);
      const sessionId = asText(raw.session_id) ?? '';
      const sent: QueuedExecute = {
        ...item,
        status: 'sent',
        sessionId,
        turn: asCount(raw.turn) ?? 0,
      };
      this.#sent = [...this.#sent, sent].slice(-this.#maxItems);
      await this.#storage.delete(item.id);
    } catch (error) {
      if (!this.#stop.signal.aborted) await this.#failed(item, error);
    } finally {
      this.#sending = undefined;
    }
  }

  async #failed(item: QueuedExecute, error: unknown): Promise<void> {
    if (!(error instanceof StreamError)) throw error;
    this.#sending = undefined;
    // A user who has to log in again must not lose earlier items.
    if (error.retryable || error instanceof AuthenticationError) {
      const resting = this.#rest(Math.max(REST, error.retryAfter ?? 0), error.retryAfter);
      this.#show();
      await resting;
      return;
    }
    const { code, message, retryable } = error;
    await this.#storage.put({ ...item, status: 'failed', error: { code, message, retryable } });
  }

  /** Waits, but not for longer than the network is away, and not when it is told to go on. */
  async #rest(limit: number, least = 0): Promise<void> {
    this.#resting = new AbortController();
    await pause(limit, this.#resting.signal, { least, patient: true });
    this.#resting = undefined;
  }

  /** The storage decides: other pages may have added or sent items. */
  async #refresh(): Promise<void> {
    this.#waiting = (await this.#storage.load()).sort((a, b) => a.createdAt - b.createdAt);
    this.#newest = Math.max(this.#newest, this.#waiting.at(-1)?.createdAt ?? 0);
    this.#show();
  }

  #show(): void {
    const waiting = this.#waiting.map(
      (item): QueuedExecute => (item.id === this.#sending ? { ...item, status: 'sending' } : item),
    );
    const items = [...this.#sent, ...waiting].sort((a, b) => a.createdAt - b.createdAt);
    if (JSON.stringify(items) === JSON.stringify(this.#items)) return;
    this.#items = items;
    notifyAll(this.#listeners, items);
  }
}

const STORE = 'executes';

class MemoryStorage implements QueueStorage {
  readonly #items = new Map<string, QueuedExecute>();

  async load(): Promise<QueuedExecute[]> {
    return [...this.#items.values()];
  }

  async put(item: QueuedExecute): Promise<void> {
    this.#items.set(item.id, item);
  }

  async delete(id: string): Promise<void> {
    this.#items.delete(id);
  }
}

/** Pages of one origin that open the same name share its items. */
class IndexedDbStorage implements QueueStorage {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  /** Rejects where the browser does not allow it, as some do in private windows. */
  static async open(name: string): Promise<IndexedDbStorage> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'id' });
    const database = await outcome(request);
    // Another page that deletes or upgrades the database must not wait for this page.
    database.onversionchange = () => database.close();
    return new IndexedDbStorage(database);
  }

  load(): Promise<QueuedExecute[]> {
    return outcome(this.#store('readonly').getAll());
  }

  async put(item: QueuedExecute): Promise<void> {
    await outcome(this.#store('readwrite').put(item));
  }

  async delete(id: string): Promise<void> {
    await outcome(this.#store('readwrite').delete(id));
  }

  #store(mode: IDBTransactionMode): IDBObjectStore {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }
}

function outcome<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
