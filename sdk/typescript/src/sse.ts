/**
 * Decoder of `text/event-stream`, fed with bytes. eventsource-parser reads the fields; added to it:
 * bounds, since a peer that never ends a line must not take the memory, a CR that ends its line at
 * once, and the ids of blocks without data, by which a quiet subscription's place moves.
 */
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { InvalidRequest } from './errors.js';

/** One dispatched event; `event` is `message` where the block named none. */
export interface Frame {
  readonly event: string;
  readonly data: string;
  /** The last event id, also of an earlier block. */
  readonly id: string;
  /** Whether this block named the id. */
  readonly ownId: boolean;
}

/** Gives a block that has an id and no data something to be dispatched for. */
const ASIDE = '\0';

/** Bounds are in characters. */
export class SseDecoder {
  lastEventId = '';
  /** The reconnection time that the peer named, in seconds. */
  retry: number | undefined;
  readonly #maxLine: number;
  readonly #maxEvent: number;
  readonly #utf8 = new TextDecoder();
  readonly #parser = createParser({
    onEvent: (event) => this.#dispatch(event),
    onRetry: (milliseconds) => {
      this.retry = milliseconds / 1000;
    },
  });
  #frames: Frame[] = [];
  #rest = '';
  #skipLf = false;
  #size = 0;
  #hasData = false;

  constructor(maxLine: number, maxEvent = maxLine) {
    this.#maxLine = maxLine;
    this.#maxEvent = maxEvent;
  }

  /** The events that `data` completes. Throws InvalidRequest (PAYLOAD_TOO_LARGE). */
  feed(data: Uint8Array): Frame[] {
    this.#frames = [];
    const text = this.#text(data);
    this.#rest += text;
    // A long line is looked through once, when its end has come.
    if (text.includes('\n')) {
      const lines = this.#rest.split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#line(line);
    }
    check(this.#rest.length, this.#maxLine);
    return this.#frames;
  }

  /** Decoded, with LF as the only end of a line. */
  #text(data: Uint8Array): string {
    let text = this.#utf8.decode(data, { stream: true });
    if (!text) return text;
    if (this.#skipLf && text.startsWith('\n')) text = text.slice(1);
    this.#skipLf = text.endsWith('\r');
    return text.includes('\r') ? text.replace(/\r\n?/g, '\n') : text;
  }

  #line(line: string): void {
    check(line.length, this.#maxLine);
    if (line.startsWith('data:') || line === 'data') {
      this.#hasData = true;
      this.#size += line.length - 5;
      check(this.#size, this.#maxEvent);
    } else if (!line) {
      if (!this.#hasData) this.#parser.feed(`event:${ASIDE}\ndata\n`);
      this.#hasData = false;
      this.#size = 0;
    }
    this.#parser.feed(`${line}\n`);
  }

  #dispatch({ event, data, id }: EventSourceMessage): void {
    if (id !== undefined) this.lastEventId = id;
    if (event === ASIDE) return;
    this.#frames.push({
      event: event ?? 'message',
      data,
      id: this.lastEventId,
      ownId: id !== undefined,
    });
  }
}

function check(size: number, limit: number): void {
  if (size > limit) {
    throw new InvalidRequest(`an event of the stream is larger than ${limit} characters`, {
      code: 'PAYLOAD_TOO_LARGE',
    });
  }
}
