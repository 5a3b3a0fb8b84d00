/** Sessions over WebSockets: more tabs than a browser has connections for one server. */
import { expect, inject, test } from 'vitest';
import { Chat, numbers } from './chat.ts';

test('eight tabs show one session while its answer streams, and go on after an outage', async () => {
  const first = await Chat.open(inject('react'), { agent: 'held', transport: 'websocket' });
  const streams = first.streams();
  await first.say('7 150');
  await first.shows(numbers(7));
  await first.sessionId();
  const others = await Promise.all(Array.from({ length: 7 }, () => first.another()));
  await Promise.all(others.map((tab) => tab.shows(numbers(7))));
  await first.page.context().setOffline(true);
  await first.page.locator('.offline').waitFor();
  await first.release();
  await first.page.context().setOffline(false);
  for (const tab of [first, ...others]) {
    await tab.hears('149 150');
    await tab.isDone();
    expect(await tab.answers()).toEqual([numbers(150)]);
    // Looked up by the tabs that did not ask.
    await tab.page.locator('.goal').waitFor();
    expect(await tab.goals()).toEqual(['7 150']);
  }
  expect(streams).toEqual([]);
});
