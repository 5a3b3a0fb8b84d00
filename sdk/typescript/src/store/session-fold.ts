import type { Chunk } from '../types.js';
import type { SessionState, TurnContent, TurnSnapshot } from './snapshots.js';
import { TurnFold } from './turn-fold.js';

/** The number of turns that are shown. Older turns are dropped here, not at the server. */
const MAX_TURNS = 500;

/** Whether a turn of this status has not ended. */
export function isActive(status: SessionState['status']): boolean {
  return ['sending', 'queued', 'streaming', 'waiting'].includes(status);
}

/** A turn as it is known here: by its goal while it is sent, by its number once the server has it. */
class Entry {
  #shown: TurnSnapshot | null = null;
  #content: TurnContent | null = null;

  constructor(
    public key: string,
    public turn: number | null,
    public goal: string | null,
    public phase: TurnSnapshot['status'],
    readonly fold = new TurnFold(),
  ) {}

  get status(): TurnSnapshot['status'] {
    return this.fold.status ?? (this.fold.isWaiting ? 'waiting' : this.phase);
  }

  get isActive(): boolean {
    return isActive(this.status);
  }

  view(): TurnSnapshot {
    const { key, turn, goal, status } = this;
    const content = this.fold.view();
    const old = this.#shown;
    if (
      old === null ||
      this.#content !== content ||
      old.turn !== turn ||
      old.goal !== goal ||
      old.status !== status
    ) {
      this.#content = content;
      this.#shown = { key, turn, goal, status, ...content };
      return this.#shown;
    }
    return old;
  }
}

/** A session's turns, in order, made from its chunks and the goals sent to it. */
export class SessionFold {
  #position = 0;
  #entries: Entry[] = [];
  /** The turn of chunks that name no turn. */
  #open: Entry | null = null;
  #shown: readonly TurnSnapshot[] = [];

  constructor(turns: readonly TurnSnapshot[] = [], position = 0) {
    this.#position = position;
    for (const { key, turn, goal, status, ...content } of turns) {
      const entry = new Entry(key, turn, goal, status, new TurnFold(content));
      this.#entries.push(entry);
      if (status === 'streaming' || status === 'waiting') this.#open = entry;
    }
  }

  /** The position of the last chunk that was taken. */
  get position(): number {
    return this.#position;
  }

  /** Whether a turn is being sent, waits or runs. */
  get isActive(): boolean {
    return this.#entries.some((entry) => entry.isActive);
  }

  /** Goals that are being sent or were not taken, by key. */
  unsent(): readonly TurnSnapshot[] {
    return this.view().filter((turn) => turn.turn === null);
  }

  /** The same array until a turn changes; unchanged turns stay the same objects. */
  view(): readonly TurnSnapshot[] {
    const turns = this.#entries.map((entry) => entry.view());
    const same = turns.length === this.#shown.length;
    if (!same || turns.some((turn, index) => turn !== this.#shown[index])) this.#shown = turns;
    return this.#shown;
  }

  /** Notes a goal that is being sent under this key, for the first time or again. */
  send(key: string, goal: string): void {
    const entry = this.#byKey(key) ?? this.#add(new Entry(key, null, goal, 'sending'));
    entry.phase = 'sending';
    entry.fold.fail(null);
  }

  /** The server has taken the goal of this key as that turn. */
  taken(key: string, turn: number): void {
    const sent = this.#sent(key, turn);
    const known = this.#byTurn(turn);
    if (sent === undefined || sent === known) return;
    if (known === undefined) {
      sent.turn = turn;
      sent.phase = 'queued';
      this.#sort();
    } else {
      known.goal = sent.goal;
      this.#entries = this.#entries.filter((entry) => entry !== sent);
    }
  }

  /** The server did not take the goal of this key. It refused it (`error`), or we withdrew it. */
  dropped(key: string, error: Error | null): void {
    const entry = this.#sent(key, null);
    if (entry !== undefined) {
      entry.phase = error === null ? 'cancelled' : 'failed';
      entry.fold.fail(error);
    }
  }

  /** Forgets a goal that was not taken. */
  forget(key: string): void {
    this.#entries = this.#entries.filter((entry) => entry.key !== key || entry.turn !== null);
  }

  /** Takes a chunk, unless it was taken before. */
  apply(chunk: Chunk): void {
    if (chunk.position <= this.#position) return;
    this.#position = chunk.position;
    const entry = this.#entryOf(chunk);
    entry.phase = 'streaming';
    entry.fold.apply(chunk);
    this.#open = entry.fold.status === null ? entry : null;
  }

  /** The numbers of turns whose goal is not known. */
  goalless(): readonly number[] {
    return this.#entries.flatMap(({ turn, goal }) => (goal === null && turn !== null ? turn : []));
  }

  /** The number of the turn that waits for this call's answer. */
  asking(callId: string): number | undefined {
    const asks = (entry: Entry) => entry.fold.view().waiting.some((ask) => ask.callId === callId);
    return this.#entries.find(asks)?.turn ?? undefined;
  }

  /** Fills in goals by the turns' numbers. */
  learn(goals: ReadonlyMap<number, string>): void {
    for (const entry of this.#entries) entry.goal ??= goals.get(entry.turn ?? 0) ?? null;
  }

  #entryOf(chunk: Chunk): Entry {
    const { type } = chunk;
    const isNumbered = type === 'done' || type === 'step' || type === 'waiting';
    const turn = isNumbered ? chunk.turn : undefined;
    if (this.#open !== null && (turn === undefined || this.#open.turn === turn)) return this.#open;
    const known = turn === undefined ? undefined : this.#byTurn(turn);
    if (known !== undefined) return known;
    // Probably the goal just sent, whose number has not come yet; `taken` will tell.
    const sent = this.#entries.find((entry) => entry.phase === 'sending' && entry.turn === null);
    if (sent !== undefined && turn !== undefined) {
      sent.turn = turn;
      this.#sort();
      return sent;
    }
    return this.#add(
      new Entry(`turn-${turn ?? `at-${chunk.position}`}`, turn ?? null, null, 'streaming'),
    );
  }

  /** The entry of this key, without the chunks of a turn that is not its own. */
  #sent(key: string, turn: number | null): Entry | undefined {
    const entry = this.#byKey(key);
    if (entry === undefined || entry.turn === null || entry.turn === turn) return entry;
    const { goal } = entry;
    entry.key = `turn-${entry.turn}`;
    entry.goal = null;
    return this.#add(new Entry(key, null, goal, 'sending'));
  }

  #byKey(key: string): Entry | undefined {
    return this.#entries.find((entry) => entry.key === key);
  }

  #byTurn(turn: number): Entry | undefined {
    return this.#entries.find((entry) => entry.turn === turn);
  }

  #add(entry: Entry): Entry {
    this.#entries.push(entry);
    this.#sort();
    if (this.#entries.length > MAX_TURNS) this.#entries.shift();
    return entry;
  }

  /** Sorts by number; turns without one come last. */
  #sort(): void {
    this.#entries.sort((one, other) => (one.turn ?? Infinity) - (other.turn ?? Infinity) || 0);
  }
}
