/** A session's log in pages that are read when somebody looks at them, and its growing end. */

import { type LogPage, StreamError } from '@resonantgenesis/sdk';
import { admin, client, isPassing } from '../api.ts';

/** Entries of a page, and pages that are kept. */
const PAGE = 500;
const KEPT = 80;
/** Seconds that the server waits for the next entry, and milliseconds between two reads of the end. */
const WAIT = 25;
const PAUSE = 400;
/** Milliseconds before a read that failed is tried again, at first and at most. */
const RETRY = 500;
const LONGEST_RETRY = 10_000;

/** A chunk as the server has it. */
export type WireChunk = Readonly<Record<string, unknown>> & { readonly type: string };

export interface LogEntry {
  readonly position: number;
  /** Milliseconds since 1970, with microseconds behind the point. */
  readonly at: number;
  readonly chunk: WireChunk;
}

/** The entries `earliest` to `head` of a log. Any of them is at most one read away. */
export class LogPages {
  readonly sessionId: string;
  earliest = 1;
  head: number;
  /** Why the log cannot be read; null while it can. */
  error: Error | null = null;
  readonly #pages = new Map<number, LogEntry[]>();
  readonly #listeners = new Set<() => void>();
  #wanted: readonly number[] = [];
  #isReading = false;
  #version = 0;

  constructor(sessionId: string, head: number) {
    this.sessionId = sessionId;
    this.head = head;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** A number that changes with the log. */
  readonly version = (): number => this.#version;

  /** Undefined while it is not read. */
  entry(position: number): LogEntry | undefined {
    const page = this.#pages.get(pageOf(position));
    return page?.[position - (page[0]?.position ?? position)];
  }

  /** Milliseconds since the entry before; undefined for the first one, or while that is not read. */
  gap(position: number): number | undefined {
    const [before, entry] = [this.entry(position - 1), this.entry(position)];
    return before && entry && entry.at - before.at;
  }

  /** Reads what is missing of these entries; what was wanted before and is no more is left out. */
  want(first: number, last: number): void {
    const pages: number[] = [];
    for (let page = pageOf(Math.max(first, 1)); page <= pageOf(last); page += 1) pages.push(page);
    this.#wanted = pages;
    if (!this.#isReading) void this.#readWanted();
  }

  /** Follows the log's end. Returns a function that stops. */
  follow(): () => void {
    const stop = new AbortController();
    void this.#follow(stop.signal);
    return () => stop.abort();
  }

  async #readWanted(): Promise<void> {
    this.#isReading = true;
    let retry = RETRY;
    for (;;) {
      const page = this.#wanted.find((one) => !this.#isWhole(one));
      if (page === undefined) break;
      try {
        await this.#fill(page);
        retry = RETRY;
      } catch (error) {
        if (this.#isFinal(error)) break;
        await pause(retry);
        retry = Math.min(retry * 2, LONGEST_RETRY);
      }
    }
    this.#isReading = false;
  }

  /** Reads what a page lacks. */
  async #fill(page: number): Promise<void> {
    const entries = this.#pages.get(page) ?? [];
    const [first, last] = this.#boundsOf(page);
    const after = entries.at(-1)?.position ?? first - 1;
    const { events } = await this.#read(after, last - after, 0);
    this.#keep(page, entries);
    this.#take(events);
    // The server has less than it said before: the log was cut short behind our back.
    if (events.length === 0) this.head = after;
    this.#changed();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    let retry = RETRY;
    while (!signal.aborted) {
      try {
        const { events, done } = await this.#read(this.head, PAGE, WAIT, signal);
        this.#take(events);
        if (events.length > 0) this.#changed();
        if (done) await this.#untilMore(signal);
        else if (events.length < PAGE) await pause(PAUSE);
        retry = RETRY;
      } catch (error) {
        if (signal.aborted || this.#isFinal(error)) return;
        await pause(retry);
        retry = Math.min(retry * 2, LONGEST_RETRY);
      }
    }
  }

  /** Returns when an entry follows that of `head`. */
  async #untilMore(signal: AbortSignal): Promise<void> {
    const params = { resumeFrom: this.head, follow: true, compact: true, raiseOnError: false };
    const stream = await client.sessions.join(this.sessionId, { ...params, signal });
    for await (const _ of stream) break;
  }

  #read(after: number, limit: number, wait: number, signal?: AbortSignal): Promise<LogPage> {
    return admin.logs.read(this.sessionId, { after, limit, wait, signal });
  }

  /** Puts entries behind those that are kept; a page that nobody has looked at is not begun. */
  #take(events: LogPage['events']): void {
    for (const { position, at, ...chunk } of events) {
      const page = pageOf(position);
      const [first] = this.#boundsOf(page);
      if (position === first && !this.#pages.has(page)) this.#keep(page, []);
      const entries = this.#pages.get(page);
      const next = (entries?.at(-1)?.position ?? first - 1) + 1;
      if (position === next) entries?.push({ position, at: momentOf(at), chunk });
      this.head = Math.max(this.head, position);
    }
  }

  #keep(page: number, entries: LogEntry[]): void {
    this.#pages.delete(page);
    this.#pages.set(page, entries);
    const [oldest] = this.#pages.keys();
    if (this.#pages.size > KEPT && oldest !== undefined) this.#pages.delete(oldest);
  }

  #isWhole(page: number): boolean {
    const [first, last] = this.#boundsOf(page);
    return first > last || this.#pages.get(page)?.at(-1)?.position === last;
  }

  #boundsOf(page: number): readonly [first: number, last: number] {
    const first = page * PAGE + 1;
    return [Math.max(first, this.earliest), Math.min(first + PAGE - 1, this.head)];
  }

  /** Whether it is no use to try again. Older entries that were trimmed are learned here. */
  #isFinal(error: unknown): boolean {
    if (!(error instanceof StreamError)) throw error;
    if (isPassing(error)) return false;
    const earliest = error.details.earliest;
    if (error.code === 'POSITION_EXPIRED' && typeof earliest === 'number') {
      this.earliest = earliest;
      this.head = Math.max(this.head, earliest - 1);
      this.#pages.clear();
    } else {
      this.error = error;
    }
    this.#changed();
    return this.error !== null;
  }

  #changed(): void {
    this.#version += 1;
    for (const listener of this.#listeners) listener();
  }
}

function pageOf(position: number): number {
  return Math.floor((position - 1) / PAGE);
}

/** Milliseconds of an RFC 3339 time; what `Date` leaves out, the microseconds, is added. */
function momentOf(time: string): number {
  const fraction = /\.(\d{6})/.exec(time)?.[1] ?? '0';
  return Date.parse(time) + (Number(fraction) % 1000) / 1000;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
