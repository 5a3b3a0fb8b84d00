/** Where a stream stands in its session's log, and what a chunk that arrives means for it. */
import { PositionExpired, type StreamErrorFields } from '../errors.js';
import type { JsonObject } from '../types.js';
import { asCount } from './messages.js';

/** What to do with a chunk: pass it on, drop it, or read again from the last good place. */
export type Verdict = 'new' | 'seen' | 'gap';

/** Holds the received chunks to the log's order: dense, each once. */
export class Sequence {
  /** Everything up to here has been received; undefined: the first chunk that arrives says. */
  last: number | undefined;

  constructor(last: number | undefined) {
    this.last = last;
  }

  /** The verdict on a chunk; `new` moves `last` to its position. */
  take(raw: JsonObject, position: number): Verdict {
    if (this.last !== undefined) {
      if (position <= this.last) return 'seen';
      // A merged chunk that begins before our place holds text that was passed on already, and
      // cannot be cut; the log has the parts, so reading again from our place helps.
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
    throw new PositionExpired(
      "the server's store was replaced, positions from before mean nothing",
      { ...place, details: { epoch: now } },
    );
  }
  return now ?? before;
}

/** Where a chunk begins: `from` for merged ones, else its own position. */
export function firstPosition(raw: JsonObject, position: number): number {
  const first = asCount(raw.from);
  return first && first <= position ? first : position;
}

/** A chunk's position from its data, else from its frame's own id; undefined for what is none. */
export function positionOf(raw: JsonObject, frameId = ''): number | undefined {
  return asCount(raw.position) || (/^\d{1,15}$/.test(frameId) && Number(frameId)) || undefined;
}

/**
 * Leaves out what stands in the log before a turn, for a stream that knows only its number.
 *
 * The log does not tell where a turn begins except by its own entries: the `done` of the turn before
 * it, and the first step, which carries the turn's number.
 */
export class TurnStart {
  found: boolean;
  readonly #turn: number;

  constructor(turn: number | undefined) {
    this.#turn = turn ?? 0;
    this.found = this.#turn <= 1;
  }

  /** What this chunk is part of: what stands before, the end of that, or the turn and what follows. */
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
