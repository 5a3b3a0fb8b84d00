/** Buffers of received items: bytes or polled objects become chunks in order, each once. */

import { ConnectionLost, type StreamErrorFields } from '../errors.js';
import type { JsonObject } from '../types.js';
import { errorFromChunk, isObject, parseJson } from './messages.js';
import { positionOf, Sequence } from './sequence.js';
import type { SessionRequests } from './session-request.js';
import { type Frame, SseDecoder } from './sse.js';

/** Characters of one event. A `done` carries up to 1 MiB of output; JSON escapes take six for one. */
export const MAX_EVENT = 8 * 1024 * 1024;

/** Items that were received and not yet handed out, and the state of the open connection. */
export abstract class FrameBuffer {
  /** Oldest first. */
  abstract readonly ready: JsonObject[];
  /** Number of items since `connected`. */
  fresh = 0;
  /** Whether the stream is complete. */
  complete = false;
  protected decoder: SseDecoder;
  readonly #maxEvent: number;

  constructor(maxEvent: number) {
    this.#maxEvent = maxEvent;
    this.decoder = new SseDecoder(maxEvent);
  }

  /** The reconnection time that the server named, in seconds. */
  get retry(): number {
    return this.decoder.retry ?? 0;
  }

  /** Start a new connection. Unfinished bytes of the old one are dropped. */
  connected(): void {
    this.decoder = new SseDecoder(this.#maxEvent);
    this.fresh = 0;
  }

  /** Take the events that `data` completes. Throws StreamError: retryable if a new connection may help. */
  feed(data: Uint8Array): void {
    for (const frame of this.decoder.feed(data)) {
      if (this.complete) return;
      const raw = parseJson(frame.data);
      this.frame(frame, isObject(raw) ? raw : undefined);
    }
  }

  /** Take one frame; `raw` is undefined if its data is no object. */
  protected abstract frame(frame: Frame, raw: JsonObject | undefined): void;
}

/** Chunks of a session. Complete after the `done` of the turn that was asked for. */
export class ChunkBuffer extends FrameBuffer {
  readonly ready: JsonObject[] = [];
  /** Whether the last chunk was a `done`. */
  atDone = false;
  /** Whether the turn may wait for answers behind the last chunk. */
  atStop = false;
  readonly #requests: SessionRequests;
  readonly #sequence: Sequence;

  constructor(requests: SessionRequests, maxEvent: number) {
    super(maxEvent);
    this.#requests = requests;
    this.#sequence = new Sequence(requests.start);
  }

  /** The last position received; undefined: the start is not known yet. */
  get last(): number | undefined {
    return this.#sequence.last;
  }

  /** Expect the first chunk right behind `position`. */
  begin(position: number): void {
    this.#sequence.last = position;
  }

  /** Take one chunk; drop it if it came before. Throws ConnectionLost for a gap. */
  take(raw: JsonObject, position: number): void {
    const verdict = this.#sequence.take(raw, position);
    if (verdict === 'gap') throw this.lost(`chunks before position ${position} are missing`);
    if (verdict === 'seen') return;
    this.fresh += 1;
    this.atDone = raw.type === 'done';
    this.atStop = raw.type === 'waiting' || raw.type === 'input';
    this.complete = this.#requests.endsWith(raw);
    this.ready.push(raw);
  }

  protected frame(frame: Frame, raw: JsonObject | undefined): void {
    if (!raw) {
      // Every chunk has an id. A frame with another name and no id comes from a newer server.
      if (frame.ownId || frame.event === 'message') throw this.lost('garbled event');
      return;
    }
    const position = positionOf(raw, frame.ownId ? frame.id : '');
    if (position) {
      const type = frame.event === 'message' ? 'text' : frame.event;
      this.take({ type, ...raw, position }, position);
    } else if (frame.event === 'data' && raw.transient === true) {
      // Not part of the log: a value for live viewers.
      this.ready.push({ ...raw, position: this.last ?? 0 });
    } else if (frame.event === 'error') {
      // Not part of the log: an error of this connection.
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
