/** The order of chunks: positions, gaps, duplicates, epochs, and where a turn begins. */
import { PositionExpired, type StreamErrorFields } from '../errors.js';
import type { JsonObject } from '../types.js';
import { asCount } from './messages.js';

/** What to do with a chunk: pass it on, drop it, or read again from the last position. */
type Verdict = 'new' | 'seen' | 'gap';

/** Checks that received chunks are in the log's order: without gaps, each once. */
export class Sequence {
  /** The last position received; undefined: the first chunk that arrives sets it. */
  last: number | undefined;

  constructor(last: number | undefined) {
    this.last = last;
  }

  /** Judge a chunk; `new` moves `last` to its position. */
  take(raw: JsonObject, position: number): Verdict {
    if (this.last !== undefined) {
      if (position <= this.last) return 'seen';
      // A merged chunk that begins before `last` holds text that was passed on already and cannot
      // be cut. The log has the parts, so reading again from `last` helps.
      if (firstPosition(raw, position) !== this.last + 1) return 'gap';
    }
    this.last = position;
    return 'new';
  }
}

/**
 * Compare the epoch of a log with the one seen before; return the newest known. Throws
 * PositionExpired where they differ: the server's store was replaced.
 */
export function checkEpoch(
  before: string | undefined,
  now: string | undefined,
  place: StreamErrorFields,
): string | undefined {
  if (now && before && now !== before) {
    throw new PositionExpired("the server's store was replaced: earlier positions mean nothing", {
      ...place,
      details: { epoch: now },
    });
  }
  return now ?? before;
}

/** The first position of a chunk: `from` of a merged one, else its own position. */
export function firstPosition(raw: JsonObject, position: number): number {
  const first = asCount(raw.from);
  return first && first <= position ? first : position;
}

/** A chunk's position from its data, else from its frame's id; undefined if there is none. */
export function positionOf(raw: JsonObject, frameId = ''): number | undefined {
  return asCount(raw.position) || (/^\d{1,15}$/.test(frameId) && Number(frameId)) || undefined;
}

/**
 * Finds the start of a turn in the log, for a stream that knows only the turn's number.
 *
 * Two entries show where a turn begins: the `done` of the turn before it, and its first step, which
 * has the turn's number.
 */
export class TurnStart {
  found: boolean;
  readonly #turn: number;

  constructor(turn: number | undefined) {
    this.#turn = turn ?? 0;
    this.found = this.#turn <= 1;
  }

  /** Where a chunk belongs: before the turn, at its border, or to the turn and later ones. */
  part(raw: JsonObject): 'before' | 'border' | 'turn' {
    if (this.found) return 'turn';
    const turn = asCount(raw.turn);
    if (turn === undefined) return 'before';
    const border = raw.type === 'done' && turn === this.#turn - 1;
    this.found = border || turn >= this.#turn;
    if (border) return 'border';
    return this.found ? 'turn' : 'before';
  }
}
