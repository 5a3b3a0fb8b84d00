import { StreamError } from '../errors.js';
import type { StreamClient } from './stream-client.js';

/** Pages of events that are searched for the goals of one session; each is one request. */
const MAX_PAGES = 5;
const PAGE = 1_000;

/**
 * Finds the goals of a session's turns.
 *
 * A session's log holds the answers. The goals stand in the organization's events, which need the
 * scope `events:read`. Without it, or when the events are no longer kept, goals stay unknown.
 */
export class GoalFinder {
  readonly #client: StreamClient;
  readonly #learn: (goals: ReadonlyMap<number, string>) => void;
  readonly #tried = new Set<number>();
  #waiting: readonly number[] = [];
  #looking = false;

  constructor(client: StreamClient, learn: (goals: ReadonlyMap<number, string>) => void) {
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
      this.#learn(await this.#ask(sessionId, turns));
    }
    this.#looking = false;
  }

  async #ask(sessionId: string, turns: readonly number[]): Promise<ReadonlyMap<number, string>> {
    const goals = new Map<number, string>();
    try {
      const { createdAt } = await this.#client.sessions.get(sessionId);
      const selection = { events: 'session.started', filters: { session_id: sessionId } };
      let cursor: string | undefined;
      for (let page = 0; page < MAX_PAGES && turns.some((turn) => !goals.has(turn)); page += 1) {
        const since = createdAt;
        const found = await this.#client.events.list({ ...selection, since, cursor, limit: PAGE });
        for (const { data } of found.data) {
          if (typeof data.turn === 'number' && typeof data.goal === 'string') {
            goals.set(data.turn, data.goal);
          }
        }
        if (!found.hasMore || found.nextCursor === null) break;
        cursor = found.nextCursor;
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      // No right to read events, or no connection: these goals stay null.
    }
    return goals;
  }
}
