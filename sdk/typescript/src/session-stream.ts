/** The stream of a session's chunks, over HTTP. */

import type { Mark } from './core/sequence.js';
import { StreamMachine } from './core/session-machine.js';
import type { StreamPlan } from './core/session-request.js';
import { cancelRequest } from './requests.js';
import { Reader } from './stream-reader.js';
import type { Io } from './transport.js';
import type { AgentStream, Chunk, StreamControls } from './types.js';

export class SessionStream extends Reader<Chunk, StreamMachine> implements AgentStream {
  readonly #mark: Mark;

  constructor(io: Io, plan: StreamPlan, controls: StreamControls) {
    super(io, () => new StreamMachine(plan, io.settings), controls);
    this.#mark = plan.mark;
  }

  get sessionId(): string | undefined {
    return this.#mark.sessionId;
  }

  get turn(): number | undefined {
    return this.#mark.turn;
  }

  get position(): number {
    return this.#mark.position;
  }

  async cancel(): Promise<void> {
    const { sessionId, turn, idempotencyKey } = this.#mark;
    await this.io.call(cancelRequest(sessionId, { turn, idempotencyKey }));
  }

  protected where(): string {
    return `session ${this.sessionId ?? '?'}, position ${this.position}`;
  }
}
