/** Executes that wait for a network. */
import type { QueuedExecute } from '@resonantgenesis/sdk';
import { expect, onTestFinished, test } from 'vitest';
import { clientOf, collect, proxyTo } from '../support/clients.js';

test('what is added without a network is sent in order when it is there, once', async () => {
  const proxy = await proxyTo();
  let up = false;
  // Once the network is back, the first answer gets lost: its execute is sent again with its key.
  let lose = 1;
  proxy.choose = () => (up ? (lose-- > 0 ? 40 : 'pass') : 'refuse');
  const client = clientOf({ baseUrl: proxy.url, maxRetries: 0 });
  const states: string[] = [];
  const queue = await client.offlineQueue({
    storage: 'memory',
    onChange: (items) => states.push(items.map((item) => item.status).join()),
  });
  onTestFinished(() => queue.close());
  const { sessionId } = await clientOf().sessions.create({
    agentId: 'paced',
    context: { count: 3 },
  });
  await queue.add({ sessionId, goal: 'first' });
  await queue.add({ sessionId, goal: 'second' });
  await queue.add({ agentId: 'none', goal: 'refused' });
  await queue.add({ sessionId, goal: 'third' });
  expect(queue.items.map((item) => item.params.goal)).toEqual([
    'first',
    'second',
    'refused',
    'third',
  ]);
  up = true;
  const settled = new Promise<readonly QueuedExecute[]>((resolve) => {
    queue.subscribe((items) => {
      if (items.every(({ status }) => status === 'sent' || status === 'failed')) resolve(items);
      // What is tried again later is tried now.
      else if (items.every(({ status }) => status !== 'sending')) queue.flush();
    });
  });
  queue.flush();
  const items = await settled;
  expect(items.map(({ status, turn }) => [status, turn])).toEqual([
    ['sent', 1],
    ['sent', 2],
    ['failed', undefined],
    ['sent', 3],
  ]);
  expect(items[2]?.error).toMatchObject({ code: 'AGENT_NOT_FOUND', retryable: false });
  expect(states).toContain('queued,queued,queued,queued');
  const third = items[3] as QueuedExecute;
  const joined = await clientOf().sessions.join(third.sessionId ?? '', { turn: third.turn });
  expect((await collect(joined)).at(-1)).toMatchObject({ type: 'done', turn: 3 });
  const session = await clientOf().sessions.get(sessionId);
  expect(session.turns).toBe(3);
  await queue.clear();
  expect(queue.items).toEqual([]);
});
