/** Platform events over HTTP. */
import type { ConnectionState } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, collect, proxyTo } from '../support/clients.js';

/** An event type of this test alone. */
const own = () => `app.t${crypto.randomUUID().slice(0, 8)}`;

test('what is published is subscribed to, listed, looked up and replayed', async () => {
  const { events } = clientOf();
  const type = own();
  const since = new Date(Date.now() - 1000);
  const first = await events.publish(`${type}.one`, { order: { id: 7 }, shop: 'a' });
  expect(first).toMatchObject({ type: `${type}.one`, channel: 'app', data: { order: { id: 7 } } });
  expect(first.createdAt).toMatch(/Z$/);
  await events.publish(`${type}.two`, { shop: 'b' });
  const replayed = await events.replay({ since, events: `${type}.*` });
  expect(replayed.map((event) => event.type)).toEqual([`${type}.one`, `${type}.two`]);
  const filtered = events.replay({ since, events: [`${type}.*`], filters: { 'order.id': 7 } });
  expect((await collect(filtered)).map((event) => event.id)).toEqual([first.id]);
  expect(await events.get(first.id)).toEqual(first);
  const page = await events.list({ since: first.cursor, events: `${type}.*`, limit: 1 });
  expect([...page].map((event) => event.type)).toEqual([`${type}.two`]);
  const waited = events.list({ since: page.data[0]?.cursor, events: `${type}.*`, wait: 20 });
  await events.publish(`${type}.three`);
  expect((await waited).data.map((event) => event.type)).toEqual([`${type}.three`]);
});

test('a key publishes once', async () => {
  const { events } = clientOf();
  const type = own();
  const idempotencyKey = crypto.randomUUID();
  const one = await events.publish(type, {}, { idempotencyKey });
  const two = await events.publish(type, {}, { idempotencyKey });
  expect(two.id).toBe(one.id);
});

test('a replay of several pages is whole', async () => {
  const { events } = clientOf();
  const type = own();
  const { cursor } = await events.publish(`${type}.first`);
  await Promise.all(Array.from({ length: 30 }, (_, n) => events.publish(`${type}.more`, { n })));
  const all = await events.replay({ since: cursor, events: `${type}.more` });
  expect(new Set(all.map((event) => event.data.n)).size).toBe(30);
});

test('a subscription survives cuts: nothing is lost, nothing comes twice', async () => {
  const proxy = await proxyTo();
  proxy.choose = (number) => (number % 2 ? 1500 : 'pass');
  const { events } = clientOf({ baseUrl: proxy.url, maxRetries: 100 });
  const publisher = clientOf().events;
  const type = own();
  let onState: (state: ConnectionState) => void = () => {};
  const open = new Promise<void>((resolve) => {
    onState = (state) => state === 'open' && resolve();
  });
  const subscription = events.subscribe({ events: [`${type}.*`], onState });
  const iterator = subscription[Symbol.asyncIterator]();
  const first = iterator.next();
  const seen: unknown[] = [];
  // From now on, and now is when it is open.
  await open;
  for (let n = 0; n < 40; n += 1) {
    await publisher.publish(`${type}.x`, { n });
    if (n % 13 === 5) proxy.cut();
  }
  seen.push((await first).value?.data.n);
  while (seen.length < 40) seen.push((await iterator.next()).value?.data.n);
  expect(seen).toEqual(Array.from({ length: 40 }, (_, n) => n));
  expect(proxy.connections).toBeGreaterThan(2);
  await subscription.close();
  // Kept, it goes on elsewhere.
  await publisher.publish(`${type}.late`);
  const later = publisher.subscribe({ events: `${type}.*`, since: subscription.cursor });
  for await (const event of later) {
    expect(event.type).toBe(`${type}.late`);
    break;
  }
});

test('channels confine what is subscribed to', async () => {
  const { events, sessions } = clientOf();
  const start = await events.publish(own());
  await sessions.execute({ agentId: 'guide', goal: 'What is 1 + 2?' });
  const channels = ['sessions', 'billing'];
  const seen = new Set<string>();
  for await (const event of events.subscribe({ channels, since: start.cursor })) {
    seen.add(event.channel);
    if (event.type === 'billing.usage.recorded') break;
  }
  expect([...seen].sort()).toEqual(['billing', 'sessions']);
  expect(() => events.subscribe({ channels: 'agents', events: 'session.*' })).toThrow('silence');
  expect(() => events.subscribe({ events: [] })).toThrow('silence');
  expect(() => events.replay({ since: '' })).toThrow('needs since');
});
