/** Requests on a socket. Each has an id and one answer, and is sent again on the next socket. */
import { InvalidRequest, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asText, errorFromChunk } from '../messages.js';
import { Retries, type RetryRules } from '../retry.js';

/** The largest message that a server accepts, in bytes (PROTOCOL.md, section 9). */
const MAX_MESSAGE = 256 * 1024;

export interface PendingRequest {
  /** Make the message. Made anew for each attempt, since positions move on. */
  message(): JsonObject;
  answered(answer: JsonObject): void;
  failed(error: StreamError): void;
  /** When to send the message, in seconds; undefined: sent already, or there is no socket yet. */
  due?: number | undefined;
  id?: string;
  retries?: Retries;
}

/** The requests that have no answer yet. */
export class PendingRequests {
  /** Messages to be sent, oldest first. */
  outbox: string[] = [];
  isConnected = false;
  readonly #rules: RetryRules;
  readonly #pending = new Map<string, PendingRequest>();
  #count = 0;

  constructor(rules: RetryRules) {
    this.#rules = rules;
  }

  /** Send a request: now, when it is due, or once there is a socket. */
  send(request: PendingRequest): PendingRequest {
    this.#count += 1;
    request.id = `q${this.#count}`;
    request.retries = this.newRetries();
    this.#pending.set(request.id, request);
    if (this.isConnected && request.due === undefined) this.#transmit(request);
    return request;
  }

  /** Make the retry budget of one request, or of one subscription. */
  newRetries(): Retries {
    return new Retries(this.#rules);
  }

  /** Send a message whose answer does not matter. */
  notify(message: JsonObject): void {
    if (this.isConnected) this.outbox.push(JSON.stringify(message));
  }

  /** Ignore the answer from now on. */
  cancel(request: PendingRequest): void {
    this.#pending.delete(request.id ?? '');
  }

  /** Give an answer or an error to its request. Returns false if there is no such request. */
  answer(message: JsonObject, now: number): boolean {
    const request = this.#pending.get(asText(message.id) ?? '');
    if (!request) return false;
    if (message.type !== 'error') {
      this.cancel(request);
      request.answered(message);
      return true;
    }
    const error = errorFromChunk(message);
    const wait = error.retryable && mayPass(error) ? request.retries?.after(error) : undefined;
    if (wait === undefined) {
      this.cancel(request);
      request.failed(error);
    } else {
      request.due = now + wait;
    }
    return true;
  }

  /** Send what is due. Returns when to call this again; undefined: nothing waits. */
  sendDue(now: number): number | undefined {
    let next: number | undefined;
    for (const request of [...this.#pending.values()]) {
      if (request.due === undefined) continue;
      if (request.due <= now) {
        request.due = undefined;
        this.#transmit(request);
      } else {
        next = Math.min(next ?? request.due, request.due);
      }
    }
    return next;
  }

  /** Send everything that has no answer yet on a new socket. */
  socketOpened(): void {
    this.isConnected = true;
    for (const request of [...this.#pending.values()]) {
      request.due = undefined;
      this.#transmit(request);
    }
  }

  /** Drop the messages that the lost socket did not send. */
  socketClosed(): void {
    this.isConnected = false;
    this.outbox = [];
  }

  /** Fail all requests: there will be no more sockets. */
  fail(error: StreamError): void {
    const requests = [...this.#pending.values()];
    this.#pending.clear();
    for (const request of requests) request.failed(error);
  }

  #transmit(request: PendingRequest): void {
    const text = JSON.stringify({ ...request.message(), id: request.id });
    if (text.length * 3 <= MAX_MESSAGE || utf8Length(text) <= MAX_MESSAGE) {
      this.outbox.push(text);
      return;
    }
    // The server would close the socket, which other streams share.
    this.cancel(request);
    const message = `the message is over ${MAX_MESSAGE} bytes`;
    request.failed(new InvalidRequest(message, { code: 'PAYLOAD_TOO_LARGE' }));
  }
}

/** The size in bytes. A lone surrogate is sent as three. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const sign of text) {
    const code = sign.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** Whether time alone may help. A busy session is the caller's to wait for. */
function mayPass({ code }: StreamError): boolean {
  return code === 'RATE_LIMITED' || code === 'UNAVAILABLE' || code === 'INTERNAL';
}
