/** What TypeScript knows of the API; `make check` compiles this, running it only sees that it loads. */
import {
  type AgentStream,
  type Ask,
  type Chunk,
  ConnectionLost,
  type ConnectionState,
  type DoneChunk,
  type EventStream,
  type InputResult,
  type OfflineQueue,
  type PlatformEvent,
  RateLimited,
  type Realtime,
  type RealtimeSubscription,
  type Replay,
  ResonantGenesis,
  type Session,
  SessionBusy,
  StreamError,
  type TurnResult,
} from '@resonantgenesis/sdk';
import { expectTypeOf, test } from 'vitest';

type Client = ResonantGenesis;

test('a chunk is told apart by its type, with the names that the guide reads', () => {
  const text = (chunk: Chunk) => (chunk.type === 'text' ? chunk.content : '');
  const tool = (chunk: Chunk) => (chunk.type === 'tool_call' ? chunk.tool : '');
  const session = (chunk: Chunk) => (chunk.type === 'done' ? chunk.sessionId : '');
  expectTypeOf(text).returns.toEqualTypeOf<string>();
  expectTypeOf(tool).returns.toEqualTypeOf<string>();
  expectTypeOf(session).returns.toEqualTypeOf<string>();
  expectTypeOf<Extract<Chunk, { type: 'done' }>>().toEqualTypeOf<DoneChunk>();
  expectTypeOf<DoneChunk['status']>().toEqualTypeOf<
    'success' | 'failed' | 'cancelled' | 'timeout'
  >();
  // @ts-expect-error a text has no tool
  ((chunk: Chunk) => (chunk.type === 'text' ? chunk.tool : ''))({
    type: 'text',
    content: '',
    position: 1,
  });
});

test('calls return what they promise', () => {
  expectTypeOf<Client['sessions']['executeStream']>().returns.resolves.toEqualTypeOf<AgentStream>();
  expectTypeOf<Client['sessions']['join']>().returns.resolves.toEqualTypeOf<AgentStream>();
  expectTypeOf<Client['sessions']['execute']>().returns.resolves.toEqualTypeOf<TurnResult>();
  expectTypeOf<Client['sessions']['input']>().returns.resolves.toEqualTypeOf<InputResult>();
  expectTypeOf<TurnResult['waiting']>().toEqualTypeOf<readonly Ask[] | undefined>();
  expectTypeOf<Client['sessions']['create']>().returns.resolves.toEqualTypeOf<Session>();
  expectTypeOf<Client['events']['subscribe']>().returns.toEqualTypeOf<EventStream>();
  expectTypeOf<Client['events']['replay']>().returns.toEqualTypeOf<Replay>();
  expectTypeOf<Awaited<Replay>>().toEqualTypeOf<PlatformEvent[]>();
  expectTypeOf<Client['realtime']>().returns.resolves.toEqualTypeOf<Realtime>();
  expectTypeOf<Client['offlineQueue']>().returns.resolves.toEqualTypeOf<OfflineQueue>();
  expectTypeOf<Realtime['subscribe']>().returns.resolves.toEqualTypeOf<RealtimeSubscription>();
  expectTypeOf<Realtime['execute']>().returns.resolves.toEqualTypeOf<AgentStream>();
});

test('a stream is an iterable of chunks that says where it is', () => {
  expectTypeOf<AgentStream>().toExtend<AsyncIterable<Chunk>>();
  expectTypeOf<AgentStream['sessionId']>().toEqualTypeOf<string | undefined>();
  expectTypeOf<AgentStream['position']>().toEqualTypeOf<number>();
  expectTypeOf<AgentStream['state']>().toEqualTypeOf<ConnectionState>();
  expectTypeOf<AgentStream['toReadableStream']>().returns.toEqualTypeOf<ReadableStream<Chunk>>();
  expectTypeOf<EventStream>().toExtend<AsyncIterable<PlatformEvent>>();
});

test('options take what environments have, and nothing unknown', () => {
  expectTypeOf(ResonantGenesis).toBeConstructibleWith({ apiKey: process.env.API_KEY });
  expectTypeOf(ResonantGenesis).toBeConstructibleWith({ getToken: async () => 'token' });
  expectTypeOf(ResonantGenesis).toBeConstructibleWith({
    webSocket: {} as typeof WebSocket,
    fetch,
    logger: console,
  });
  expectTypeOf(ResonantGenesis).toBeConstructibleWith();
  // @ts-expect-error names are camelCase
  new ResonantGenesis({ api_key: 'k' });
  const wrong = (client: Client) => {
    // @ts-expect-error a goal is needed
    client.sessions.executeStream({ agentId: 'a' });
    // @ts-expect-error an answer says something
    client.sessions.input('sess_1', 'call_1', {});
    // @ts-expect-error a channel is needed
    client.realtime().then((socket) => socket.subscribe({}));
  };
  expectTypeOf(wrong).toBeFunction();
});

test('errors are one tree', () => {
  expectTypeOf<ConnectionLost>().toExtend<StreamError>();
  expectTypeOf<SessionBusy>().toExtend<StreamError>();
  expectTypeOf<RateLimited['retryAfter']>().toEqualTypeOf<number>();
  expectTypeOf<StreamError['retryAfter']>().toEqualTypeOf<number | undefined>();
  expectTypeOf(StreamError).instance.toExtend<Error>();
  expectTypeOf(ConnectionLost).instance.toHaveProperty('code').toEqualTypeOf<string>();
  expectTypeOf(SessionBusy).instance.toHaveProperty('retryable').toEqualTypeOf<boolean>();
  expectTypeOf(RateLimited).instance.toHaveProperty('details');
});
