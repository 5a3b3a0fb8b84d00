/** The stream of a session's chunks, over HTTP. */

import type { ResumePoint } from './core/sequence.js';
import { SessionMachine } from './core/session-machine.js';
import type { SessionRequests } from './core/session-request.js';
import { cancelRequest } from './requests.js';
import { StreamReader } from './stream-reader.js';
import type { Transport } from './transport.js';
import type { AgentStream, Chunk, StreamControls } from './types.js';

export class SessionStream extends StreamReader<Chunk, SessionMachine> implements AgentStream {
  readonly #resumePoint: ResumePoint;

  constructor(transport: Transport, requests: SessionRequests, controls: StreamControls) {
    super(transport, () => new SessionMachine(requests, transport.settings), controls);
    this.#resumePoint = requests.resumePoint;
  }

  get sessionId(): string | undefined {
    return this.#resumePoint.sessionId;
  }

  get turn(): number | undefined {
    return this.#resumePoint.turn;
  }

  get position(): number {
    return this.#resumePoint.position;
  }

  async cancel(): Promise<void> {
    const { sessionId, turn, idempotencyKey } = this.#resumePoint;
    await this.transport.call(cancelRequest(sessionId, { turn, idempotencyKey }));
  }

  protected where(): string {
    return `session ${this.sessionId ?? '?'}, position ${this.position}`;
  }
}
