/**
 * A session stream's life as a machine without I/O.
 *
 * A chunk is passed on once, in order; anything missing means reading again from the last good
 * place. The rules of connections are link.ts's.
 */

import { errorFromChunk } from '../answers.js';
import { ConnectionLost, PositionExpired, type StreamError } from '../errors.js';
import { camel } from '../names.js';
import { Poller } from '../polling.js';
import type { Chunk } from '../types.js';
import type { Action } from './actions.js';
import { ChunkBuffer } from './chunk-buffer.js';
import { type Answer, asCount, type Request } from './messages.js';
import { Reconnector, type ReconnectRules } from './reconnector.js';
import type { ResumePoint } from './sequence.js';
import type { SessionRequests } from './session-request.js';

/** Chunks of one session. */
export class SessionMachine extends Reconnector<Chunk> {
  readonly #requests: SessionRequests;
  readonly #buffer: ChunkBuffer;
  readonly #poller: Poller;

  constructor(requests: SessionRequests, rules: ReconnectRules) {
    const buffer = new ChunkBuffer(requests, rules.maxEvent);
    super(rules, buffer, requests.recalled);
    this.#requests = requests;
    this.#buffer = buffer;
    this.#poller = new Poller(requests, buffer, rules.clock);
  }

  /** Where the stream stands, as its caller has seen it. */
  get resumePoint(): ResumePoint {
    return this.#requests.resumePoint;
  }

  /** Whether the session is named, and chunks are there or waited for. */
  override get opened(): boolean {
    return super.opened || (this.polling && !this.#requests.unnamed);
  }

  protected deliver(): Action<Chunk> {
    const ready = this.#buffer.ready;
    const raw = ready.shift() ?? {};
    const resumePoint = this.resumePoint;
    resumePoint.position = raw.position as number;
    if (raw.type === 'error' && this.#requests.raiseOnError) {
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

  /** Learns session, turn and epoch; another epoch than before throws PositionExpired. */
  protected meet(headers: Headers): void {
    const resumePoint = this.resumePoint;
    resumePoint.sessionId ||= headers.get('x-session-id') ?? undefined;
    const turn = asCount(Number(headers.get('x-turn')));
    if (turn && (!this.#requests.body || !resumePoint.turn)) resumePoint.turn = turn;
    const epoch = headers.get('x-log-epoch') ?? undefined;
    if (epoch && resumePoint.epoch && epoch !== resumePoint.epoch) {
      throw new PositionExpired(
        "the server's store was replaced, positions from before mean nothing",
        { details: { epoch }, sessionId: resumePoint.sessionId, position: resumePoint.position },
      );
    }
    resumePoint.epoch = epoch ?? resumePoint.epoch;
  }

  protected ended(): Action<Chunk> {
    if (this.#buffer.atDone && this.#requests.target === undefined && !this.#requests.follow) {
      // The server ends a join when nothing is running or queued; one that drains ends it earlier.
      // Asking once more tells which (204), and costs one request.
      return this.#buffer.fresh ? this.connect() : { do: 'finish' };
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
