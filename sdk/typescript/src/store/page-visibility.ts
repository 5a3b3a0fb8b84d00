/** Milliseconds after which a change is published without a frame: hidden tabs have no frames. */
const UNDRAWN = 250;
/** Milliseconds between two publications where there are no frames (a server, a worker). */
const UNSEEN = 16;

/**
 * Call `callback` once: before the next frame, or soon where there are no frames.
 *
 * Returns a function that cancels the call.
 */
export function nextFrame(callback: () => void): () => void {
  if (typeof requestAnimationFrame !== 'function' || isHidden()) {
    const timer = setTimeout(callback, UNSEEN);
    return () => clearTimeout(timer);
  }
  const callOff = (): void => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
  };
  const run = (): void => {
    callOff();
    callback();
  };
  const frame = requestAnimationFrame(run);
  // A tab that is hidden between this call and the frame would otherwise wait until it is seen.
  const timer = setTimeout(run, UNDRAWN);
  return callOff;
}

/** Whether this is a hidden page. */
export function isHidden(): boolean {
  return typeof document !== 'undefined' && document.visibilityState === 'hidden';
}

/** Calls back when the page may be about to end: it is hidden, left or loaded again. Returns what stops that. */
export function whenLeft(callback: () => void): () => void {
  // A document alone is no page: some packages for React Native bring a half of one.
  if (typeof document === 'undefined' || typeof addEventListener !== 'function') {
    return () => undefined;
  }
  const hidden = (): void => {
    if (document.visibilityState === 'hidden') callback();
  };
  addEventListener('pagehide', callback);
  document.addEventListener?.('visibilitychange', hidden);
  return () => {
    removeEventListener('pagehide', callback);
    document.removeEventListener?.('visibilitychange', hidden);
  };
}
