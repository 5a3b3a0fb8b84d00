/** The shell around the machines: connections, clocks, and what a page tells. */

import type { ClientOptions, ConnectionState } from '@resonantgenesis/sdk';
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  broken,
  done,
  FakeFetch,
  FakePage,
  FakeStream,
  json,
  never,
  text,
} from './support/fake-fetch.js';

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

function clientWith(net: FakeFetch, options: ClientOptions = {}): ResonantGenesis {
  return new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch, ...options });
}

const TURN = { agentId: 'a', goal: 'g' };
/** Lets all that can happen now happen. */
const settle = () => vi.advanceTimersByTimeAsync(0);
const busy = (status: number, after: string) =>
  json({ error: { code: 'UNAVAILABLE', message: 'm' } }, status, { 'retry-after': after });

describe('a stream', () => {
  test('is there once session and turn are known, and says how its connection is', async () => {
    const stream = new FakeStream();
    const net = new FakeFetch(broken, stream.answer);
    const states: ConnectionState[] = [];
    const made = clientWith(net).sessions.executeStream(TURN, {
      onState: (state) => states.push(state),
    });
    await vi.advanceTimersByTimeAsync(250);
    const answer = await made;
    expect([answer.sessionId, answer.turn, answer.position]).toEqual(['s', 1, 0]);
    expect(net.asked[0]?.body).toEqual({ agent_id: 'a', goal: 'g', stream: true });
    const keys = net.asked.map(({ headers }) => headers.get('idempotency-key'));
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
    expect(keys[1]).toBe(keys[0]);
    stream.chunks(text(1), done(2));
    stream.end();
    const iterator = answer[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toEqual({ type: 'text', content: 'x', position: 1 });
    expect((await iterator.next()).value).toMatchObject({ type: 'done', sessionId: 's', turn: 1 });
    const end = iterator.next();
    await settle();
    expect(await end).toEqual({ done: true, value: undefined });
    expect(states).toEqual(['connecting', 'reconnecting', 'open', 'closed']);
  });

  test('is read once, by one reader', async () => {
    const stream = new FakeStream();
    const answer = await clientWith(new FakeFetch(stream.answer)).sessions.executeStream(TURN);
    const iterator = answer[Symbol.asyncIterator]();
    expect(() => answer.toReadableStream()).toThrow('a stream can be iterated once');
    const first = iterator.next();
    await expect(iterator.next()).rejects.toThrow('is being read already');
    await answer.close();
    expect(await first).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  test('that is silent is opened again, then polled', async () => {
    const silent = new FakeStream();
    const events = [text(1), done(2)];
    const poll = json({ events, position: 2, status: 'completed', done: true });
    const net = new FakeFetch(silent.answer, silent.answer, poll);
    const states: ConnectionState[] = [];
    const client = clientWith(net);
    const answer = await client.sessions.executeStream(TURN, { onState: (s) => states.push(s) });
    const got: number[] = [];
    const read = (async () => {
      for await (const chunk of answer) got.push(chunk.position);
    })();
    await vi.advanceTimersByTimeAsync(8000 + 250 + 8000);
    await vi.advanceTimersByTimeAsync(1000);
    await read;
    expect(got).toEqual([1, 2]);
    expect(states).toEqual([
      'connecting',
      'open',
      'reconnecting',
      'open',
      'reconnecting',
      'polling',
      'closed',
    ]);
    expect(net.asked[2]?.url.pathname).toBe('/v1/sessions/s/events');
    expect(net.asked[0]?.signal.aborted).toBe(true);
  });

  test('whose platform cannot read a body as it comes is polled', async () => {
    const bodiless = () => {
      const headers = { 'content-type': 'text/event-stream', 'x-session-id': 's', 'x-turn': '1' };
      return Object.defineProperty(new Response('', { headers }), 'body', { value: null });
    };
    const named = json({ session_id: 's', turn: 1, status: 'running' }, 202);
    const poll = json({ events: [done(1)], position: 1, done: true });
    const net = new FakeFetch(bodiless, named, poll);
    const made = clientWith(net).sessions.executeStream(TURN);
    await vi.advanceTimersByTimeAsync(1000);
    const next = (await made)[Symbol.asyncIterator]().next();
    await vi.advanceTimersByTimeAsync(1000);
    expect((await next).value).toMatchObject({ type: 'done' });
    // At once, and for all streams of this client from here on.
    expect(net.asked[1]?.headers.get('prefer')).toBe('respond-async');
  });

  test('waits for as long as the server asked', async () => {
    const stream = new FakeStream();
    const net = new FakeFetch(busy(503, '3'), stream.answer);
    const made = clientWith(net).sessions.executeStream(TURN);
    await vi.advanceTimersByTimeAsync(3249);
    expect(net.asked).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect((await made).sessionId).toBe('s');
  });

  test('that a signal ended throws its reason, also while it waits', async () => {
    const control = new AbortController();
    const made = clientWith(new FakeFetch(broken)).sessions.executeStream(TURN, {
      signal: control.signal,
    });
    const outcome = expect(made).rejects.toThrow('enough');
    await settle();
    control.abort(new Error('enough'));
    await outcome;
    const net = new FakeFetch(never);
    const early = clientWith(net).sessions.executeStream(TURN, { signal: AbortSignal.abort() });
    await expect(early).rejects.toMatchObject({ name: 'AbortError' });
    expect(net.asked).toHaveLength(0);
  });

  test('that cannot be had is a lost connection with its place', async () => {
    const client = clientWith(new FakeFetch(broken), { maxRetries: 1 });
    const outcome = expect(client.sessions.join('s', { resumeFrom: 4 })).rejects.toMatchObject({
      code: 'CONNECTION_LOST',
      name: 'ConnectionLost',
      retryable: true,
      sessionId: 's',
      position: 4,
    });
    await vi.advanceTimersByTimeAsync(1000);
    await outcome;
  });
});

describe('a page', () => {
  test('that goes offline loses the connection at once and no retries while it lasts', async () => {
    const page = new FakePage();
    for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
    const stream = new FakeStream();
    const net = new FakeFetch(stream.answer);
    const states: ConnectionState[] = [];
    const client = clientWith(net, { maxRetries: 1 });
    const answer = await client.sessions.executeStream(TURN, { onState: (s) => states.push(s) });
    const iterator = answer[Symbol.asyncIterator]();
    stream.chunks(text(1));
    await iterator.next();
    const next = iterator.next();
    await settle();
    page.goOffline();
    await settle();
    expect(answer.state).toBe('offline');
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(stream.opened).toBe(1);
    page.goOnline();
    await settle();
    expect([stream.opened, answer.state]).toEqual([2, 'open']);
    expect(net.asked[1]?.url.searchParams.get('resume_from')).toBe('1');
    stream.chunks(text(2));
    expect((await next).value?.position).toBe(2);
    expect(states).toEqual(['connecting', 'open', 'offline', 'reconnecting', 'open']);
    await answer.close();
  });

  test('that says nothing when it is online again is asked now and then', async () => {
    const page = new FakePage();
    for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
    page.navigator.onLine = false;
    const stream = new FakeStream();
    const made = clientWith(new FakeFetch(broken, stream.answer)).sessions.executeStream(TURN);
    await vi.advanceTimersByTimeAsync(60_000);
    page.navigator.onLine = true;
    await vi.advanceTimersByTimeAsync(5_000);
    await (await made).close();
    expect(stream.opened).toBe(1);
  });

  test('that is looked at again does not wait on, but for what the server asked', async () => {
    const page = new FakePage();
    for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
    vi.mocked(Math.random).mockReturnValue(1);
    const stream = new FakeStream();
    const net = new FakeFetch(busy(503, '2'), broken, broken, broken, stream.answer);
    const made = clientWith(net).sessions.executeStream(TURN);
    await settle();
    page.look();
    await vi.advanceTimersByTimeAsync(1_999);
    expect(net.asked).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(net.asked).toHaveLength(2);
    for (let count = 3; count <= 5; count += 1) {
      page.look();
      await settle();
      expect(net.asked).toHaveLength(count);
    }
    await (await made).close();
  });

  test('whose connection died while it was hidden notices when it is looked at', async () => {
    const page = new FakePage();
    for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
    const stream = new FakeStream();
    const client = clientWith(new FakeFetch(stream.answer));
    const answer = await client.sessions.executeStream(TURN);
    const next = answer[Symbol.asyncIterator]().next();
    await settle();
    // A machine that sleeps stops the timers, but not the time of day.
    vi.setSystemTime(Date.now() + 60_000);
    page.look();
    await vi.advanceTimersByTimeAsync(250);
    expect(stream.opened).toBe(2);
    stream.chunks(text(1));
    expect((await next).value?.position).toBe(1);
    await answer.close();
  });
});
