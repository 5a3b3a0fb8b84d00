/** The example with CopilotKit in a real browser, on a real server, which is its runtime. */
import type { Page } from 'playwright-core';
import { expect, inject, test } from 'vitest';
import { admin, openPage, PATIENCE } from './browser.ts';

/** Asks, and returns the id of the session. */
async function say(page: Page, text: string): Promise<string> {
  const started = page.waitForResponse((response) => response.url().endsWith('/run'));
  await page.getByTestId('copilot-chat-textarea').fill(text);
  await page.keyboard.press('Enter');
  return (await started).headers()['x-session-id'] ?? '';
}

const answer = (page: Page, text: string) =>
  page.getByTestId('copilot-assistant-message').filter({ hasText: text }).waitFor();
const goals = (page: Page) => page.getByTestId('copilot-user-message').allTextContents();
const idle = (page: Page) => page.locator('[data-copilot-running="false"]').waitFor();

/** A page that knows its agents, and that its thread is new. */
async function open(query = ''): Promise<Page> {
  const page = await openPage(`${inject('copilotKit')}${query}`);
  await page.waitForLoadState('networkidle');
  return page;
}

test('a chat with a tool', async () => {
  const page = await open();
  await say(page, 'What is 17 * 23?');
  await answer(page, '391');
  await idle(page);
});

test('a stop ends the turn, and a reload in mid-answer goes on', async () => {
  const page = await open('?agent=held');
  const sessionId = await say(page, '3 6');
  await answer(page, '1 2 3');
  await page.getByTestId('copilot-send-button').click(); // stops, while an answer comes
  await idle(page);
  const status = async () => (await admin.sessions.get(sessionId)).status;
  await expect.poll(status, { timeout: PATIENCE }).toBe('cancelled');

  expect(await say(page, '5 10')).toBe(sessionId);
  await answer(page, '1 2 3 4 5');
  await page.reload();
  await answer(page, '1 2 3 4 5');
  expect(await goals(page)).toEqual(['3 6', '5 10']);
  await admin.sessions.execute({ agentId: 'release', goal: sessionId });
  await answer(page, '1 2 3 4 5 6 7 8 9 10');
  await idle(page);
});
