/**
 * The asks that a handler awaits.
 *
 * The turn stops for them, and no worker holds it meanwhile. Once the answers are there, a worker runs
 * the handler again from its start: it gets the answers at once, and what it yields up to the last of
 * them is left out, since it was sent before.
 */
import { isObject } from '../core/messages.js';
import type { JsonObject } from '../types.js';
import {
  AgentError,
  type Answer,
  type AskChunk,
  type KeepChunk,
  NotAnswered,
  type Turn,
} from './values.js';

/** What the server keeps for a turn whose handler is to run again; the handler's own value is in it. */
const MARK = 'resonantgenesis.run_again';
/** Milliseconds in which further asks of the same moment gather. */
const GATHER = 10;

type Calls = Pick<Turn, 'ask' | 'approve'>;

/** The asks of one run of a handler. */
export class HandlerAsks {
  /** The handler is being ended for its asks; what it yields from now on counts no more. */
  isStopping = false;
  /** What the handler has kept. */
  kept: unknown;
  #isAgain: boolean;
  #answers: Turn['answers'] = {};
  readonly #turn: unknown;
  readonly #taken = new Set<string>();
  /** The asks that the turn stops for. */
  readonly #asked: AskChunk[] = [];
  readonly #stopped = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #count = 0;

  constructor({ kept, turn }: JsonObject) {
    this.#turn = turn;
    this.#isAgain = isObject(kept) && MARK in kept;
    this.kept = isObject(kept) && this.#isAgain ? kept[MARK] : kept;
  }

  /** The turn with what its handler calls. */
  turn(turn: Omit<Turn, keyof Calls>): Turn {
    this.#answers = turn.answers;
    turn.signal.addEventListener('abort', () => this.#stopped.abort());
    const calls: Calls = {
      ask: async (message, { schema, callId, expiresIn } = {}) => {
        const asked = { kind: 'input', message, schema, callId, expiresIn } as const;
        const answer = await this.#ask({ type: 'ask', ...asked });
        if (!answer.ok) throw new NotAnswered(answer);
        return answer.payload;
      },
      approve: async ({ tool, args = {}, callId }, { message, expiresIn } = {}) => {
        if (!callId) throw new TypeError('name the call: its answer is known by its callId');
        const asked = { kind: 'approval', tool, args, callId, message, expiresIn } as const;
        return this.#ask({ type: 'ask', ...asked });
      },
    };
    return { ...turn, kept: this.kept ?? null, ...calls };
  }

  /** Whether what the handler yields was sent before. */
  get isRepeating(): boolean {
    return this.#isAgain && Object.keys(this.#answers).some((callId) => !this.#taken.has(callId));
  }

  /** What the turn stops for, once the handler has ended. Throws AgentError. */
  last(): (KeepChunk | AskChunk)[] {
    clearTimeout(this.#timer);
    if (this.isRepeating) {
      throw new AgentError('the agent was started again, and did not ask as it had before');
    }
    if (!this.isStopping) return [];
    return [{ type: 'keep', value: { [MARK]: this.kept ?? null } }, ...this.#asked];
  }

  #ask(ask: AskChunk): Promise<Answer> {
    this.#count += ask.callId ? 0 : 1;
    const callId = ask.callId || `ask_${this.#turn}_${this.#count}`;
    const answer = this.#answers[callId];
    this.#taken.add(callId);
    if (answer) return Promise.resolve(answer);
    this.#isAgain = false;
    if (!this.isStopping) this.#asked.push({ ...ask, callId });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.isStopping = true;
      this.#stopped.abort();
    }, GATHER);
    const { signal } = this.#stopped;
    const stopped = new Promise<never>((_, reject) => {
      const stop = () => reject(new Error('the turn waits for an answer'));
      signal.addEventListener('abort', stop);
      if (signal.aborted) stop();
    });
    // A handler need not wait for all that it asks.
    stopped.catch(() => undefined);
    return stopped;
  }
}
