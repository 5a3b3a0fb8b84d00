/** Polling in place of a stream: which request is next, and what its answer means. */

import { errorFromAnswer } from './answers.js';
import type { Action } from './core/actions.js';
import type { ChunkBuffer } from './core/chunk-buffer.js';
import { type Answer, asCount, asObject, asText, isObject, type Request } from './core/messages.js';
import { firstPosition, positionOf } from './core/sequence.js';
import type { SessionRequests } from './core/session-request.js';
import type { JsonObject } from './types.js';

/** Seconds between polls that find something: 240 a minute, well below the usual 600 per key. */
export const PACE = 0.25;

type Next = Action<never> | undefined;

/** Names the session and the place first, where they are not known, then reads on from there. */
export class Poller {
  readonly #requests: SessionRequests;
  readonly #buffer: ChunkBuffer;
  readonly #clock: () => number;
  #turnStart: TurnStart | undefined;
  #after = 0;
  #askedAt = 0;
  #over = false;
  #read: (body: JsonObject) => Next = (body) => this.#polled(body);

  constructor(requests: SessionRequests, buffer: ChunkBuffer, clock: () => number) {
    this.#requests = requests;
    this.#buffer = buffer;
    this.#clock = clock;
  }

  /** The next request. */
  request(): Request {
    const requests = this.#requests;
    if (requests.unnamed) {
      this.#read = (body) => this.#named(body);
      return requests.detached();
    }
    const last = this.#buffer.last;
    if (!this.#turnStart) {
      const turn = requests.target ?? requests.resumePoint.turn;
      if (last === undefined && turn === undefined) {
        this.#read = (body) => this.#shown(body);
        return requests.snapshot();
      }
      this.#turnStart = new TurnStart(last === undefined ? turn : undefined);
    }
    // Not what was polled last: after a gap the same place is asked for again.
    this.#after = last ?? this.#after;
    this.#read = (body) => this.#polled(body);
    this.#askedAt = this.#clock();
    return requests.poll(this.#after, !this.#over);
  }

  /** What follows from an answer; undefined if it is not the one asked for. */
  answer(answer: Answer): Next {
    if (answer.status >= 200 && answer.status < 300) return this.#read(asObject(answer.body));
    if (this.#turnStart && !this.#turnStart.found) {
      // Before the turn's start is found, what was trimmed is not ours: go on behind it.
      const earliest = asCount(errorFromAnswer(answer).details.earliest) ?? 0;
      if (earliest - 1 > this.#after) {
        this.#after = earliest - 1;
        return { do: 'wait', seconds: 0 };
      }
    }
    return undefined;
  }

  #named(body: JsonObject): Next {
    const sessionId = asText(body.session_id);
    const turn = asCount(body.turn);
    if (!sessionId || !turn) return undefined;
    this.#requests.resumePoint.sessionId = sessionId;
    this.#requests.resumePoint.turn = turn;
    return { do: 'wait', seconds: 0 };
  }

  #shown(body: JsonObject): Next {
    if (!Object.keys(body).length) return undefined;
    this.#turnStart = new TurnStart(asCount(body.turn) ?? asCount(body.turns));
    return { do: 'wait', seconds: 0 };
  }

  #polled({ events, done }: JsonObject): Next {
    if (!Array.isArray(events) || !events.every(isObject)) return undefined;
    for (const raw of events) {
      this.#take(raw);
      if (this.#buffer.complete) return { do: 'finish' };
    }
    // What is over needs one more look, for there may be more pages, but no waiting.
    this.#over = done === true && !this.#requests.follow;
    if (this.#over && !events.length) return { do: 'finish' };
    return { do: 'wait', seconds: Math.max(0, PACE - (this.#clock() - this.#askedAt)) };
  }

  #take(raw: JsonObject): void {
    const position = positionOf(raw);
    if (!position) return;
    const before = this.#after;
    this.#after = Math.max(before, position);
    if (!this.#turnStart || this.#turnStart.found) {
      this.#buffer.take(raw, position);
    } else if (firstPosition(raw, position) > before + 1) {
      // What is missing may be the very entry that tells where the turn begins.
      this.#after = before;
      throw this.#buffer.lost(`chunks before position ${position} are missing`);
    } else {
      const part = this.#turnStart.part(raw);
      if (part === 'turn') this.#buffer.take(raw, position);
      // What follows the end of the turn before it must be its very next.
      if (part === 'border') this.#buffer.begin(position);
    }
  }
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
