/**
 * Decoder of `text/event-stream`, fed with bytes. It differs from the standard in three points. Lines
 * and events have a maximum size, so that no peer can fill the memory. A CR ends its line at once.
 * The ids of blocks without data are visible; they move the place of a quiet subscription.
 */
import { InvalidRequest } from '../errors.js';

/** One dispatched event; `event` is `message` if the block named none. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  /** The last event id, possibly of an earlier block. */
  readonly id: string;
  /** Whether this block named the id. */
  readonly ownId: boolean;
}

/** Limits are in characters. */
export class SseDecoder {
  lastEventId = '';
  /** The reconnection time that the server named, in seconds. */
  retry: number | undefined;
  readonly #maxLine: number;
  readonly #maxEvent: number;
  // Made with the first bytes: a platform without TextDecoder polls and never gets here.
  #utf8: TextDecoder | undefined;
  #frames: Frame[] = [];
  #rest = '';
  #skipLf = false;
  #size = 0;
  /** Fields of the block that is being read. */
  #data: string[] = [];
  #event = '';
  #id: string | undefined;

  constructor(maxLine: number, maxEvent = maxLine) {
    this.#maxLine = maxLine;
    this.#maxEvent = maxEvent;
  }

  /** Return the events that `data` completes. Throws InvalidRequest (PAYLOAD_TOO_LARGE). */
  feed(data: Uint8Array): Frame[] {
    this.#frames = [];
    const text = this.#text(data);
    this.#rest += text;
    // A long line is scanned once, when its end has come.
    if (text.includes('\n')) {
      const lines = this.#rest.split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#line(line);
    }
    check(this.#rest.length, this.#maxLine);
    return this.#frames;
  }

  /** Decode bytes; LF becomes the only end of a line. */
  #text(data: Uint8Array): string {
    this.#utf8 ??= new TextDecoder();
    let text = this.#utf8.decode(data, { stream: true });
    if (!text) return text;
    if (this.#skipLf && text.startsWith('\n')) text = text.slice(1);
    this.#skipLf = text.endsWith('\r');
    return text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
  }

  #line(line: string): void {
    check(line.length, this.#maxLine);
    if (!line) {
      this.#dispatch();
      return;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === 'data') {
      this.#size += value.length;
      check(this.#size, this.#maxEvent);
      this.#data.push(value);
    } else if (field === 'event') {
      this.#event = value;
    } else if (field === 'id' && !value.includes('\0')) {
      this.#id = value;
    } else if (field === 'retry' && /^\d+$/.test(value)) {
      this.retry = Number(value) / 1000;
    }
  }

  #dispatch(): void {
    const ownId = this.#id !== undefined;
    this.lastEventId = this.#id ?? this.lastEventId;
    if (this.#data.length) {
      const data = this.#data.join('\n');
      const event = this.#event || 'message';
      this.#frames.push({ event, data, id: this.lastEventId, ownId });
    }
    this.#data = [];
    this.#size = 0;
    this.#event = '';
    this.#id = undefined;
  }
}

function check(size: number, limit: number): void {
  if (size > limit) {
    throw new InvalidRequest(`an event of the stream is larger than ${limit} characters`, {
      code: 'PAYLOAD_TOO_LARGE',
    });
  }
}
