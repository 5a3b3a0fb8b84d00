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
import { Intake } from './chunk-buffer.js';
import { type Answer, asCount, type Request } from './messages.js';
import { LinkMachine, type Rules } from './reconnector.js';
import type { Mark } from './sequence.js';
import type { StreamPlan } from './session-request.js';

/** Chunks of one session. */
export class StreamMachine extends LinkMachine<Chunk> {
  readonly #plan: StreamPlan;
  readonly #intake: Intake;
  readonly #poller: Poller;

  constructor(plan: StreamPlan, rules: Rules) {
    const intake = new Intake(plan, rules.maxEvent);
    super(rules, intake, plan.recalled);
    this.#plan = plan;
    this.#intake = intake;
    this.#poller = new Poller(plan, intake, rules.clock);
  }

  /** Where the stream stands, as its caller has seen it. */
  get mark(): Mark {
    return this.#plan.mark;
  }

  /** Whether the session is named, and chunks are there or waited for. */
  override get opened(): boolean {
    return super.opened || (this.polling && !this.#plan.unnamed);
  }

  protected deliver(): Action<Chunk> {
    const ready = this.#intake.ready;
    const raw = ready.shift() ?? {};
    const mark = this.mark;
    mark.position = raw.position as number;
    if (raw.type === 'error' && this.#plan.raiseOnError) {
      // The turn has failed for good: only its `done` would follow.
      ready.length = 0;
      return this.finish(errorFromChunk(raw, mark));
    }
    return { do: 'emit', item: camel(raw) };
  }

  protected streamRequest(): Request {
    return this.#plan.open(this.#intake.last);
  }

  protected pollRequest(): Request {
    return this.#poller.request();
  }

  /** Learns session, turn and epoch; another epoch than before throws PositionExpired. */
  protected meet(headers: Headers): void {
    const mark = this.mark;
    mark.sessionId ||= headers.get('x-session-id') ?? undefined;
    const turn = asCount(Number(headers.get('x-turn')));
    if (turn && (!this.#plan.body || !mark.turn)) mark.turn = turn;
    const epoch = headers.get('x-log-epoch') ?? undefined;
    if (epoch && mark.epoch && epoch !== mark.epoch) {
      throw new PositionExpired(
        "the server's store was replaced, positions from before mean nothing",
        { details: { epoch }, sessionId: mark.sessionId, position: mark.position },
      );
    }
    mark.epoch = epoch ?? mark.epoch;
  }

  protected ended(): Action<Chunk> {
    if (this.#intake.atDone && this.#plan.target === undefined && !this.#plan.follow) {
      // The server ends a join when nothing is running or queued; one that drains ends it earlier.
      // Asking once more tells which (204), and costs one request.
      return this.#intake.fresh ? this.connect() : { do: 'finish' };
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
    error.sessionId = this.mark.sessionId;
    error.position = received ? this.#intake.last : this.mark.position;
  }
}
