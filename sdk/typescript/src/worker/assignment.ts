/** A turn in the hands of this worker: its handler, and the messages that wait for the server. */
import { snake } from '../core/messages.js';
import { withTimeout } from '../platform.js';
import type { JsonObject } from '../types.js';
import { HandlerAsks } from './asks.js';
import { encoded, itemsOf, turnOf } from './handlers.js';
import { type AgentChunk, AgentError, type Handler, type KeepChunk } from './values.js';

/** Bytes of chunks in one message, about, and chunks: half of those that the server takes. */
const MESSAGE_BYTES = 64 * 1024;
const MESSAGE_CHUNKS = 5_000;
/** Bytes of a message around its chunks, about. */
const FRAME = 512;
/** Chunks after which a handler that never waits lets others run. */
const STRETCH = 32;
/** Seconds that a cancelled handler has to end before nobody waits for it any more. */
const CANCEL_SECONDS = 30;

const utf8 = new TextEncoder();

/** What an assignment needs of its worker. */
export interface AssignmentPort {
  readonly handler: Handler;
  /** Bytes of messages that may wait for the server, and bytes of one message. */
  readonly window: number;
  readonly largest: number;
  /** There is something to send. */
  changed(assignment: Assignment): void;
  /** The handler has ended. */
  over(assignment: Assignment): void;
  /** A handler threw what its client must not see. */
  failed(error: unknown): void;
}

/**
 * What the handler yields waits in here: first as chunks, then in numbered messages until the server
 * has taken them. Beyond the window the handler waits. So a cut of the connection loses nothing, and
 * a message that is sent again is dropped by its number.
 */
export class Assignment {
  readonly id: string;
  /** The server wants its chunks. */
  isWanted = true;
  /** The handler has ended. */
  isOver = false;
  readonly #port: AssignmentPort;
  readonly #cancelled = new AbortController();
  readonly #asks: HandlerAsks;
  readonly #running: Promise<void>;
  #chunks: { text: string; size: number }[] = [];
  #size = 0;
  #end: JsonObject | undefined;
  #seq = 0;
  /** Messages that the server has not taken. */
  #messages: { seq: number; text: string; size: number }[] = [];
  #waiting = 0;
  /** The number of the newest message that was given to the present socket. */
  #sent = 0;
  #hasRoom: () => void = () => undefined;

  constructor(id: string, raw: JsonObject, port: AssignmentPort) {
    this.id = id;
    this.#port = port;
    this.#asks = new HandlerAsks(raw);
    this.#running = this.#run(raw);
  }

  /** Whether the handler has ended, and the server has everything or wants nothing. */
  get isDone(): boolean {
    return this.isOver && !(this.isWanted && (this.#hasMore || this.#messages.length));
  }

  /** The server has taken the messages up to this one. */
  acked(seq: number): void {
    const taken = this.#messages.filter((message) => message.seq <= seq);
    this.#messages = this.#messages.slice(taken.length);
    for (const { size } of taken) this.#waiting -= size;
    this.#hasRoom();
    this.#port.changed(this);
  }

  /** There is a new socket, and the server has the messages up to this one. */
  resumed(seq: number): void {
    this.#sent = seq;
    this.acked(seq);
  }

  /** The messages that may be sent now; each comes once for each socket. */
  messages(): string[] {
    const found = this.#messages.filter(({ seq }) => seq > this.#sent).map(({ text }) => text);
    while (this.isWanted && this.#waiting < this.#port.window && this.#hasMore) {
      found.push(this.#nextMessage());
    }
    this.#sent = this.#seq;
    return found;
  }

  /** The server wants no more chunks: ask the handler to end. */
  cancel(): void {
    this.isWanted = false;
    this.#chunks = [];
    this.#messages = [];
    this.#end = undefined;
    this.#hasRoom();
    this.#cancelled.abort();
  }

  /** Returns when the handler has ended, or has had its time to. */
  async ended(): Promise<void> {
    await withTimeout(CANCEL_SECONDS, this.#running);
  }

  get #hasMore(): boolean {
    return this.#chunks.length > 0 || this.#end !== undefined;
  }

  async #run(raw: JsonObject): Promise<void> {
    let end: JsonObject = {};
    try {
      await this.#produce(raw).catch((error) => {
        // The handler was ended where it asks.
        if (!this.#asks.isStopping) throw error;
      });
      for (const item of this.#asks.last()) this.#keep(item);
    } catch (error) {
      end = { error: errorOf(error) };
      if (this.isWanted && !(error instanceof AgentError)) this.#port.failed(error);
    }
    this.isOver = true;
    if (this.isWanted) this.#end = end;
    this.#port.changed(this);
    this.#port.over(this);
  }

  async #produce(raw: JsonObject): Promise<void> {
    // Whoever made this assignment knows it before its handler runs.
    await breath();
    let count = 0;
    const turn = this.#asks.turn(turnOf(raw, this.#cancelled.signal));
    for await (const item of itemsOf(this.#port.handler, turn)) {
      if (!this.isWanted || this.#asks.isStopping) return;
      this.#take(item as AgentChunk);
      this.#port.changed(this);
      count += 1;
      if (count % STRETCH === 0) await breath();
      while (this.#size + this.#waiting >= this.#port.window && this.isWanted) {
        await new Promise<void>((resolve) => {
          this.#hasRoom = resolve;
        });
      }
    }
  }

  #take(item: AgentChunk): void {
    const type = typeof item === 'object' ? item?.type : 'text';
    if (type === 'keep') this.#asks.kept = (item as KeepChunk).value;
    // Tokens are used once more.
    if (!this.#asks.isRepeating || type === 'usage') this.#keep(item);
  }

  #keep(item: unknown): void {
    const { largest } = this.#port;
    for (const text of encoded(item)) {
      const size = utf8.encode(text).length;
      if (size > largest - FRAME) {
        const message = `a chunk of ${size} bytes; a worker's message takes ${largest}`;
        throw new AgentError(message, { code: 'PAYLOAD_TOO_LARGE' });
      }
      this.#chunks.push({ text, size });
      this.#size += size;
    }
  }

  /** The next chunks, as many as fit: at least one, unless there is only the end. */
  #nextMessage(): string {
    let count = 0;
    let size = 0;
    for (const chunk of this.#chunks) {
      if (count && (size + chunk.size >= MESSAGE_BYTES || count >= MESSAGE_CHUNKS)) break;
      size += chunk.size;
      count += 1;
    }
    const chunks = this.#chunks.splice(0, count).map(({ text }) => text);
    this.#size -= size;
    this.#seq += 1;
    const isLast = this.#end !== undefined && this.#chunks.length === 0;
    const rest = JSON.stringify({ seq: this.#seq, ...(isLast && { is_last: true, ...this.#end }) });
    if (isLast) this.#end = undefined;
    const head = JSON.stringify({ type: 'chunks', assignment: this.id });
    const text = `${head.slice(0, -1)},"chunks":[${chunks.join()}],${rest.slice(1)}`;
    size += FRAME;
    this.#messages.push({ seq: this.#seq, text, size });
    this.#waiting += size;
    return text;
  }
}

function errorOf(error: unknown): JsonObject {
  if (!(error instanceof AgentError)) return { message: 'the agent failed' };
  const { message, code, retryable, retryAfter } = error;
  return snake({ message, code, retryable, retryAfter });
}

/** Resolves once all others that are ready have run. */
export function breath(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: (next: () => void) => void };
  return new Promise((resolve) => (setImmediate ?? setTimeout)(resolve));
}
