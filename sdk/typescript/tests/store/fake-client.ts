/** A client whose streams say what the test says; it records what it was asked for. */
import type {
  AgentStream,
  AnswerParams,
  Chunk,
  ConnectionState,
  EventStream,
  ExecuteStreamParams,
  ForkParams,
  JoinParams,
  Message,
  MessagePage,
  MessagesParams,
  PlatformEvent,
  RealtimeSessionParams,
  ResonantGenesis,
  SessionData,
  StreamControls,
  SubscribeParams,
} from '../../src/index.js';
import type { SocketClient, StreamClient } from '../../src/store/index.js';

type Next<T> = { item: T } | { error: Error } | { end: true };

/** One stream under the test's control. */
export class FakeStream<T> {
  readonly controls: StreamControls;
  closed = false;
  state: ConnectionState = 'open';
  readonly #waiting: Next<T>[] = [];
  #wake: () => void = () => undefined;

  constructor(controls: StreamControls) {
    this.controls = controls;
    controls.signal?.addEventListener('abort', () => this.close());
    controls.onState?.('open');
  }

  say(...items: T[]): void {
    this.#waiting.push(...items.map((item) => ({ item })));
    this.#wake();
  }

  fail(error: Error): void {
    this.#waiting.push({ error });
    this.#wake();
  }

  end(): void {
    this.#waiting.push({ end: true });
    this.#wake();
  }

  to(state: ConnectionState): void {
    this.state = state;
    this.controls.onState?.(state);
  }

  async close(): Promise<void> {
    if (!this.closed) {
      this.closed = true;
      this.#wake();
      this.controls.onState?.('closed');
    }
  }

  toReadableStream(): ReadableStream<T> {
    throw new Error('the stores do not use it');
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    try {
      while (true) {
        this.controls.signal?.throwIfAborted();
        const next = this.#waiting.shift();
        if (this.closed || (next && 'end' in next)) {
          return;
        }
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        } else if ('error' in next) {
          throw next.error;
        } else {
          yield next.item;
        }
      }
    } finally {
      await this.close();
    }
  }
}

export class FakeTurn extends FakeStream<Chunk> implements AgentStream {
  position = 0;

  constructor(
    readonly sessionId: string | undefined,
    readonly turn: number | undefined,
    controls: StreamControls,
    readonly params: Partial<ExecuteStreamParams & JoinParams>,
  ) {
    super(controls);
  }

  /** Like a real one it is over with its turn, or where that waits, unless it follows the session. */
  override say(...chunks: Chunk[]): void {
    super.say(...chunks);
    const { follow, turn } = this.params as JoinParams;
    const isEnd = ({ type }: Chunk) =>
      type === 'done' ? !follow || turn !== undefined : type === 'waiting' && !follow;
    if (chunks.some(isEnd)) this.end();
  }

  async cancel(): Promise<void> {
    throw new Error('the stores cancel by the client');
  }
}

export class FakeSubscription extends FakeStream<PlatformEvent> implements EventStream {
  cursor: string | undefined;

  constructor(readonly params: SubscribeParams) {
    super(params);
  }
}

export class FakeSocket implements SocketClient {
  state: ConnectionState = 'open';
  readonly sessions: FakeTurn[] = [];

  async session(sessionId: string, params: RealtimeSessionParams): Promise<AgentStream> {
    const stream = new FakeTurn(sessionId, undefined, params, { ...params, follow: true });
    this.sessions.push(stream);
    return stream;
  }

  async close(): Promise<void> {
    this.state = 'closed';
  }
}

export class FakeClient implements StreamClient {
  readonly executes: FakeTurn[] = [];
  readonly joins: FakeTurn[] = [];
  readonly subscriptions: FakeSubscription[] = [];
  readonly cancels: unknown[] = [];
  readonly inputs: unknown[] = [];
  /** What an execute is answered: a place, an error, or a promise of one. */
  answer: (params: ExecuteStreamParams) => Promise<{ sessionId: string; turn: number }> = async (
    params,
  ) => ({ sessionId: params.sessionId ?? 's1', turn: this.executes.length + 1 });
  cancelled: () => Promise<void> = async () => undefined;
  readonly said: unknown[] = [];
  /** The conversation, in pages; the first one is the newest. Its `position` is that of the last chunk. */
  pages: Message[][] = [[]];
  position = 0;
  readonly looked: MessagesParams[] = [];

  readonly sessions = {
    executeStream: async (params: ExecuteStreamParams, controls: StreamControls) => {
      controls.onState?.('connecting');
      const answer = this.answer(params);
      const aborted = new Promise<never>((_, reject) => {
        controls.signal?.addEventListener('abort', () => reject(controls.signal?.reason));
      });
      const { sessionId, turn } = await Promise.race([answer, aborted]);
      const stream = new FakeTurn(sessionId, turn, controls, params);
      this.executes.push(stream);
      return stream;
    },
    join: async (sessionId: string, params: JoinParams) => {
      const stream = new FakeTurn(sessionId, params.turn, params, params);
      this.joins.push(stream);
      return stream;
    },
    cancel: async (what: string | { idempotencyKey: string }, params?: { turn?: number }) => {
      this.cancels.push(params === undefined ? what : [what, params]);
      await this.cancelled();
    },
    input: async (sessionId: string, callId: string, answer: AnswerParams) => {
      this.inputs.push([sessionId, callId, answer]);
    },
    messages: async (_sessionId: string, params: MessagesParams): Promise<MessagePage> => {
      this.looked.push(params);
      const at = Number(params.cursor ?? 0);
      const data = this.pages[at] ?? [];
      const hasMore = at + 1 < this.pages.length;
      return {
        data,
        hasMore,
        nextCursor: hasMore ? String(at + 1) : null,
        position: at ? null : this.position,
        [Symbol.iterator]: () => data.values(),
      };
    },
    send: async (...said: unknown[]) => {
      this.said.push(said);
    },
    fork: async (sessionId: string, params?: ForkParams): Promise<SessionData> => {
      this.said.push(['fork', sessionId, params]);
      return {
        sessionId: 's2',
        agentId: 'a',
        status: 'created',
        subject: null,
        turns: 0,
        metadata: {},
        createdAt: '2026-01-01T00:00:00.000000Z',
        updatedAt: '2026-01-01T00:00:00.000000Z',
      };
    },
    editQueued: async (...said: unknown[]) => {
      this.said.push(['edit', ...said]);
    },
    removeQueued: async (...said: unknown[]) => {
      this.said.push(['remove', ...said]);
    },
  };

  readonly events = {
    subscribe: async (params: SubscribeParams) => {
      const stream = new FakeSubscription(params);
      this.subscriptions.push(stream);
      return stream;
    },
  };

  readonly sockets: FakeSocket[] = [];

  async realtime(): Promise<FakeSocket> {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }

  /** For the hooks, which name the class. */
  get asClient(): ResonantGenesis {
    return this as unknown as ResonantGenesis;
  }
}

/** Lets everything that is ready happen, timers without delay too. */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, 0);
  });
}
