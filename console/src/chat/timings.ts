/** How fast answers come, as this page sees it. */
import type { UseSessionResult } from '@resonantgenesis/sdk/react';
import { useEffect, useRef, useState } from 'react';

/** Milliseconds between two looks while an answer runs. */
const LOOK = 250;

export interface Timing {
  /** Milliseconds from the question to the first chunk; null if the question was not asked here. */
  readonly firstChunk: number | null;
  readonly chunks: number;
  /** Null before the second chunk. */
  readonly chunksPerSecond: number | null;
}

class Clock {
  first: number | null = null;
  last = 0;
  chunks = 0;
  constructor(public asked: number | null) {}

  get timing(): Timing {
    const { asked, first, last, chunks } = this;
    const seconds = first === null ? 0 : (last - first) / 1000;
    return {
      firstChunk: asked === null || first === null ? null : first - asked,
      chunks,
      chunksPerSecond: chunks > 1 && seconds > 0 ? (chunks - 1) / seconds : null,
    };
  }
}

type Seen = Pick<UseSessionResult, 'turns' | 'position'>;

/** Watches a session; turns are known by their keys. */
class Stopwatch {
  readonly #clocks = new Map<string, Clock>();
  #position = 0;
  #running: string | null = null;

  look({ turns, position }: Seen, now: number): void {
    for (const { key, status } of turns) {
      if (status === 'sending' && !this.#clocks.has(key)) this.#clocks.set(key, new Clock(now));
    }
    const running = turns.findLast(({ parts }) => parts.length > 0);
    if (running === undefined || position === this.#position) return;
    // What was there when the page was opened tells no time.
    const isKnown = this.#position > 0 || this.#clocks.has(running.key);
    if (isKnown) this.#count(running.key, position, now);
    this.#position = position;
  }

  #count(key: string, position: number, now: number): void {
    let clock = this.#clocks.get(key);
    if (clock === undefined) {
      clock = new Clock(null);
      this.#clocks.set(key, clock);
    }
    if (key !== this.#running) {
      // A question that had to wait for another one is asked when that has ended.
      const before = this.#clocks.get(this.#running ?? '')?.last ?? 0;
      if (clock.asked !== null) clock.asked = Math.max(clock.asked, before);
      this.#running = key;
    }
    clock.first ??= now;
    clock.last = now;
    clock.chunks += position - this.#position;
  }

  timings(): ReadonlyMap<string, Timing> {
    return new Map([...this.#clocks].map(([key, clock]) => [key, clock.timing]));
  }
}

/** The timings of a session's turns, by their keys. */
export function useTimings(session: UseSessionResult): ReadonlyMap<string, Timing> {
  const watch = useRef(new Stopwatch());
  const [timings, setTimings] = useState<ReadonlyMap<string, Timing>>(new Map());
  const { isStreaming } = session;
  useEffect(() => watch.current.look(session, performance.now()), [session]);
  useEffect(() => {
    const show = () => setTimings(watch.current.timings());
    if (!isStreaming) return show();
    const timer = setInterval(show, LOOK);
    return () => clearInterval(timer);
  }, [isStreaming]);
  return timings;
}
