/** Where a queue keeps what was not sent: in memory, or in the browser's own database. */
import type { QueuedExecute, QueueStorage } from '../types.js';

const STORE = 'executes';

export class MemoryStorage implements QueueStorage {
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

/** Pages of one origin that open the same name share what it holds. */
export class IndexedDbStorage implements QueueStorage {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase) {
    this.#database = database;
  }

  /** Rejects where the browser does not allow it, as some do in private windows. */
  static async open(name: string): Promise<IndexedDbStorage> {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'id' });
    const database = await outcome(request);
    // Another page that wants to delete or upgrade it must not wait for this one.
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
