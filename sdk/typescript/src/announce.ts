/** Tells all listeners. One that throws harms no other: its error is an uncaught one of its own. */
export function notifyAll<T>(listeners: Iterable<(value: T) => void>, value: T): void {
  for (const listener of listeners) {
    try {
      listener(value);
    } catch (error) {
      throwLater(error);
    }
  }
}

/** Throws once nothing else is under way, where nobody but the platform hears it. */
export function throwLater(error: unknown): void {
  (globalThis.queueMicrotask ?? setTimeout)(() => {
    throw error;
  });
}
