/** Consumers of a socket: each has a bounded buffer and a position in the log. No I/O. */

import type { StreamError } from '../../errors.js';
import type { Chunk, JsonObject, PlatformEvent } from '../../types.js';
import { EventQueue } from '../event-queue.js';
import { asCount, asText, camel, errorFromChunk, newKey } from '../messages.js';
import { Sequence, TurnStart } from '../sequence.js';

/** Limits of a buffer: items, and characters of all items. */
export const MAX_ITEMS = 1024;
const MAX_SIZE = 8 * 1024 * 1024;

export abstract class Consumer<T> {
  /** Called after an item, a confirmation or the end. */
  wake: () => void = () => {};
  /**
   * Whether the buffer was full and later items were dropped. They are requested again from the
   * consumer's position once most of the buffer has been read. So a slow consumer loses nothing and
   * delays neither the socket nor the other consumers.
   */
  paused = false;
  /** Whether the server has confirmed the subscription. */
  there = false;
  /** Whether nothing more will come; `error` is the reason, if there is one. */
  over = false;
  error: StreamError | undefined;
  readonly #maxItems: number;
  #sizes: number[] = [];
  #size = 0;

  constructor(maxItems: number) {
    this.#maxItems = maxItems;
  }

  /** Number of items in the buffer. */
  get waiting(): number {
    return this.#sizes.length;
  }

  /** Whether most of the buffer is free, so that more may be requested. */
  get drained(): boolean {
    return this.#sizes.length <= this.#maxItems / 4 && this.#size <= MAX_SIZE / 4;
  }

  /** Note the server's confirmation. */
  confirmed(): void {
    this.there = true;
    this.wake();
  }

  /** End the consumer. Items in the buffer can still be read. */
  end(error?: StreamError): void {
    if (this.over) return;
    this.over = true;
    this.error = error;
    this.wake();
  }

  /** Remove and return the oldest item; there must be one. Throws StreamError for an `error` chunk. */
  take(): T {
    this.#size -= this.#sizes.shift() ?? 0;
    return this.pop();
  }

  protected abstract pop(): T;

  /** Whether another item fits. If not, the consumer is paused. */
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
  /** Whether to continue from the earliest event if the place was trimmed. */
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

  /** The cursor of the last event read, or of a quiet time behind it. */
  get cursor(): string | undefined {
    return this.queue.handed ?? this.#since;
  }

  /** The message that subscribes behind the last arrival. */
  message(): JsonObject {
    const since = this.queue.cursor ?? this.#since;
    const head = { type: 'subscribe', channels: this.channels, format: 'envelope' };
    return { ...head, ...this.#wanted, ...(since !== undefined && { since }) };
  }

  /** Take one event. */
  offer(raw: JsonObject, size: number): void {
    if (this.room() && this.queue.add(raw, asText(raw.cursor) ?? '')) this.count(size);
  }

  /** Move the cursor of a quiet subscription. */
  reach(cursor: string): void {
    if (!this.paused) this.queue.reach(cursor);
  }

  /** Note that the place was trimmed. */
  gap(earliest: string): void {
    this.queue.gap(earliest);
    this.count(0);
  }

  protected pop(): PlatformEvent {
    return this.queue.pop();
  }
}

interface ChunkConsumerOptions {
  sessionId?: string | undefined;
  resumeFrom?: number | undefined;
  /** The body of an execute that starts the turn; undefined: read the session from a position. */
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
  /** Whether the caller chose the idempotency key, which may name an old turn. */
  readonly ownKey: boolean;
  readonly compact: boolean;
  /** Where to search for the turn's start, if it is before the subscription's position. */
  seekFrom: number | undefined;
  /** The position of the last chunk read. */
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

  /** The last position that arrived; undefined: the server sets the start. */
  get last(): number | undefined {
    return this.#sequence.last;
  }

  /** The position behind which a subscription must begin; undefined: the server sets it. */
  get place(): number | undefined {
    return this.last ?? this.seekFrom;
  }

  /** Whether the turn must be executed (again) because none of its chunks has come. */
  get starting(): boolean {
    return this.body !== undefined && this.last === undefined;
  }

  /** The message that starts the turn, or joins it if an earlier message started it. */
  executeMessage(): JsonObject {
    const message = { type: 'execute', ...this.body, idempotency_key: this.#key };
    return this.compact ? { ...message, compact: true } : message;
  }

  /** Note the turn that the server named; `begin` is the position before it, if known. */
  started(sessionId: string, turn: number, begin: number | undefined): void {
    this.sessionId = sessionId;
    this.turn = turn;
    this.#turnStart = new TurnStart(turn);
    this.#sequence.last ??= begin;
    this.confirmed();
  }

  /** Note the position behind which the subscription begins. */
  placed(position: number): void {
    if (this.last === undefined && !this.body) {
      this.#sequence.last = position;
      this.position = position;
    }
    this.confirmed();
  }

  /** Take one chunk. Returns false if chunks before it are missing. */
  offer(raw: JsonObject, position: number, size: number): boolean {
    if (this.over || this.paused || !this.there) return true;
    const part = this.last === undefined ? this.#turnStart.part(raw) : 'turn';
    // The end of the turn before may come again, because consumers share the subscription.
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

  /** Take a value that is not in the log, at the place of the last chunk, if it fits. */
  aside(raw: JsonObject, size: number): void {
    const position = this.last;
    const due = this.there && !this.over && !this.paused && position !== undefined;
    const ours = this.body === undefined || raw.turn === undefined || raw.turn === this.turn;
    if (!due || !ours || !this.room()) return;
    this.#ready.push({ ...raw, position });
    this.count(size);
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
