import type { Chunk, Message } from '../types.js';
import type { KeptTurn, SessionState, TurnContent, TurnSnapshot } from './snapshots.js';
import { TurnFold } from './turn-fold.js';

/** The number of turns that are shown. Older turns are dropped here, not at the server. */
export const MAX_TURNS = 500;

/** Whether a turn of this status has not ended. */
export function isActive(status: SessionState['status']): boolean {
  return ['sending', 'queued', 'streaming', 'waiting'].includes(status);
}

/** What a page of messages has of one turn. */
interface LoadedTurn {
  readonly goal?: Message;
  readonly answer?: Message;
}

/** A turn as it is known here: by its goal while it is sent, by its number once the server has it. */
class Entry {
  replacedBy: number | undefined;
  /** The turn that it is to replace. */
  replaces: number | undefined;
  #shown: TurnSnapshot | null = null;
  #content: TurnContent | null = null;

  constructor(
    public key: string,
    public turn: number | null,
    public goal: string | null,
    public phase: TurnSnapshot['status'],
    public fold = new TurnFold(),
  ) {}

  get status(): TurnSnapshot['status'] {
    return this.fold.status ?? (this.fold.isWaiting ? 'waiting' : this.phase);
  }

  get isActive(): boolean {
    return isActive(this.status);
  }

  get hasChunks(): boolean {
    return this.fold.view().parts.length > 0;
  }

  view(): TurnSnapshot {
    const { key, turn, goal, status, replacedBy } = this;
    const content = this.fold.view();
    const old = this.#shown;
    if (
      old === null ||
      this.#content !== content ||
      old.turn !== turn ||
      old.goal !== goal ||
      old.status !== status ||
      old.replacedBy !== replacedBy
    ) {
      this.#content = content;
      const replaced = replacedBy !== undefined && { replacedBy };
      this.#shown = { key, turn, goal, status, ...replaced, ...content };
      return this.#shown;
    }
    return old;
  }
}

/** A session's turns, in order, made from its chunks and the goals sent to it. */
export class SessionFold {
  #position = 0;
  /** Turns that a fork has from other sessions. */
  #inherited: readonly TurnSnapshot[] = [];
  #entries: Entry[] = [];
  /** The turn of chunks that name no turn. */
  #open: Entry | null = null;
  #shown: readonly TurnSnapshot[] = [];

  constructor(turns: readonly KeptTurn[] = [], position = 0) {
    this.#position = position;
    for (const kept of turns) {
      const { key, turn, goal, status, replacedBy, inheritedFrom } = kept;
      const fold = foldOf(kept);
      if (inheritedFrom !== undefined) {
        this.#inherited = [...this.#inherited, { ...kept, ...fold.view() }];
        continue;
      }
      const entry = new Entry(key, turn, goal, status, fold);
      entry.replacedBy = replacedBy;
      this.#entries.push(entry);
      if (status === 'streaming' || status === 'waiting') this.#open = entry;
    }
  }

  /** The number of turns that are known. */
  get size(): number {
    return this.#inherited.length + this.#entries.length;
  }

