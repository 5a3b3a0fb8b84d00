/** The queue for later, in a real browser and its own database. */
import type { ResonantGenesis } from '@resonantgenesis/sdk';
import { expect, inject, test } from 'vitest';
import { admin, openPage, openTab } from './browser.ts';

type World = typeof globalThis & { client: ResonantGenesis };

test('what is asked without a network outlives its page, and is sent by the next one, once', async () => {
  const page = await openPage(`${inject('guide')}react.html`);
  const { sessionId } = await admin.sessions.create({ agentId: 'guide' });
  const queue = await page.evaluateHandle(() => (globalThis as World).client.offlineQueue());
  await page.context().setOffline(true);
  await page.waitForFunction(() => !navigator.onLine);
  const added = await queue.evaluate(async (it, session) => {
    await it.add({ sessionId: session, goal: 'What is 6 * 7?' });
    await it.add({ sessionId: session, goal: 'What is 6 * 8?' });
    return it.items.map(({ id, status }) => [id, status]);
  }, sessionId);
  expect(added.map(([, status]) => status)).toEqual(['queued', 'queued']);
  await page.close();
  await page.context().setOffline(false);
  const next = await openTab(page);
  const sent = await next.evaluate(async () => {
    const it = await (globalThis as World).client.offlineQueue();
    const isSent = () => it.items.every(({ status }) => status === 'sent');
    await new Promise<void>((resolve) => {
      const look = () => isSent() && resolve();
      it.subscribe(look);
      look();
    });
    return it.items.map(({ id, turn }) => [id, turn]);
  });
  expect(sent).toEqual(added.map(([id], index) => [id, index + 1]));
  expect((await admin.sessions.get(sessionId)).turns).toBe(2);
});
