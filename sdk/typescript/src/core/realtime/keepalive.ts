/** When to ping, when a link that does not answer is dead, and how fast to speak. Times in seconds. */

/** What a server takes of one socket is 100 messages a second, 200 at once (PROTOCOL.md, 9). */
const SENDS_PER_SECOND = 80;
const SENDS_AT_ONCE = 100;

/** A ping every `interval`; dead when `patience` after one nothing at all has come. */
export class Keepalive {
  readonly #interval: number;
  readonly #patience: number;
  readonly #opened: number;
  #pingAt: number;
  #deadAt: number | undefined;

  constructor(now: number, interval: number, patience: number) {
    this.#interval = interval;
    this.#patience = patience;
    this.#opened = now;
    this.#pingAt = now + interval;
  }

  /** When `due` must be asked again. */
  get nextAt(): number {
    return Math.min(this.#pingAt, this.#deadAt ?? this.#pingAt);
  }

  /** Something came. */
  received(): void {
    this.#deadAt = undefined;
  }

  /** Nobody has looked for a while: the next ping is due now. */
  pingNow(now: number): void {
    this.#pingAt = now;
  }

  /** What is to be done now. */
  due(now: number): 'ping' | 'dead' | undefined {
    if (this.#deadAt !== undefined && now >= this.#deadAt) return 'dead';
    if (now < this.#pingAt) return undefined;
    this.#pingAt = now + this.#interval;
    this.#deadAt ??= now + this.#patience;
    return 'ping';
  }

  /** Whether the link has stood long enough to be called good. */
  outlived(now: number): boolean {
    return now - this.#opened >= this.#interval;
  }
}

/** A bucket of messages that refills with time. */
export class SendRate {
  #left = SENDS_AT_ONCE;
  #at: number;

  constructor(now: number) {
    this.#at = now;
  }

  /** Takes one message's place, if there is one. */
  take(now: number): boolean {
    this.#left = Math.min(SENDS_AT_ONCE, this.#left + (now - this.#at) * SENDS_PER_SECOND);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
