import { newKey } from '../core/messages.js';
import {
  ConnectionLost,
  InvalidRequest,
  NotFound,
  PositionExpired,
  StreamError,
} from '../errors.js';
import type {
  AgentStream,
  AnswerParams,
  Chunk,
  ConnectionState,
  ForkParams,
  QueuedChanges,
  SessionData,
  StreamControls,
} from '../types.js';
import { ChunkObservable } from './chunk-observable.js';
import { GoalFinder } from './goal-finder.js';
import type { UnsentGoal } from './outbox.js';
import { Outbox } from './outbox.js';
import { isHidden, whenLeft } from './page-visibility.js';
import { ResumableReader } from './resumable-reader.js';
import { followByHttp, followBySocket } from './session-connections.js';
import { MAX_TURNS, SessionFold } from './session-fold.js';
import type { PlaceStorage } from './session-place.js';
import { PlaceKeeper, placeStorage } from './session-place.js';
import type { SendParams, SessionState } from './snapshots.js';
import { NO_SESSION } from './snapshots.js';
import type { StreamClient } from './stream-client.js';

export interface SessionStoreOptions {
  /**
   * Where a page keeps a session's turns and position over a reload: `session` (the tab's storage),
   * `local` (the browser's) or another. Without it the session is read from its start.
   */
  readonly storage?: 'session' | 'local' | PlaceStorage | undefined;
  /**
   * `http` (the default) passes every proxy and opens a connection for each session. `websocket`
   * opens one socket for all sessions of a client.
   */
  readonly transport?: 'http' | 'websocket' | undefined;
}

/** What a page does with a session. */
export interface SessionActions {
  /**
   * Sends a goal for the next turn, which may wait until the running turn has ended (`ifBusy`); the
   * first one makes the session. With `replaceTurn` it takes the place of the last turn. Resolves when
   * the server has taken or refused it. Never rejects: the turn has the error.
   */
  send(goal: string, params?: SendParams): Promise<void>;
  /**
   * Asks the last turn's goal again, in the place of that turn, which is cancelled if it is not over.
   * Resolves like `send`.
   */
  regenerate(): Promise<void>;
  /**
   * Says something to the open turn; its agent takes it when it likes to, or the next turn has it.
   * Rejects with a StreamError, a Conflict where no turn is open.
   */
  steer(content: string): Promise<void>;
  /**
   * Answers what a turn asks (`waiting`); the turn goes on in its place. Rejects with a StreamError
   * where somebody has answered otherwise, or the answer does not fit.
   */
  answer(callId: string, answer: AnswerParams): Promise<void>;
  /** Cancels all open turns. Rejects with a StreamError if the server could not be reached. */
  cancel(): Promise<void>;
  /** Reads on, sends again or asks again, as the error requires. Resolves like `send`. */
  retry(): Promise<void>;
  /** Makes a session that begins with the turns of this one. Rejects with a StreamError. */
  fork(params?: ForkParams): Promise<SessionData>;
  /** Changes a turn of the status `queued`. Rejects with a StreamError, a Conflict once it has started. */
  editQueued(turn: number, changes: QueuedChanges): Promise<void>;
  /** Takes a turn out of the queue. Rejects with a StreamError, a Conflict once it has started. */
  removeQueued(turn: number): Promise<void>;
}

/**
 * A session with all its turns, whoever asked for them. It is read over one connection while anybody
 * holds the store.
 *
 * Without a session the first goal that is sent makes one.
 */
export class SessionStore extends ChunkObservable<SessionState> implements SessionActions {
  readonly client: StreamClient;
  readonly #options: SessionStoreOptions;
  readonly #outbox: Outbox;
  readonly #reader: ResumableReader<Chunk>;
  readonly #goals: GoalFinder;
  #fold = new SessionFold();
  #sessionId: string | null;
  #keeper: PlaceKeeper | null = null;
  /** The position to read after, if it is not the last chunk's. */
  #start: number | null = null;
  /** The cursor of messages that are not shown yet; NEWEST for the page that the chunks follow. */
  #older: string | null;
  #sending: ConnectionState = 'closed';
  #stopListening: () => void = () => undefined;

