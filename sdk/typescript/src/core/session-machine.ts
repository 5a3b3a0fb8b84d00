/**
 * The stream of a session's chunks as a machine without I/O.
 *
 * Each chunk is passed on once, in order. After a gap the machine reads again from the last position.
 * `reconnector.ts` has the rules of connections.
 */

import { ConnectionLost, type StreamError } from '../errors.js';
import type { Chunk, JsonObject } from '../types.js';
import type { Action } from './actions.js';
import { ChunkBuffer } from './chunk-buffer.js';
import {
  type Answer,
  asCount,
  asObject,
  asText,
  camel,
  errorFromAnswer,
  errorFromChunk,
  isObject,
  type Request,
} from './messages.js';
import { PACE, Reconnector, type ReconnectRules } from './reconnector.js';
import { checkEpoch, firstPosition, positionOf, TurnStart } from './sequence.js';
import type { ResumePoint, SessionRequests } from './session-request.js';

/** Chunks of one session. */
export class SessionMachine extends Reconnector<Chunk> {
  readonly #requests: SessionRequests;
  readonly #buffer: ChunkBuffer;
  readonly #poller: Poller;

  constructor(requests: SessionRequests, rules: ReconnectRules) {
    const buffer = new ChunkBuffer(requests, rules.maxEvent);
    super(rules, buffer, requests.options.recalled);
    this.#requests = requests;
    this.#buffer = buffer;
    this.#poller = new Poller(requests, buffer, rules.clock);
  }

  /** Where the caller stands in the stream. */
  get resumePoint(): ResumePoint {
    return this.#requests.resumePoint;
  }

  /** Whether the session is named, and chunks are there or awaited. */
  override get opened(): boolean {
    return super.opened || (this.polling && !this.#requests.unnamed);
  }

  protected deliver(): Action<Chunk> {
    const ready = this.#buffer.ready;
    const raw = ready.shift() ?? {};
    const resumePoint = this.resumePoint;
    resumePoint.position = raw.position as number;
    if (raw.type === 'error' && this.#requests.options.raiseOnError !== false) {
      // The turn has failed for good: only its `done` would follow.
      ready.length = 0;
      return this.finish(errorFromChunk(raw, resumePoint));
    }
    return { do: 'emit', item: camel(raw) };
  }

  protected streamRequest(): Request {
    return this.#requests.open(this.#buffer.last);
  }

  protected pollRequest(): Request {
    return this.#poller.request();
  }

  /** Learn session, turn and epoch. Throws PositionExpired if the epoch has changed. */
  protected meet(headers: Headers): void {
    const resumePoint = this.resumePoint;
    resumePoint.sessionId ||= headers.get('x-session-id') ?? undefined;
    const turn = asCount(Number(headers.get('x-turn')));
    if (turn && (!this.#requests.body || !resumePoint.turn)) resumePoint.turn = turn;
    const { sessionId, position } = resumePoint;
    const epoch = headers.get('x-log-epoch') ?? undefined;
    resumePoint.epoch = checkEpoch(resumePoint.epoch, epoch, { sessionId, position });
  }

  protected ended(): Action<Chunk> {
    const { atDone, atStop, fresh } = this.#buffer;
    const mayEnd = atStop || (atDone && this.#requests.target === undefined);
    if (mayEnd && !this.#requests.options.follow) {
      // The server ends a join when no turn runs or waits for its start, or where the turn waits for
      // answers; a draining server ends it earlier, and an answer may just have come. One more request
      // tells which (204).
      return fresh ? this.connect() : { do: 'finish' };
    }
    throw this.lost('the stream ended before its turn did');
  }

  protected polled(answer: Answer): Action<Chunk> | undefined {
    this.meet(answer.headers);
    return this.#poller.answer(answer);
  }

  protected override refused(answer: Answer): Action<Chunk> {
    return answer.status === 204 ? { do: 'finish' } : super.refused(answer);
  }

  protected locate(error: StreamError): void {
    const received = error instanceof ConnectionLost;
    error.sessionId = this.resumePoint.sessionId;
    error.position = received ? this.#buffer.last : this.resumePoint.position;
  }
}

type Next = Action<never> | undefined;

/** Polls a session. Asks for the session's name and the start first if they are not known. */
class Poller {
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
    // The position received, not the one polled last: after a gap the same place is polled again.
    this.#after = last ?? this.#after;
    this.#read = (body) => this.#polled(body);
    this.#askedAt = this.#clock();
    return requests.poll(this.#after, !(this.#over || this.#waits));
  }

  /** The action after an answer; undefined if the answer is not the expected one. */
  answer(answer: Answer): Next {
    if (answer.status >= 200 && answer.status < 300) return this.#read(asObject(answer.body));
    if (this.#turnStart && !this.#turnStart.found) {
      // Until the turn's start is found, trimmed chunks are not of this turn: continue behind them.
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

  #polled({ events, done, status }: JsonObject): Next {
    if (!Array.isArray(events) || !events.every(isObject)) return undefined;
    if (status === 'waiting' && !events.length && this.#waits) return { do: 'finish' };
    for (const raw of events) {
      this.#take(raw);
      if (this.#buffer.complete) return { do: 'finish' };
    }
    // After the end there may be more pages: poll once more, without waiting.
    this.#over = done === true && !this.#requests.options.follow;
    if (this.#over && !events.length) return { do: 'finish' };
    return { do: 'wait', seconds: Math.max(0, PACE - (this.#clock() - this.#askedAt)) };
  }

  /** Whether nothing follows until somebody answers what the turn asks. */
  get #waits(): boolean {
    return this.#buffer.atStop && !this.#requests.options.follow;
  }

  #take(raw: JsonObject): void {
    const position = positionOf(raw);
    if (!position) return;
    const before = this.#after;
    this.#after = Math.max(before, position);
    if (!this.#turnStart || this.#turnStart.found) {
      this.#buffer.take(raw, position);
    } else if (firstPosition(raw, position) > before + 1) {
      // The missing entry may be the one that shows where the turn begins.
      this.#after = before;
      throw this.#buffer.lost(`chunks before position ${position} are missing`);
    } else {
      const part = this.#turnStart.part(raw);
      if (part === 'turn') this.#buffer.take(raw, position);
      // The turn begins right behind the end of the turn before it.
      if (part === 'border') this.#buffer.begin(position);
    }
  }
}
