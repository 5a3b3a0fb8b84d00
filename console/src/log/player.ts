/** Plays a log again: the conversation as it was at each moment. */
import type { Message, MessagePart } from '@resonantgenesis/sdk';
import { StreamError } from '@resonantgenesis/sdk';
import { AnswerFold } from '@resonantgenesis/sdk/store';
import type { ShownTurn } from '../chat/turns.tsx';
import type { LogEntry, LogPages, WireChunk } from './log-pages.ts';

/** Milliseconds that a quiet time is shortened to. */
export const QUIET = 2_000;
/** Milliseconds of a frame that are spent on entries that are all due, and how many are read ahead. */
const SLICE = 8;
const AHEAD = 1_500;

interface PlayedTurn {
  readonly turn: number;
  readonly fold: AnswerFold;
  shown: ShownTurn | null;
}

/** A place in a log that moves on with the time of its entries. */
export class Player {
  readonly log: LogPages;
  /** How much faster than the log was written; Infinity: at once. */
  speed = 1;
  /** Whether a longer gap than QUIET is shortened to it. */
  skipsQuiet = true;
  isPlaying = false;
  /** The last entry that is shown. */
  position: number;
  readonly #goals = new Map<number, string>();
  readonly #listeners = new Set<() => void>();
  #turns: PlayedTurn[] = [];
  #target: number | null = null;
  /** The milliseconds of the log that may be played. */
  #budget = 0;
  #frame: number | null = null;
  #lastFrame = 0;
  #version = 0;

  constructor(log: LogPages) {
    this.log = log;
    this.position = log.earliest - 1;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly version = (): number => this.#version;

  get isAtEnd(): boolean {
    return this.position >= this.log.head;
  }

  /** The goals of the session's turns, which its log does not have. */
  learn(messages: Iterable<Message>): void {
    for (const { role, sessionId, turn, parts } of messages) {
      if (role === 'user' && sessionId === this.log.sessionId)
        this.#goals.set(turn, parts.map(textOf).join(''));
    }
    for (const played of this.#turns) played.shown = null;
    this.#changed();
  }

  play(): void {
    if (this.isAtEnd) this.#rewind();
    this.isPlaying = true;
    this.#next();
    this.#changed();
  }

  pause(): void {
    this.isPlaying = false;
    this.#changed();
  }

  /** Shows the conversation as it was behind this entry. */
  seek(position: number): void {
    if (position < this.position) this.#rewind();
    this.#target = position;
    this.#next();
    this.#changed();
  }

  /** Ends its work. */
  stop(): void {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
    this.isPlaying = false;
  }

  /** The turns so far; one that has not changed is the same object. */
  turns(): readonly ShownTurn[] {
    return this.#turns.map((played) => {
      played.shown ??= this.#show(played);
      return played.shown;
    });
  }

  #show({ turn, fold }: PlayedTurn): ShownTurn {
    const { status, parts, usage } = fold.message;
    const failure = parts.find((part) => part.type === 'error');
    const error = failure ? new StreamError(failure.message, { code: failure.code }) : null;
    const asked = parts.filter((part) => part.type === 'input_required');
    const waiting = asked.map(({ call_id, expires_at, ...ask }) => ({
      ...ask,
      callId: call_id,
      expiresAt: expires_at,
    }));
    const goal = this.#goals.get(turn) ?? null;
    const isOpen = status === 'running' || status === 'queued';
    return {
      key: `turn-${turn}`,
      turn,
      goal,
      status: isOpen ? 'running' : status,
      parts,
      waiting,
      error,
      usage: usage ? camelUsage(usage) : null,
    };
  }

  #rewind(): void {
    this.#turns = [];
    this.position = this.log.earliest - 1;
    this.#budget = 0;
  }

  #next(): void {
    if (this.#frame !== null) return;
    this.#lastFrame = performance.now();
    this.#frame = requestAnimationFrame(this.#tick);
  }

  readonly #tick = (now: number): void => {
    this.#frame = null;
    const passed = Math.max(0, now - this.#lastFrame);
    this.log.want(this.position + 1, Math.min(this.position + AHEAD, this.log.head));
    const isTimed = this.#target === null && this.speed !== Infinity;
    this.#budget = isTimed ? this.#budget + passed * this.speed : 0;
    const end = performance.now() + SLICE;
    let entry = this.log.entry(this.position + 1);
    while (entry && this.#isDue(entry) && performance.now() < end) {
      this.#apply(entry);
      entry = this.log.entry(this.position + 1);
    }
    // Time in which the log is read is not time of the log.
    if (entry === undefined) this.#budget = 0;
    if (this.#target !== null && this.position >= Math.min(this.#target, this.log.head)) {
      this.#target = null;
    }
    if (this.isAtEnd) this.isPlaying = false;
    this.#changed();
    if (this.isPlaying || this.#target !== null) this.#next();
  };

  #isDue(entry: LogEntry): boolean {
    if (this.#target !== null) return entry.position <= this.#target;
    if (this.speed === Infinity) return true;
    const gap = this.log.gap(entry.position) ?? 0;
    const wait = this.skipsQuiet ? Math.min(gap, QUIET) : gap;
    if (wait > this.#budget) return false;
    this.#budget -= wait;
    return true;
  }

  #apply({ position, chunk }: LogEntry): void {
    const named = typeof chunk.turn === 'number' ? chunk.turn : undefined;
    let played = this.#turns.at(-1);
    if (played === undefined || (named !== undefined && named > played.turn)) {
      played = { turn: named ?? 1, fold: new AnswerFold(), shown: null };
      this.#turns.push(played);
    }
    played.fold.add(chunk);
    played.shown = null;
    this.position = position;
  }

  #changed(): void {
    this.#version += 1;
    for (const listener of this.#listeners) listener();
  }
}

function textOf(part: MessagePart): string {
  return part.type === 'text' ? part.content : '';
}

/** The fold has the names of the wire. */
function camelUsage(usage: object): NonNullable<ShownTurn['usage']> {
  const { input_tokens, output_tokens, steps, duration_ms } = usage as WireChunk;
  return {
    inputTokens: Number(input_tokens),
    outputTokens: Number(output_tokens),
    steps: Number(steps),
    durationMs: Number(duration_ms),
  };
}
