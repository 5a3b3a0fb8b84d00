/** The shell around a socket: what is said first, pings, dead links, pages that sleep. */
import { type Realtime, type RealtimeOptions, ResonantGenesis } from '@resonantgenesis/sdk';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FakePage } from '../support/fake-fetch.js';

/** A WebSocket whose other end a test speaks for. */
class FakeSocket {
  static made: FakeSocket[] = [];
  readonly said: Record<string, unknown>[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.made.push(this);
  }

  send(text: string): void {
    this.said.push(JSON.parse(text));
  }

  close(): void {
    this.closed = true;
  }

  hear(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }

  /** Answers the newest question of this kind. */
  answer(type: string, answer: object): void {
    this.hear({ ...answer, id: this.said.filter((one) => one.type === type).at(-1)?.id });
  }
}

let realtime: Realtime | undefined;

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0);
  FakeSocket.made = [];
});
afterEach(async () => {
  await realtime?.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const settle = () => vi.advanceTimersByTimeAsync(1);
const newest = () => FakeSocket.made.at(-1) as FakeSocket;

async function connect(options: RealtimeOptions = {}, more: object = {}): Promise<Realtime> {
  const client = new ResonantGenesis({
    apiKey: 'k',
    baseUrl: 'http://h/x',
    webSocket: FakeSocket as never,
    maxRetries: 3,
    ...more,
  });
  realtime = await client.realtime(options);
  await settle();
  return realtime;
}

async function subscribed(socket: Realtime) {
  const made = socket.subscribe({ channels: 'app', events: 'app.*' });
  newest().onopen?.();
  await settle();
  newest().answer('subscribe', { type: 'subscribed', channels: ['app'], cursor: 'c_1' });
  return made;
}

test('the credential comes first, as a message and not in the URL', async () => {
  const socket = await connect();
  expect(newest().url).toBe('ws://h/x/v1/ws');
  const subscription = await subscribed(socket);
  expect(newest().said).toEqual([
    { type: 'auth', token: 'k' },
    { type: 'subscribe', channels: ['app'], events: ['app.*'], format: 'envelope', id: 'q1' },
  ]);
  expect([socket.state, subscription.cursor, subscription.channels]).toEqual([
    'open',
    'c_1',
    ['app'],
  ]);
});

test('a link that does not answer its ping is given up, and replaced', async () => {
  const socket = await connect({ pingInterval: 20, pingTimeout: 5 });
  await subscribed(socket);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(newest().said.at(-1)).toEqual({ type: 'ping' });
  newest().hear({ type: 'pong' });
  await vi.advanceTimersByTimeAsync(20_000);
  expect(FakeSocket.made).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(5_010);
  expect(FakeSocket.made[0]?.closed).toBe(true);
  await settle();
  expect([FakeSocket.made.length, socket.state]).toEqual([2, 'reconnecting']);
  newest().onopen?.();
  expect(newest().said).toMatchObject([{ type: 'auth' }, { type: 'subscribe', since: 'c_1' }]);
});

test('a socket that does not open is given up', async () => {
  const socket = await connect();
  const made = expect(socket.subscribe({ channels: 'app' })).rejects.toMatchObject({
    code: 'CONNECTION_LOST',
    message: 'could not connect to h:80: no answer in time',
  });
  await vi.advanceTimersByTimeAsync(60_000);
  await made;
  expect([FakeSocket.made.length, socket.state]).toEqual([4, 'closed']);
});

test('a server that goes away says for how long', async () => {
  const socket = await connect();
  await subscribed(socket);
  newest().hear({ type: 'draining', retry_after: 7 });
  newest().onclose?.({ code: 1012, reason: 'restart' });
  await vi.advanceTimersByTimeAsync(6_999);
  expect(FakeSocket.made).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(FakeSocket.made).toHaveLength(2);
});

test('a page that goes offline and comes back does not wait for a ping', async () => {
  const page = new FakePage();
  for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
  const socket = await connect();
  await subscribed(socket);
  page.goOffline();
  await settle();
  expect([newest().closed, socket.state]).toEqual([true, 'offline']);
  await vi.advanceTimersByTimeAsync(600_000);
  expect(FakeSocket.made).toHaveLength(1);
  page.goOnline();
  await settle();
  expect(FakeSocket.made).toHaveLength(2);
  newest().onopen?.();
  page.look();
  expect(newest().said.at(-1)).toEqual({ type: 'ping' });
});

test('a token that is about to end is replaced on the same socket', async () => {
  const tokens = ['t1', 't2', 't3'];
  const socket = await connect(
    { pingInterval: 1000 },
    { getToken: async () => tokens.shift() ?? 'none' },
  );
  await subscribed(socket);
  const ends = () => new Date(Date.now() + 100_000).toISOString();
  newest().hear({ type: 'authenticated', expires_at: ends() });
  await vi.advanceTimersByTimeAsync(79_000);
  expect(newest().said.filter(({ type }) => type === 'auth')).toEqual([
    { type: 'auth', token: 't1' },
  ]);
  await vi.advanceTimersByTimeAsync(1_001);
  expect(newest().said.at(-1)).toEqual({ type: 'auth', token: 't2' });
  // Refused all the same, the next one is for the next socket.
  newest().onclose?.({ code: 4401, reason: 'ended' });
  await settle();
  newest().onopen?.();
  expect([FakeSocket.made.length, newest().said[0]?.token]).toEqual([2, 't3']);
});

test('a burst is said at a pace that the server takes', async () => {
  const socket = await connect();
  await subscribed(socket);
  const asked = Array.from({ length: 200 }, () => socket.cancel('s'));
  expect(newest().said.length).toBeLessThan(110);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(newest().said.filter(({ type }) => type === 'cancel')).toHaveLength(200);
  for (const { id } of newest().said.filter(({ type }) => type === 'cancel')) {
    newest().hear({ type: 'cancelled', id });
  }
  await Promise.all(asked);
});

test('without any WebSocket the first reader is told what to do', async () => {
  vi.stubGlobal('WebSocket', undefined);
  vi.doMock('ws', () => {
    throw new Error('not installed');
  });
  const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h' });
  realtime = await client.realtime();
  await expect(realtime.subscribe({ channels: 'app' })).rejects.toThrow('install `ws`');
  vi.doUnmock('ws');
});

test('a server that is not there is said at once, once an outage, and when it is back', async () => {
  const warn = vi.fn();
  const socket = await connect({}, { logger: { debug() {}, info() {}, warn, error() {} } });
  const why = 'could not connect to h:80: the socket was closed with code 1006';
  const refuse = async () => {
    newest().onclose?.({ code: 1006, reason: '' });
    await vi.advanceTimersByTimeAsync(1_000);
  };
  await settle();
  await refuse();
  await refuse();
  expect(warn.mock.calls).toEqual([[`resonantgenesis: ${why}`]]);
  newest().onopen?.();
  await settle();
  expect(warn.mock.calls[1]).toEqual(['resonantgenesis: connected again to h:80']);
  // A link that breaks is no outage yet.
  await refuse();
  expect(warn).toHaveBeenCalledTimes(2);
  const made = expect(socket.subscribe({ channels: 'app' })).rejects.toMatchObject({
    message: why,
  });
  for (let attempt = 0; attempt < 4; attempt += 1) await refuse();
  await made;
  expect(warn).toHaveBeenCalledTimes(3);
});
