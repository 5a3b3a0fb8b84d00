/** The offline queue: order, keys, what a closed page leaves behind. */
import 'fake-indexeddb/auto';
import {
  type OfflineQueueOptions,
  type QueuedExecute,
  ResonantGenesis,
} from '@resonantgenesis/sdk';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { broken, FakeFetch, FakePage, json } from '../support/fake-fetch.js';

const DAY = 24 * 3600 * 1000;
const started = (turn: number) => json({ session_id: 's', turn, status: 'running' }, 202);
const refused = json({ error: { code: 'AGENT_NOT_FOUND', message: 'none' } }, 404);

beforeEach(() => {
  // IndexedDB has timers of its own.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
  vi.spyOn(Math, 'random').mockReturnValue(0);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

function queueOf(net: FakeFetch, options: OfflineQueueOptions = {}) {
  const fetch = net.fetch;
  const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch, maxRetries: 0 });
  return client.offlineQueue(options).then((queue) => {
    onTestFinished(() => queue.close());
    return queue;
  });
}

const statuses = (items: readonly QueuedExecute[]) => items.map((item) => item.status);
const until = (check: () => void) => vi.waitFor(check, { interval: 1, timeout: 20_000 });

test('what a closed page left is sent by the next one, in order, with the same keys', async () => {
  const name = crypto.randomUUID();
  const down = new FakeFetch(broken);
  const first = await queueOf(down, { name });
  const one = await first.add({ sessionId: 's', goal: 'one' });
  await first.add({ agentId: 'a', goal: 'two', idempotencyKey: 'mine' });
  await until(() => expect(down.asked.length).toBeGreaterThan(0));
  await first.close();
  expect(statuses(first.items)).toEqual(['queued', 'queued']);
  const net = new FakeFetch(started(1), started(2));
  const second = await queueOf(net, { name });
  await until(() => expect(statuses(second.items)).toEqual(['sent', 'sent']));
  expect(net.asked.map(({ body }) => body)).toEqual([
    { session_id: 's', goal: 'one', if_busy: 'enqueue', stream: false },
    { agent_id: 'a', goal: 'two', stream: false },
  ]);
  expect(net.asked.map(({ url }) => url.pathname)).toEqual([
    '/v1/sessions/s/execute',
    '/v1/sessions/execute',
  ]);
  const keys = [down, net].map(({ asked }) =>
    asked.map(({ headers }) => headers.get('idempotency-key')),
  );
  expect(keys).toEqual([expect.arrayContaining([one.id]), [one.id, 'mine']]);
  expect(second.items[0]).toMatchObject({ id: one.id, sessionId: 's', turn: 1 });
  // What was sent is not in the storage any more.
  expect((await queueOf(net, { name })).items).toEqual([]);
});

test('what the server refuses is told, and does not hold up the rest', async () => {
  const queue = await queueOf(new FakeFetch(refused, started(1)), { storage: 'memory' });
  const bad = await queue.add({ agentId: 'none', goal: 'x' });
  await queue.add({ agentId: 'a', goal: 'y' });
  await until(() => expect(statuses(queue.items)).toEqual(['failed', 'sent']));
  expect(queue.items[0]?.error).toEqual({
    code: 'AGENT_NOT_FOUND',
    message: 'none',
    retryable: false,
  });
  const again = await queue.retry(bad.id);
  expect(again?.id).not.toBe(bad.id);
  await until(() => expect(statuses(queue.items)).toEqual(['sent', 'sent']));
  expect(await queue.retry('unknown')).toBeUndefined();
  await queue.remove(again?.id ?? '');
  expect(queue.items).toHaveLength(1);
});

test('who has to log in again loses nothing', async () => {
  const out = json({ error: { code: 'UNAUTHENTICATED', message: 'ended' } }, 401);
  const queue = await queueOf(new FakeFetch(out, started(1)), { storage: 'memory' });
  await queue.add({ agentId: 'a', goal: 'x' });
  await until(() => expect(vi.getTimerCount()).toBe(1));
  expect(statuses(queue.items)).toEqual(['queued']);
  await vi.advanceTimersByTimeAsync(5_000);
  await until(() => expect(statuses(queue.items)).toEqual(['sent']));
});

test('what is older than the server’s memory of its key is not sent by itself', async () => {
  const name = crypto.randomUUID();
  const down = await queueOf(new FakeFetch(broken), { name });
  const item = await down.add({ agentId: 'a', goal: 'x' });
  await down.close();
  vi.setSystemTime(Date.now() + DAY + 1_000);
  const net = new FakeFetch(started(1));
  const queue = await queueOf(net, { name });
  await until(() => expect(statuses(queue.items)).toEqual(['stale']));
  expect(net.asked).toHaveLength(0);
  await queue.retry(item.id);
  await until(() => expect(statuses(queue.items)).toEqual(['sent']));
});

test('it waits for the network, and no longer', async () => {
  const page = new FakePage();
  for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
  page.navigator.onLine = false;
  const net = new FakeFetch(started(1));
  const queue = await queueOf(net, { storage: 'memory' });
  await queue.add({ agentId: 'a', goal: 'x' });
  await vi.advanceTimersByTimeAsync(600_000);
  expect(net.asked).toHaveLength(0);
  page.goOnline();
  await until(() => expect(statuses(queue.items)).toEqual(['sent']));
});

test('it is bounded, in number and in size', async () => {
  const queue = await queueOf(new FakeFetch(broken), { storage: 'memory', maxItems: 2 });
  await queue.add({ agentId: 'a', goal: '1' });
  await queue.add({ agentId: 'a', goal: '2' });
  await expect(queue.add({ agentId: 'a', goal: '3' })).rejects.toThrow('the queue is full');
  await queue.clear();
  expect(queue.items).toEqual([]);
  await expect(queue.add({ agentId: 'a', goal: 'x'.repeat(1_100_000) })).rejects.toMatchObject({
    code: 'PAYLOAD_TOO_LARGE',
  });
});

test('its listeners are told, with a new list each time', async () => {
  const seen: (readonly QueuedExecute[])[] = [];
  const queue = await queueOf(new FakeFetch(started(1)), {
    storage: 'memory',
    onChange: (items) => seen.push(items),
  });
  const forget = queue.subscribe(() => seen.push([]));
  forget();
  await queue.add({ agentId: 'a', goal: 'x' });
  await until(() => expect(seen.map(statuses)).toEqual([['queued'], ['sending'], ['sent']]));
  expect(queue.items).toBe(seen.at(-1));
});

test('where the browser allows no database it is kept in memory, and says so', async () => {
  const said: string[] = [];
  vi.spyOn(console, 'warn').mockImplementation((message) => said.push(message));
  vi.spyOn(indexedDB, 'open').mockImplementation(() => {
    throw new Error('private window');
  });
  const queue = await queueOf(new FakeFetch(started(1)));
  await queue.add({ agentId: 'a', goal: 'x' });
  await until(() => expect(statuses(queue.items)).toEqual(['sent']));
  expect(said.join()).toContain('kept in memory only');
});

test('a storage that fails stops it, aloud', async () => {
  const said: string[] = [];
  vi.spyOn(console, 'error').mockImplementation((message) => said.push(message));
  let loads = 0;
  const storage = {
    load: async () => {
      loads += 1;
      if (loads > 1) throw new Error('disk full');
      return [];
    },
    put: async () => {},
    delete: async () => {},
  };
  await queueOf(new FakeFetch(started(1)), { storage });
  await until(() => expect(said.join()).toContain('the offline queue stopped: Error: disk full'));
});
