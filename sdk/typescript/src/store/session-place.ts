import { makeError, StreamError } from '../errors.js';
import type { UnsentGoal } from './outbox.js';
import type { KeptTurn } from './snapshots.js';

/** Where a session's place is kept: `sessionStorage`, `localStorage`, or anything like them. */
export interface PlaceStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/**
 * The browser's storage of this name, or the given one. Null on a server, and in a browser whose
 * user forbids storage.
 */
export function placeStorage(
  wanted: 'session' | 'local' | PlaceStorage | undefined,
): PlaceStorage | null {
  if (typeof wanted === 'object' || wanted === undefined) return wanted ?? null;
  try {
    return (wanted === 'session' ? globalThis.sessionStorage : globalThis.localStorage) ?? null;
  } catch (error) {
    if (isDenied(error)) return null;
    throw error;
  }
}

/** A session as a page showed it when the page was left. */
interface SessionPlace {
  readonly position: number;
  readonly turns: readonly KeptTurn[];
  /** Where the messages go on that were not shown yet; null if all were. */
  readonly older: string | null;
  /** Goals that the server has not taken, by idempotency key. */
  readonly sends: Readonly<Record<string, UnsentGoal>>;
}

/** UTF-16 units; a longer place is not kept, and the session is read from its start again. */
const MAX_SIZE = 256 * 1024;
const VERSION = 2;

/** One session's place in a storage. A place that cannot be stored or read counts as missing. */
export class PlaceKeeper {
  readonly #storage: PlaceStorage;
  readonly #name: string;

  constructor(storage: PlaceStorage, sessionId: string) {
    this.#storage = storage;
    this.#name = `resonantgenesis:session:${sessionId}`;
  }

  read(): SessionPlace | null {
    const text = this.#storage.getItem(this.#name);
    const place = text === null ? null : parse(text);
    if (text !== null && place === null) this.#storage.removeItem(this.#name);
    return place;
  }

  write(place: SessionPlace): void {
    const turns = place.turns.map(withoutViews);
    const value = JSON.stringify({ ...place, version: VERSION, turns });
    if (value.length > MAX_SIZE || !this.#fits(value)) this.#storage.removeItem(this.#name);
  }

  #fits(value: string): boolean {
    try {
      this.#storage.setItem(this.#name, value);
      return true;
    } catch (error) {
      if (isDenied(error)) {
        return false; // it is full
      }
      throw error;
    }
  }
}

/** Whether the browser refused the access. */
function isDenied(error: unknown): boolean {
  // Without this class there is no browser.
  return typeof DOMException === 'function' && error instanceof DOMException;
}

/** The turn without what follows from its parts. Errors have no JSON of their own. */
function withoutViews(turn: KeptTurn): object {
  const views = { content: undefined, toolCalls: undefined, steps: undefined, waiting: undefined };
  if (turn.error === null) return { ...turn, ...views };
  const { message } = turn.error;
  const { code, retryable, retryAfter } = turn.error instanceof StreamError ? turn.error : NO_CODE;
  return { ...turn, ...views, error: { message, code, retryable, retryAfter } };
}

const NO_CODE = { code: 'INTERNAL', retryable: false, retryAfter: undefined };

interface SavedTurn extends Omit<KeptTurn, 'error'> {
  readonly error: { code: string; message: string; retryable: boolean; retryAfter?: number } | null;
}

/** Null for a text that is not a place of this version. */
function parse(text: string): SessionPlace | null {
  let value: Omit<SessionPlace, 'turns'> & { version: number; turns: readonly SavedTurn[] };
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
  if (value?.version !== VERSION || !Array.isArray(value.turns)) return null;
  const turns = value.turns.map(({ error, ...turn }) => ({
    ...turn,
    error: error === null ? null : makeError(error.code, error.message, error),
  }));
  return { ...value, turns };
}
