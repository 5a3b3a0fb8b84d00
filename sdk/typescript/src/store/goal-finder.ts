import { StreamError } from '../errors.js';
import type { Message } from '../types.js';
import type { StreamClient } from './stream-client.js';

/** Pages of messages that are searched for the goals of new turns; each is one request. */
const MAX_PAGES = 5;
const PAGE = 100;

/**
 * Finds the goals of turns that others ask for while a session is shown: its chunks hold the answers,
 * and its messages the goals as well.
 */
export class GoalFinder {
  readonly #client: StreamClient;
  readonly #learn: (messages: Iterable<Message>) => void;
  readonly #tried = new Set<number>();
  #waiting: readonly number[] = [];
  #looking = false;

  constructor(client: StreamClient, learn: (messages: Iterable<Message>) => void) {
    this.#client = client;
    this.#learn = learn;
  }

  /** Asks for the goals of these turns, each once. Never fails. */
  look(sessionId: string, turns: readonly number[]): void {
    this.#waiting = turns.filter((turn) => !this.#tried.has(turn));
    if (!this.#looking && this.#waiting.length > 0) {
      this.#looking = true;
      // After a moment: the turns of a long session come all together.
      setTimeout(() => void this.#find(sessionId), 0);
    }
  }

  async #find(sessionId: string): Promise<void> {
    while (this.#waiting.length > 0) {
      const turns = this.#waiting;
      this.#waiting = [];
      for (const turn of turns) this.#tried.add(turn);
      await this.#ask(sessionId, Math.min(...turns));
    }
    this.#looking = false;
  }

  /** Reads from the newest message back to that of `turn`. */
  async #ask(sessionId: string, turn: number): Promise<void> {
    try {
      let cursor: string | undefined;
      for (let count = 0; count < MAX_PAGES; count += 1) {
        const page = await this.#client.sessions.messages(sessionId, { limit: PAGE, cursor });
        this.#learn(page);
        cursor = page.nextCursor ?? undefined;
        if (cursor === undefined || page.data.some((message) => message.turn === turn)) break;
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      // No connection: these goals stay null.
    }
  }
}
