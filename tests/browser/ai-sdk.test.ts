/** The example with Vercel's AI SDK in a real browser, on a real server. */
import type { Page } from 'playwright-core';
import { expect, inject, test } from 'vitest';
import { admin, openPage, PATIENCE } from './browser.ts';

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
