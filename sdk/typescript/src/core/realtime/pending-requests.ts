/** Questions on a socket: each has an id, one answer, and is asked again on the next socket. */

import { InvalidRequest, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asText, errorFromChunk } from '../messages.js';
import type { Retries } from '../retry.js';

/** What a server takes in one message, in bytes (PROTOCOL.md, section 9). */
const MAX_MESSAGE = 256 * 1024;

export interface PendingRequest {
  /** Made anew each time, since places move on. */
  message(): JsonObject;
  answered(answer: JsonObject): void;
  failed(error: StreamError): void;
  readonly retries: Retries;
  /** When to ask again, in seconds; undefined: it was asked, or there is no socket yet. */
  due?: number | undefined;
  id?: string;
}

/** What was asked and not yet answered. */
export class PendingRequests {
  /** What is to be sent, oldest first. */
  outbox: string[] = [];
  linked = false;
  readonly #open = new Map<string, PendingRequest>();
  #count = 0;

  /** Asks: now, when it is due, or once there is a socket. */
  ask(ask: PendingRequest): PendingRequest {
    this.#count += 1;
    ask.id = `q${this.#count}`;
    this.#open.set(ask.id, ask);
    if (this.linked && ask.due === undefined) this.#send(ask);
    return ask;
  }

  /** Says something whose answer does not matter. */
  say(message: JsonObject): void {
    if (this.linked) this.outbox.push(JSON.stringify(message));
  }

  /** The answer does not matter any more. */
  withdraw(ask: PendingRequest): void {
    this.#open.delete(ask.id ?? '');
  }

  /** Hands an answer, or an error, to the question it belongs to; false if there is none. */
  answer(message: JsonObject, now: number): boolean {
    const ask = this.#open.get(asText(message.id) ?? '');
    if (!ask) return false;
    if (message.type !== 'error') {
      this.withdraw(ask);
      ask.answered(message);
      return true;
    }
    const error = errorFromChunk(message);
    const wait = error.retryable && passes(error) ? ask.retries.after(error) : undefined;
    if (wait === undefined) {
      this.withdraw(ask);
      ask.failed(error);
    } else {
      ask.due = now + wait;
    }
    return true;
  }

  /** Asks again what is due; when to call this next, undefined: no need to. */
  tick(now: number): number | undefined {
    let next: number | undefined;
    for (const ask of [...this.#open.values()]) {
      if (ask.due === undefined) continue;
      if (ask.due <= now) {
        ask.due = undefined;
        this.#send(ask);
      } else {
        next = Math.min(next ?? ask.due, ask.due);
      }
    }
    return next;
  }

  /** There is a socket: all that was asked and not answered is asked on it. */
  socketOpened(): void {
    this.linked = true;
    for (const ask of [...this.#open.values()]) {
      ask.due = undefined;
      this.#send(ask);
    }
  }

  /** The socket is gone, and what was on its way with it. */
  socketClosed(): void {
    this.linked = false;
    this.outbox = [];
  }

  /** There will be no answers. */
  fail(error: StreamError): void {
    const requests = [...this.#open.values()];
    this.#open.clear();
    for (const ask of requests) ask.failed(error);
  }

  #send(ask: PendingRequest): void {
    const text = JSON.stringify({ ...ask.message(), id: ask.id });
    if (text.length * 3 <= MAX_MESSAGE || utf8Length(text) <= MAX_MESSAGE) {
      this.outbox.push(text);
      return;
    }
    // Sent, it would end the socket, for all who share it.
    this.withdraw(ask);
    const message = `the message is over ${MAX_MESSAGE} bytes`;
    ask.failed(new InvalidRequest(message, { code: 'PAYLOAD_TOO_LARGE' }));
  }
}

/** In bytes; half a character is sent as three. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const sign of text) {
    const code = sign.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** Whether time alone may help; a busy session is the caller's to wait for. */
function passes({ code }: StreamError): boolean {
  return code === 'RATE_LIMITED' || code === 'UNAVAILABLE' || code === 'INTERNAL';
}
