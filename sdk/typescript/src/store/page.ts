/** Calls back when the page may be about to end: it is hidden, left or loaded again. Returns what stops that. */
export function whenLeft(callback: () => void): () => void {
  // A document alone is no page: some packages for React Native bring a half of one.
  if (typeof document === 'undefined' || typeof addEventListener !== 'function') {
    return () => undefined;
  }
  const hidden = (): void => {
    if (document.visibilityState === 'hidden') {
      callback();
    }
  };
  addEventListener('pagehide', callback);
  document.addEventListener?.('visibilitychange', hidden);
  return () => {
    removeEventListener('pagehide', callback);
    document.removeEventListener?.('visibilitychange', hidden);
  };
}
