/** From bytes or polled objects to chunks in order, each once. */

import { ConnectionLost, type StreamErrorFields } from '../errors.js';
import type { JsonObject } from '../types.js';
import { errorFromChunk, isObject, parseJson } from './messages.js';
import { positionOf, Sequence } from './sequence.js';
import type { SessionRequests } from './session-request.js';
import { type Frame, SseDecoder } from './sse.js';

/** A `done` may carry 1 MiB of output, and JSON escapes make six characters of one. */
export const MAX_EVENT = 8 * 1024 * 1024;

/** What was received and not yet handed on, and what came on the connection that is open. */
export abstract class FrameBuffer {
  /** Oldest first. */
  abstract readonly ready: JsonObject[];
  /** What came since `connected`. */
  fresh = 0;
  /** Nothing more is due. */
  complete = false;
  protected decoder: SseDecoder;
  readonly #maxEvent: number;

  constructor(maxEvent: number) {
    this.#maxEvent = maxEvent;
    this.decoder = new SseDecoder(maxEvent);
  }

  /** The reconnection time that the stream named, in seconds. */
  get retry(): number {
    return this.decoder.retry ?? 0;
  }

  /** A new connection: nothing of the old one's unfinished bytes counts. */
  connected(): void {
    this.decoder = new SseDecoder(this.#maxEvent);
    this.fresh = 0;
  }

  /** Takes what `data` completes. Throws StreamError: retryable, if another connection may help. */
  feed(data: Uint8Array): void {
    for (const frame of this.decoder.feed(data)) {
      if (this.complete) return;
      const raw = parseJson(frame.data);
      this.frame(frame, isObject(raw) ? raw : undefined);
    }
  }

  /** Takes one frame; `raw` is undefined where its data is no object. */
  protected abstract frame(frame: Frame, raw: JsonObject | undefined): void;
}

/** Chunks of a session. `complete` after the `done` that the requests wait for. */
export class ChunkBuffer extends FrameBuffer {
  readonly ready: JsonObject[] = [];
  /** Whether the last chunk was a `done`. */
  atDone = false;
  readonly #requests: SessionRequests;
  readonly #sequence: Sequence;

  constructor(requests: SessionRequests, maxEvent: number) {
    super(maxEvent);
    this.#requests = requests;
    this.#sequence = new Sequence(requests.start);
  }

  /** Everything up to here has been received; undefined: the start is not known yet. */
  get last(): number | undefined {
    return this.#sequence.last;
  }

  /** The first chunk that is due stands right behind `position`. */
  begin(position: number): void {
    this.#sequence.last = position;
  }

  /** Takes one chunk, unless it has been taken before. Throws ConnectionLost for a gap. */
  take(raw: JsonObject, position: number): void {
    const verdict = this.#sequence.take(raw, position);
    if (verdict === 'gap') throw this.lost(`chunks before position ${position} are missing`);
    if (verdict === 'seen') return;
    this.fresh += 1;
    this.atDone = raw.type === 'done';
    this.complete = this.#requests.endsWith(raw);
    this.ready.push(raw);
  }

  protected frame(frame: Frame, raw: JsonObject | undefined): void {
    if (!raw) {
      // Every chunk has an id; what has none and another name is of a newer server.
      if (frame.ownId || frame.event === 'message') throw this.lost('garbled event');
      return;
    }
    const position = positionOf(raw, frame.ownId ? frame.id : '');
    if (position) {
      const type = frame.event === 'message' ? 'text' : frame.event;
      this.take({ type, ...raw, position }, position);
    } else if (frame.event === 'error') {
      // No part of the log: the server's word about this connection.
      throw errorFromChunk(raw, this.#place());
    }
  }

  lost(reason: string): ConnectionLost {
    return new ConnectionLost(reason, this.#place());
  }

  #place(): StreamErrorFields {
    return { sessionId: this.#requests.resumePoint.sessionId, position: this.last };
  }
}
