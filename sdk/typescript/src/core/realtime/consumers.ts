/** What one consumer of a socket reads from: a bounded buffer and its place in the log. No I/O. */

import type { StreamError } from '../../errors.js';
import type { Chunk, JsonObject, PlatformEvent } from '../../types.js';
import { EventQueue } from '../event-queue.js';
import { asCount, asText, camel, errorFromChunk, newKey } from '../messages.js';
import { Sequence, TurnStart } from '../sequence.js';

/** A buffer is full with so many items, or this many characters of them. */
export const MAX_ITEMS = 1024;
const MAX_SIZE = 8 * 1024 * 1024;

export abstract class Consumer<T> {
  /** Called when there is something to see: an item, an answer, the end. */
  wake: () => void = () => {};
  /**
   * The buffer was full, and what came then was left out; it is asked for again, from the consumer's own
   * place, when the consumer has taken most of what was there. So a consumer that is slow holds up
   * neither the socket nor the others, and loses nothing.
   */
  paused = false;
  /** The server has confirmed it. */
  there = false;
  /** Nothing more will come; `error` says why, if it is not simply over. */
  over = false;
  error: StreamError | undefined;
  readonly #maxItems: number;
  #sizes: number[] = [];
  #size = 0;

  constructor(maxItems: number) {
    this.#maxItems = maxItems;
  }

  /** How many items are in the buffer. */
  get waiting(): number {
    return this.#sizes.length;
  }

  /** Whether it is worth asking for more: most of the buffer is free. */
  get drained(): boolean {
    return this.#sizes.length <= this.#maxItems / 4 && this.#size <= MAX_SIZE / 4;
  }

  /** The server follows it. */
  confirmed(): void {
    this.there = true;
    this.wake();
  }

  /** Nothing more will come; what is in the buffer can still be read. */
  end(error?: StreamError): void {
    if (this.over) return;
    this.over = true;
    this.error = error;
    this.wake();
  }

  /** The oldest item; there must be one. Throws StreamError for a chunk that tells of one. */
  take(): T {
    this.#size -= this.#sizes.shift() ?? 0;
    return this.pop();
  }

  protected abstract pop(): T;

  /** Whether another item fits; from the first that does not, the consumer is paused. */
  protected room(): boolean {
    this.paused ||= this.#sizes.length >= this.#maxItems || this.#size >= MAX_SIZE;
    return !this.paused;
  }

  protected count(size: number): void {
    this.#sizes.push(size);
    this.#size += size;
    this.wake();
  }

  protected forget(): void {
    this.#sizes = [];
    this.#size = 0;
  }
}

/** Events of channels. */
export class EventConsumer extends Consumer<PlatformEvent> {
  readonly channels: readonly string[];
  /** Where its place is gone it goes on from the earliest that is kept. */
  readonly earliest: boolean;
  readonly queue = new EventQueue();
  readonly #wanted: JsonObject;
  readonly #since: string | undefined;

  constructor(
    channels: readonly string[],
    wanted: JsonObject,
    since: string | undefined,
    earliest: boolean,
    maxItems: number,
  ) {
    super(maxItems);
    this.channels = channels;
    this.earliest = earliest;
    this.#wanted = wanted;
    this.#since = since;
  }

  /** The place of the last event taken, or of a quiet time behind it. */
  get cursor(): string | undefined {
    return this.queue.handed ?? this.#since;
  }

