import { throwLater } from '../platform.js';
import type { Chunk, DataChunk } from '../types.js';
import { HeldObservable } from './observable.js';

/** Hears of each `data` chunk as it comes. */
export type DataListener = (chunk: DataChunk) => void;

/** A state that is folded from chunks. Its listeners hear of application data that no state keeps. */
export abstract class ChunkObservable<S> extends HeldObservable<S> {
  readonly #listeners = new Set<{ readonly tell: DataListener }>();

  /**
   * Calls `listener` with each `data` chunk that is read from now on, also the transient ones. Returns
   * the function that ends it.
   */
  readonly onData = (listener: DataListener): (() => void) => {
    const entry = { tell: listener };
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  };

  protected tell(chunk: Chunk): void {
    if (chunk.type !== 'data') return;
    for (const listener of [...this.#listeners]) {
      try {
        listener.tell(chunk);
      } catch (error) {
        // An error of the page must not end the reading, and must still be reported.
        throwLater(error);
      }
    }
  }
}
