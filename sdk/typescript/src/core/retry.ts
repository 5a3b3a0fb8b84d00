/** The retry budget: how often in a row, and how long before each. */
import type { StreamError } from '../errors.js';

/** A server that asks for a longer wait is left to the caller to obey, in seconds. */
const MAX_RETRY_AFTER = 60;

/** In seconds: the ceiling doubles from `base` up to `cap`. */
interface Backoff {
  readonly base: number;
  readonly cap: number;
}

type Random = () => number;

/**
 * Seconds to wait after `failures` (1, 2 …) in a row. The jitter is full, so that those a restart
 * cut off do not all come back at once, and stands above the floor, which many were told alike.
 */
export function delay(backoff: Backoff, failures: number, floor: number, random: Random): number {
  return floor + random() * Math.min(backoff.cap, backoff.base * 2 ** Math.min(failures - 1, 32));
}

/** How often, and at what pace, a failed attempt is repeated. */
export interface RetryRules {
  /** Failures in a row before an error is thrown. */
  readonly maxRetries: number;
  readonly backoff: Backoff;
  readonly random: Random;
}

/** Counts failures in a row; progress starts the count anew. */
export class Retries {
  #failures = 0;
  readonly #rules: RetryRules;

  constructor(rules: RetryRules) {
    this.#rules = rules;
  }

  /** Something came through. */
  progress(): void {
    this.#failures = 0;
  }

  /** Seconds before the next attempt; undefined when `error` is to be thrown instead. */
  after(error: StreamError, floor = 0): number | undefined {
    const { maxRetries, backoff, random } = this.#rules;
    const asked = error.retryAfter ?? 0;
    this.#failures += 1;
    if (this.#failures > maxRetries || asked > MAX_RETRY_AFTER) return undefined;
    const least = Math.min(Math.max(floor, asked), MAX_RETRY_AFTER);
    return delay(backoff, this.#failures, least, random);
  }
}