  /**
   * Shows the turns of a page of a session's messages. With `position` it is the newest page, behind
   * which the chunks go on.
   */
  load(messages: Iterable<Message>, sessionId: string, position?: number): void {
    const inherited: TurnSnapshot[] = [];
    for (const loaded of pairs(messages)) {
      const origin = (loaded.answer ?? loaded.goal)?.sessionId ?? sessionId;
      const entry = entryOf(loaded);
      if (origin !== sessionId) {
        const key = `${origin}-${entry.key}`;
        inherited.push({ ...entry.view(), key, inheritedFrom: origin });
        continue;
      }
      const shown = this.#merge(entry);
      if (position !== undefined && shown.hasChunks && shown.fold.status === null) {
        this.#open = shown;
      }
    }
    this.#inherited = [...inherited, ...this.#inherited];
    this.#position = Math.max(this.#position, position ?? 0);
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
    const turns = [...this.#inherited, ...this.#entries.map((entry) => entry.view())];
    const same = turns.length === this.#shown.length;
    if (!same || turns.some((turn, index) => turn !== this.#shown[index])) this.#shown = turns;
    return this.#shown;
  }

  /**
   * Notes a goal that is being sent under this key, for the first time or again; its turn may replace
   * another one.
   */
  send(key: string, goal: string, replaces?: number): void {
    const entry = this.#byKey(key) ?? this.#add(new Entry(key, null, goal, 'sending'));
    entry.phase = 'sending';
    entry.replaces = replaces;
    entry.fold.fail(null);
  }

  /** The server has taken the goal of this key as that turn. */
  taken(key: string, turn: number): void {
    const sent = this.#sent(key, turn);
    const known = this.#byTurn(turn);
    const replaced = this.#byTurn(sent?.replaces ?? 0);
    if (replaced !== undefined) replaced.replacedBy = turn;
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

  /** A turn that waits for others has another goal now, or waits no more (null). */
  queued(turn: number, goal: string | null): void {
    const entry = this.#byTurn(turn);
    if (entry === undefined || entry.phase !== 'queued') return;
    if (goal === null) entry.phase = 'cancelled';
    else entry.goal = goal;
  }

  /** The last turn of the session itself that the server has. */
  last(): TurnSnapshot | undefined {
    return this.#entries
      .filter(({ turn }) => turn !== null)
      .at(-1)
      ?.view();
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

  /** Fills in the goals of turns that others asked for, and which turns those have replaced. */
  learn(messages: Iterable<Message>, sessionId: string): void {
    for (const message of messages) {
      const entry = message.sessionId === sessionId ? this.#byTurn(message.turn) : undefined;
      if (entry === undefined) continue;
      entry.replacedBy ??= message.replacedBy ?? undefined;
      if (message.role === 'user') entry.goal ??= textOf(message);
    }
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

  /** Adds a turn of a page of messages to what is known of it. */
  #merge(loaded: Entry): Entry {
    const known = this.#byTurn(loaded.turn);
    if (known === undefined) return this.#add(loaded);
    known.goal ??= loaded.goal;
    known.replacedBy = loaded.replacedBy;
    if (!known.hasChunks) {
      known.fold = loaded.fold;
      known.phase = loaded.phase;
    }
    return known;
  }

  /** The entry of this key, without the chunks of a turn that is not its own. */
  #sent(key: string, turn: number | null): Entry | undefined {
    const entry = this.#byKey(key);
    if (entry === undefined || entry.turn === null || entry.turn === turn) return entry;
    const { goal, replaces } = entry;
    entry.key = `turn-${entry.turn}`;
    entry.goal = null;
    entry.replaces = undefined;
    const sent = this.#add(new Entry(key, null, goal, 'sending'));
    sent.replaces = replaces;
    return sent;
  }

  #byKey(key: string): Entry | undefined {
    return this.#entries.find((entry) => entry.key === key);
  }

  #byTurn(turn: number | null): Entry | undefined {
    return this.#entries.find((entry) => turn !== null && entry.turn === turn);
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

/** A page's messages by turn: what the user asked, and the answer if there is one. */
function pairs(messages: Iterable<Message>): Iterable<LoadedTurn> {
  const turns = new Map<string, LoadedTurn>();
  for (const message of messages) {
    const id = `${message.sessionId} ${message.turn}`;
    const role = message.role === 'user' ? 'goal' : 'answer';
    turns.set(id, { ...turns.get(id), [role]: message });
  }
  return turns.values();
}

function entryOf({ goal, answer }: LoadedTurn): Entry {
  const { turn, status, replacedBy } = (answer ?? goal) as Message;
  const isOpen = status === 'running' || status === 'waiting';
  const phase = isOpen ? 'streaming' : status;
  const text = goal ? textOf(goal) : null;
  const entry = new Entry(`turn-${turn}`, turn, text, phase, new TurnFold(answer));
  entry.replacedBy = replacedBy ?? undefined;
  return entry;
}

function textOf({ parts: [first] }: Message): string | null {
  return first?.type === 'text' ? first.content : null;
}

function foldOf({ turn, status, parts, usage, truncated, error }: KeptTurn): TurnFold {
  const isOver = turn !== null && !isActive(status);
  const folded = isOver ? (status as Message['status']) : 'running';
  return new TurnFold({ status: folded, parts, usage, truncated }, error);
}
