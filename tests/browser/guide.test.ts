/** The guide's React and Vue code, and ours in its place, from a page of another origin. */
import { expect, inject, test } from 'vitest';
import { admin, openPage } from './browser.ts';
import { numbers } from './chat.ts';

const url = (page: string, query: Record<string, string>) =>
  `${inject('guide')}${page}.html?${new URLSearchParams(query)}`;

test.each(['react', 'vue'])('%s: the guide’s code and ours show the same answer', async (name) => {
  const page = await openPage(url(name, { goal: 'count to 40', guide: '1' }));
  for (const id of ['guide', 'ours']) {
    await page.locator(`#${id} p`, { hasText: /39 40$/ }).waitFor();
    expect(await page.locator(`#${id} p`).textContent()).toBe(numbers(40));
    await page.locator(`#${id} .cursor`).waitFor({ state: 'detached' });
  }
  if (name === 'vue') {
    expect(await page.locator('#ours output').textContent()).toBe(numbers(40));
  }
  await page.locator('#events li', { hasText: 'session.completed' }).first().waitFor();
});

test.each(['react', 'vue'])('%s: and the same error', async (name) => {
  const page = await openPage(url(name, { agent: 'failing', goal: 'fly', guide: '1' }));
  for (const id of ['guide', 'ours']) {
    await page.locator(`#${id}.error`).waitFor();
    expect(await page.locator(`#${id}`).textContent()).toBe('cannot fly');
  }
});

test('react: strict mode has one turn on the server', async () => {
  const subject = `strict-${Date.now()}`;
  const page = await openPage(url('react', { goal: 'count to 3', subject, strict: '1' }));
  await page.locator('#ours p', { hasText: '1 2 3' }).waitFor();
  expect(await page.locator('#runs').textContent()).toBe('2');
  const sessions = await admin.sessions.list({ limit: 100 });
  const mine = [...sessions].filter((session) => session.subject === subject);
  expect(mine.map(({ turns }) => turns)).toEqual([1]);
});
