/** Differences between browsers, Node, Deno, Bun and edge runtimes; waiting and time-outs. */
import { ConnectionLost, InvalidRequest } from './errors.js';

/** The result of `withTimeout` when the time was up first. */
export const TIMED_OUT = Symbol('late');

type Wake = 'online' | 'offline' | 'visible';

interface Surroundings {
  navigator?: { onLine?: boolean; product?: string };
  performance?: { now(): number };
  document?: EventTarget & { visibilityState?: string };
  addEventListener?: EventTarget['addEventListener'];
  removeEventListener?: EventTarget['removeEventListener'];
  process?: { env?: Record<string, string | undefined> };
}

const world = globalThis as unknown as Surroundings;

/** Whether the browser reports that there is no network; false elsewhere. */
export function isOffline(): boolean {
  return world.navigator?.onLine === false;
}

/** Report when the network comes or goes, and when a hidden page becomes visible. */
export function onWake(listener: (what: Wake) => void): () => void {
  const { document } = world;
  const online = () => listener('online');
  const offline = () => listener('offline');
  const visible = () => {
    if (document?.visibilityState !== 'hidden') listener('visible');
  };
  world.addEventListener?.('online', online);
  world.addEventListener?.('offline', offline);
  document?.addEventListener?.('visibilitychange', visible);
  return () => {
    world.removeEventListener?.('online', online);
    world.removeEventListener?.('offline', offline);
    document?.removeEventListener?.('visibilitychange', visible);
  };
}

/** Whether the platform's own `fetch` gives a body as it comes: React Native's does at its end. */
export function canStream(): boolean {
  return typeof ReadableStream === 'function' && world.navigator?.product !== 'ReactNative';
}

/** Throws InvalidRequest where the platform has no ReadableStream. */
export function requireStreams(): void {
  if (typeof ReadableStream !== 'function') {
    throw new InvalidRequest('this needs ReadableStream, which is missing here');
  }
}

/** Seconds, from anywhere on. */
export function now(): number {
  return (world.performance ?? Date).now() / 1000;
}

/** As `signal.throwIfAborted()`, which not every platform's signals have; nor do all have a reason. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason ?? abortError();
}

export function abortError(): Error {
  return Object.assign(new Error('the operation was aborted'), { name: 'AbortError' });
}

/** A variable of the process, where there is one and it may be read. */
export function variable(name: string): string | undefined {
  try {
    return world.process?.env?.[name];
  } catch {
    // Deno asks for a permission, and somebody has refused it.
    return undefined;
  }
}

/** The outcome of `work`, or TIMED_OUT after so many seconds. */
export async function withTimeout<T>(
  limit: number,
  work: Promise<T>,
): Promise<T | typeof TIMED_OUT> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<typeof TIMED_OUT>((resolve) => {
    timer = setTimeout(resolve, limit * 1000, TIMED_OUT);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits `limit` seconds, or until `signal` aborts. Network that comes back, or a page that is
 * looked at again, ends it early, though not before `least` seconds. With `patient` it lasts for as
 * long as the browser is offline, since trying would be in vain.
 */
export function pause(
  limit: number,
  signal?: AbortSignal,
  { least = 0, patient = false } = {},
): Promise<void> {
  return new Promise((resolve) => {
    const begun = Date.now();
    let timer: ReturnType<typeof setTimeout>;
    const arm = (rest: number) => {
      clearTimeout(timer);
      timer = setTimeout(due, rest * 1000);
    };
    const end = () => {
      clearTimeout(timer);
      forget();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    // A browser that forgets to say that it is online again is asked now and then.
    const due = () => (patient && isOffline() ? arm(5) : end());
    const forget = onWake((what) => {
      if (what !== 'offline') arm(Math.max(0, least - (Date.now() - begun) / 1000));
    });
    arm(limit);
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
  });
}

/**
 * Loads code that only some pages need. Without a network there is none to be had, unless the
 * browser has it already: with `patient` it is waited for, and tried again.
 */
export async function load<T>(from: () => Promise<T>, patient: boolean): Promise<T> {
  for (let attempts = patient ? 3 : 1; ; attempts -= 1) {
    if (patient && isOffline()) await pause(0, undefined, { patient });
    try {
      return await from();
    } catch (cause) {
      if (attempts <= 1)
        throw new ConnectionLost('a part of the SDK could not be loaded', { cause });
      await pause(1);
    }
  }
}

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
