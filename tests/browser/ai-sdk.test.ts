/** The example with Vercel's AI SDK in a real browser, on a real server. */
import type { Page } from 'playwright-core';
import { expect, inject, test } from 'vitest';
import { admin, openPage, PATIENCE } from './browser.ts';
import { Outage } from './outage.ts';

async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message').fill(text);
  await page.keyboard.press('Enter');
}

const answers = (page: Page) => page.locator('section.assistant');

test('a chat with a tool, a new answer, and a reload in mid-answer', async () => {
  const page = await openPage(`${inject('aiSdk')}?pace=60`);
  const started = page.waitForResponse(
    (answer) => answer.request().method() === 'POST' && answer.url().endsWith('/chat'),
  );
  await say(page, 'What is 17 * 23?');
  const sessionId = (await started).headers()['x-session-id'] ?? '';
  await answers(page).filter({ hasText: '391' }).waitFor();
  expect(await page.locator('pre').textContent()).toBe('calculator: output-available');
  await page.getByRole('button', { name: 'Again' }).click();
  const turns = async () => (await admin.sessions.get(sessionId)).turns;
  await expect.poll(turns, { timeout: PATIENCE }).toBe(2);
  await page.getByRole('button', { name: 'Again' }).waitFor();
  await answers(page).filter({ hasText: '391' }).waitFor();

  await say(page, 'count to 100000');
  await answers(page).last().filter({ hasText: '1 2 3 4 5' }).waitFor();
  await page.reload();
  await answers(page).last().filter({ hasText: '1 2 3 4 5' }).waitFor();
  expect(await page.locator('section.user').allTextContents()).toHaveLength(2);
  const seen = (await answers(page).last().textContent()) ?? '';
  await expect
    .poll(async () => (await answers(page).last().textContent())?.length ?? 0)
    .toBeGreaterThan(seen.length);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Again' }).waitFor();

  const shown = await page.locator('section').allTextContents();
  expect(await turns()).toBe(3);
  await page.reload();
  await answers(page).last().filter({ hasText: '1 2 3 4 5' }).waitFor();
  expect(await page.locator('section').allTextContents()).toEqual(shown);
});

test('the server goes in mid-answer and comes back: the answer goes on by itself', async () => {
  const outage = await Outage.of('aiSdk');
  const page = await openPage(`${outage.url}?pace=40`);
  await say(page, 'count to 300');
  await answers(page).filter({ hasText: '1 2 3 4 5' }).waitFor();
  outage.begin();
  await page.getByRole('alert').filter({ hasText: 'Connecting again' }).waitFor();
  const seen = (await answers(page).textContent()) ?? '';
  outage.end();
  const whole = Array.from({ length: 300 }, (_, at) => at + 1).join(' ');
  await answers(page).filter({ hasText: whole }).waitFor();
  expect(seen.length).toBeLessThan(whole.length);
  expect(await answers(page).textContent()).toBe(whole);
  expect(await page.getByRole('alert').count()).toBe(0);
});

test('no server when the page is loaded, and an answer that failed', async () => {
  const outage = await Outage.of('aiSdk');
  outage.begin();
  const page = await openPage(outage.url);
  await page.getByRole('alert').filter({ hasText: 'cannot be reached' }).waitFor();
  outage.end();
  await page.goto(`${outage.url}?agent=failing`);
  await say(page, 'go');
  const told = await page.getByRole('alert').first().textContent();
  await page.reload();
  expect(await page.getByRole('alert').textContent()).toBe(told);
});
