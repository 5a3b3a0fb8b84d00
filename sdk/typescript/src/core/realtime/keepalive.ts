/** Pings, the detection of dead sockets, and the send rate. Times in seconds. */

/** A server accepts 100 messages a second from one socket, 200 at once (PROTOCOL.md, section 9). */
const SENDS_PER_SECOND = 80;
const SENDS_AT_ONCE = 100;

/** Pings every `interval`. The socket is dead if nothing comes for `patience` after a ping. */
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

  /** When to call `due` again. */
  get nextAt(): number {
    return Math.min(this.#pingAt, this.#deadAt ?? this.#pingAt);
  }

  /** Note that a message came. */
  received(): void {
    this.#deadAt = undefined;
  }

  /** Ping now, because the page was asleep. */
  pingNow(now: number): void {
    this.#pingAt = now;
  }

  /** What to do now. */
  due(now: number): 'ping' | 'dead' | undefined {
    if (this.#deadAt !== undefined && now >= this.#deadAt) return 'dead';
    if (now < this.#pingAt) return undefined;
    this.#pingAt = now + this.#interval;
    this.#deadAt ??= now + this.#patience;
    return 'ping';
  }

  /** Whether the socket was open long enough to reset the retries. */
  outlived(now: number): boolean {
    return now - this.#opened >= this.#interval;
  }
}

/** A token bucket of messages. */
export class SendRate {
  #left = SENDS_AT_ONCE;
  #at: number;

  constructor(now: number) {
    this.#at = now;
  }

  /** Take one token. Returns false if there is none. */
  take(now: number): boolean {
    this.#left = Math.min(SENDS_AT_ONCE, this.#left + (now - this.#at) * SENDS_PER_SECOND);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