  /** Asks for everything behind what has arrived. */
  message(): JsonObject {
    const since = this.queue.cursor ?? this.#since;
    const head = { type: 'subscribe', channels: this.channels, format: 'envelope' };
    return { ...head, ...this.#wanted, ...(since !== undefined && { since }) };
  }

  /** An event has come. */
  offer(raw: JsonObject, size: number): void {
    if (this.room() && this.queue.add(raw, asText(raw.cursor) ?? '')) this.count(size);
  }

  /** A quiet subscription has got as far as this. */
  reach(cursor: string): void {
    if (!this.paused) this.queue.reach(cursor);
  }

  /** Its place is no longer kept. */
  gap(earliest: string): void {
    this.queue.gap(earliest);
    this.count(0);
  }

  protected pop(): PlatformEvent {
    return this.queue.pop();
  }
}

export interface ChunkConsumerOptions {
  sessionId?: string | undefined;
  resumeFrom?: number | undefined;
  /** Of the execute that starts the turn which is read; without it all is read from a place on. */
  body?: JsonObject | undefined;
  key?: string | undefined;
  compact?: boolean | undefined;
  raiseOnError?: boolean | undefined;
}

/** Chunks of a session. */
export class ChunkConsumer extends Consumer<Chunk> {
  sessionId: string | undefined;
  turn: number | undefined;
  readonly body: JsonObject | undefined;
  /** A key of the caller's may name a turn of long ago. */
  readonly ownKey: boolean;
  readonly compact: boolean;
  /** Its turn began somewhere before what is read of the session: to be looked for from here. */
  seekFrom: number | undefined;
  /** That of the last chunk taken. */
  position: number;
  readonly #key: string;
  readonly #raiseOnError: boolean;
  readonly #sequence: Sequence;
  readonly #ready: JsonObject[] = [];
  #turnStart = new TurnStart(undefined);

  constructor(options: ChunkConsumerOptions, maxItems: number) {
    super(maxItems);
    this.sessionId = options.sessionId;
    this.body = options.body;
    this.ownKey = options.key !== undefined;
    this.compact = options.compact ?? false;
    this.position = options.resumeFrom ?? 0;
    this.#key = options.key ?? newKey();
    this.#raiseOnError = options.raiseOnError ?? true;
    this.#sequence = new Sequence(options.resumeFrom);
  }

  /** Everything up to here has arrived; undefined: the server says where it begins. */
  get last(): number | undefined {
    return this.#sequence.last;
  }

  /** Where a subscription must begin for it; undefined: the server says. */
  get place(): number | undefined {
    return this.last ?? this.seekFrom;
  }

  /** Whether its turn must be asked for (again): nothing of it has come. */
  get starting(): boolean {
    return this.body !== undefined && this.last === undefined;
  }

  /** Starts the turn, or joins it if it was started by a message whose answer got lost. */
  executeMessage(): JsonObject {
    const message = { type: 'execute', ...this.body, idempotency_key: this.#key };
    return this.compact ? { ...message, compact: true } : message;
  }

  /** The server has named the turn; `begin`: the place before it, if that is known. */
  started(sessionId: string, turn: number, begin: number | undefined): void {
    this.sessionId = sessionId;
    this.turn = turn;
    this.#turnStart = new TurnStart(turn);
    this.#sequence.last ??= begin;
    this.confirmed();
  }

  /** A subscription begins behind this position. */
  placed(position: number): void {
    if (this.last === undefined && !this.body) {
      this.#sequence.last = position;
      this.position = position;
    }
    this.confirmed();
  }

  /** A chunk has come; false: chunks before it are missing. */
  offer(raw: JsonObject, position: number, size: number): boolean {
    if (this.over || this.paused || !this.there) return true;
    const part = this.last === undefined ? this.#turnStart.part(raw) : 'turn';
    // The end of the turn before may come again, since others read here too.
    if (part === 'border') this.#sequence.last = position;
    if (part !== 'turn' || !this.room()) return true;
    const verdict = this.#sequence.take(raw, position);
    if (verdict === 'new') {
      this.#ready.push(raw);
      this.count(size);
      if (this.#ends(raw)) this.end();
    }
    return verdict !== 'gap';
  }

  protected pop(): Chunk {
    const raw = this.#ready.shift() ?? {};
    this.position = raw.position as number;
    if (raw.type === 'error' && this.#raiseOnError) {
      // The turn has failed for good: only its `done` would follow.
      this.#ready.length = 0;
      this.forget();
      throw errorFromChunk(raw, { sessionId: this.sessionId, position: this.position });
    }
    return camel(raw);
  }

  #ends(raw: JsonObject): boolean {
    const turn = this.turn ?? 0;
    return this.body !== undefined && raw.type === 'done' && (asCount(raw.turn) ?? turn) >= turn;
  }
}