  constructor(client: StreamClient, sessionId: string | null, options: SessionStoreOptions = {}) {
    super({ ...NO_SESSION, sessionId });
    this.client = client;
    this.#sessionId = sessionId;
    // A session that is made here has no messages before its chunks.
    this.#older = sessionId === null ? null : NEWEST;
    this.#options = options;
    this.#reader = new ResumableReader({
      open: (controls) => this.#join(controls),
      take: (chunk) => this.#take(chunk),
      changed: () => this.#look(),
    });
    this.#outbox = new Outbox(client, {
      sessionId: () => this.#sessionId,
      taken: (key, place) => {
        this.#fold.taken(key, place.turn);
        this.#sessionId = place.sessionId;
        this.#follow();
      },
      dropped: (key, error) => this.#fold.dropped(key, error),
      connection: (state) => {
        this.#sending = state;
        this.touch();
      },
    });
    this.#goals = new GoalFinder(client, (messages) => {
      this.#fold.learn(messages, this.#sessionId ?? '');
      this.touch();
    });
  }

  get sessionId(): string | null {
    return this.#sessionId;
  }

  readonly send = async (goal: string, params: SendParams = {}): Promise<void> => {
    const at = Date.now();
    await this.#send(newKey(), { goal, params: { ifBusy: 'enqueue', ...params }, at });
  };

  readonly regenerate = async (params: SendParams = {}): Promise<void> => {
    const last = this.#fold.last();
    if (last?.turn == null) return;
    const again = { ...params, replaceTurn: last.turn, ifBusy: 'interrupt' } as const;
    // Without a goal the turn has that of the replaced one, and its model and tools.
    const unsent = { goal: '', params: again, at: Date.now() };
    await this.#send(newKey(), unsent, last.goal ?? '');
  };

  readonly steer = async (content: string): Promise<void> => {
    await this.client.sessions.send(this.#id(), content);
  };

  readonly fork = async (params?: ForkParams): Promise<SessionData> =>
    this.client.sessions.fork(this.#id(), params);

  readonly editQueued = async (turn: number, changes: QueuedChanges): Promise<void> => {
    await this.client.sessions.editQueued(this.#id(), turn, changes);
    if (changes.goal !== undefined) this.#fold.queued(turn, changes.goal);
    this.publish();
  };

  readonly removeQueued = async (turn: number): Promise<void> => {
    await this.client.sessions.removeQueued(this.#id(), turn);
    this.#fold.queued(turn, null);
    this.publish();
  };

  readonly cancel = async (): Promise<void> => {
    const unanswered = this.#outbox.withdraw();
    const taken = this.#sessionId === null ? null : this.client.sessions.cancel(this.#sessionId);
    await Promise.all([unanswered, taken]);
  };

  readonly answer = async (callId: string, answer: AnswerParams): Promise<void> => {
    const turn = this.#fold.asking(callId);
    await this.client.sessions.input(this.#id(), callId, { turn, ...answer });
    this.#follow();
  };

  /**
   * Goes on after an error: reads on, sends a refused goal again, or asks again for a turn that failed
   * or was cancelled. Does nothing while a turn is open. Resolves like `send`.
   */
  readonly retry = async (params: SendParams = {}): Promise<void> => {
    if (this.#reader.error !== null) {
      this.#follow();
      this.publish();
      return;
    }
    const last = this.#fold.view().at(-1);
    if (last === undefined || last.goal === null || this.#fold.isActive) return;
    const again = this.#outbox.again(last.key);
    if (again !== undefined) {
      await this.#send(last.key, again);
    } else if (last.status !== 'success') {
      this.#fold.forget(last.key);
      await this.send(last.goal, params);
    }
  };

  protected override view(): SessionState {
    const turns = this.#fold.view();
    const newest = turns.at(-1) ?? NO_SESSION;
    const { content, parts, truncated, toolCalls, steps, waiting, usage } = newest;
    const { error, status, turn } = newest;
    const failed = this.#reader.error;
    return {
      turns,
      content,
      parts,
      truncated,
      toolCalls,
      steps,
      waiting,
      usage,
      error: failed ?? error,
      status,
      isStreaming: this.#fold.isActive && failed === null,
      sessionId: this.#sessionId,
      turn,
      position: this.#fold.position,
      connection: this.#reader.isReading ? this.#reader.connection : this.#sending,
    };
  }

  #id(): string {
    if (this.#sessionId === null) throw new NotFound('there is no session yet');
    return this.#sessionId;
  }

  async #send(key: string, send: UnsentGoal, goal = send.goal): Promise<void> {
    this.#fold.send(key, goal, send.params.replaceTurn);
    this.publish();
    const sent = this.#outbox.send(key, send);
    this.#keep();
    await sent;
    this.#sending = 'closed';
    this.publish();
    this.#keep();
  }

  // -- while it is held -------------------------------------------------------------------------

  protected override begin(): void {
    const stopWaking = this.#reader.whenBack(() => this.#follow());
    const stopLeft = whenLeft(() => {
      this.#keep();
      this.#rest();
    });
    this.#stopListening = () => {
      stopWaking();
      stopLeft();
    };
    this.#restore();
    this.#follow();
    this.publish();
  }

  protected override end(): void {
    this.#keep();
    this.#stopListening();
    this.#reader.close();
  }

  #follow(): void {
    if (this.#sessionId !== null && this.isHeld) void this.#reader.read();
  }

  /**
   * A hidden tab that waits for no answer closes its connection, for the sake of visible tabs: over
   * HTTP/1.1 a browser has six connections to a server.
   */
  #rest(): void {
    if (isHidden() && !this.#fold.isActive) this.#reader.close();
  }

  async #join(controls: StreamControls): Promise<AgentStream> {
    if (this.#older === NEWEST) await this.#load();
    if (this.#older !== null) void this.#loadOlder();
    const resumeFrom = this.#start ?? this.#fold.position;
    const params = { ...controls, resumeFrom, compact: true, raiseOnError: false };
    const follow = this.#options.transport === 'websocket' ? followBySocket : followByHttp;
    return follow(this.client, this.#sessionId ?? '', params);
  }

  /** Shows the newest messages; the stream goes on behind them, without a gap. Throws StreamError. */
  async #load(): Promise<void> {
    const id = this.#id();
    const page = await this.client.sessions.messages(id, { limit: PAGE });
    const isCut = page.data.some(({ truncated }) => truncated);
    // What is too large for messages is read from the log, which has all.
    if (!isCut) this.#fold.load(page, id, page.position ?? 0);
    this.#older = isCut ? null : page.nextCursor;
    this.touch();
  }

  /** Shows the messages before those, page by page; goes on with the next connection if it fails. */
  async #loadOlder(): Promise<void> {
    const id = this.#id();
    try {
      while (this.#older !== null && this.#fold.size < MAX_TURNS) {
        const cursor = this.#older;
        const page = await this.client.sessions.messages(id, { limit: PAGE, cursor });
        if (this.#older !== cursor) return;
        this.#fold.load(page, id);
        this.#older = page.nextCursor;
        this.touch();
      }
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
    }
  }

  #take(chunk: Chunk): void {
    this.#start = null;
    this.#fold.apply(chunk);
    this.tell(chunk);
    if (chunk.type === 'step' && this.#sessionId !== null) {
      this.#goals.look(this.#sessionId, this.#fold.goalless());
    }
    if (chunk.type === 'done' || chunk.type === 'waiting') {
      this.#keep();
      this.#rest();
    }
    this.touch();
  }

  #look(): void {
    const { error } = this.#reader;
    // The shown chunks are no longer in the log: trimmed, or replaced by a backup.
    const gone = error instanceof PositionExpired || error instanceof InvalidRequest;
    if (error !== null && gone && this.#start === null) {
      const earliest = error.details.earliest;
      this.#start = typeof earliest === 'number' ? earliest - 1 : 0;
      this.#fold = new SessionFold(this.#fold.unsent(), this.#start);
      this.#follow();
    }
    this.touch();
  }

  // -- over a reload ----------------------------------------------------------------------------

  #place(): PlaceKeeper | null {
    if (this.#keeper === null && this.#sessionId !== null) {
      const storage = placeStorage(this.#options.storage);
      this.#keeper = storage && new PlaceKeeper(storage, this.#sessionId);
    }
    return this.#keeper;
  }

  #keep(): void {
    const { position } = this.#fold;
    const [turns, { sends }] = [this.#fold.view(), this.#outbox];
    this.#place()?.write({ position, turns, older: this.#older, sends });
  }

  #restore(): void {
    const place = this.#fold.view().length === 0 ? this.#place()?.read() : null;
    if (!place) return;
    this.#fold = new SessionFold(place.turns, place.position);
    this.#older = place.older;
    for (const [key, send] of Object.entries(place.sends)) this.#outbox.keep(key, send);
    for (const { key, status } of this.#fold.unsent()) {
      const again = this.#outbox.again(key);
      if (status === 'sending' && again !== undefined) {
        // The page may have been left before the answer came; the key makes it the same turn.
        void this.#send(key, again);
      } else if (status === 'sending') {
        this.#fold.dropped(key, new ConnectionLost('it was not sent within a day'));
      }
    }
  }
}

/** Messages of one page. */
const PAGE = 100;
/** Stands for the cursor of the newest page. */
const NEWEST = '';

/** The held stores: components that show the same session share its connection and state. */
const held = new WeakMap<StreamClient, Set<SessionStore>>();

/** The store of this session, or a new store that others find once it is shared. */
export function sessionStore(
  client: StreamClient,
  sessionId: string | null,
  options: SessionStoreOptions = {},
): SessionStore {
  return find(client, sessionId) ?? new SessionStore(client, sessionId, options);
}

/**
 * Holds `store` and returns the function that lets go. If another store already shows the session,
 * returns that store and holds nothing.
 */
export function holdShared(store: SessionStore): SessionStore | (() => void) {
  const other = find(store.client, store.sessionId);
  if (other !== undefined && other !== store) return other;
  const stores = [...(held.get(store.client) ?? [])].filter((known) => known.isHeld);
  held.set(store.client, new Set([...stores, store]));
  return store.hold();
}

function find(client: StreamClient, sessionId: string | null): SessionStore | undefined {
  const stores = sessionId === null ? [] : (held.get(client) ?? []);
  for (const store of stores) {
    if (store.isHeld && store.sessionId === sessionId) return store;
  }
  return undefined;
}
