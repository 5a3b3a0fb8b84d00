/** What both examples say and do while their server is away. */
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { expect, inject, test } from 'vitest';
import { KEY } from '../../sdk/typescript/tests/support/server.ts';
import { admin, PATIENCE } from './browser.ts';
import type { Chat } from './chat.ts';
import { numbers } from './chat.ts';
import { Outage } from './outage.ts';

/** Milliseconds within which a person is told; a busy machine may take that much longer. */
const AT_ONCE = 3_000;

const banner = (chat: Chat, text: string) => chat.page.locator('.banner', { hasText: text });
const noBanner = (chat: Chat) => chat.page.locator('.banner').waitFor({ state: 'detached' });

export function testOutages(name: 'react' | 'vue'): void {
  test('no server when the page is loaded: said at once, and what is sent waits for it', async () => {
    const outage = await Outage.of(name);
    outage.begin();
    const chat = await outage.open();
    const away = `The server at ${outage.host} cannot be reached.`;
    await banner(chat, `${away} This page goes on`).waitFor({ timeout: AT_ONCE });
    await chat.say('count to 3');
    await banner(chat, `${away} Your message is kept`).waitFor({ timeout: AT_ONCE });
    await chat.page.locator('.turn', { hasText: 'Not sent yet.' }).waitFor({ timeout: AT_ONCE });
    // No wall of errors, nothing to press, and no cursor as if somebody answered.
    expect(await chat.page.getByRole('alert').count()).toBe(0);
    expect(await chat.page.locator('.cursor').count()).toBe(0);
    outage.end();
    await chat.hears('1 2 3');
    await noBanner(chat);
    await chat.isDone();
    expect(await chat.goals()).toEqual(['count to 3']);
    expect((await admin.sessions.get(await chat.sessionId())).turns).toBe(1);
  });

  test('the server goes when somebody sends: the message is kept, and goes out once', async () => {
    const outage = await Outage.of(name);
    const chat = await outage.open();
    await chat.say('count to 2');
    await chat.hears('1 2');
    await chat.isDone();
    outage.begin();
    await chat.say('count to 3');
    await banner(chat, `${outage.host} cannot be reached. Your message`).waitFor({
      timeout: AT_ONCE,
    });
    await chat.say('count to 4');
    outage.end();
    await expect.poll(() => chat.answers(), { timeout: PATIENCE }).toEqual([2, 3, 4].map(numbers));
    await noBanner(chat);
    await chat.isDone();
    expect(await chat.goals()).toEqual(['count to 2', 'count to 3', 'count to 4']);
    expect((await admin.sessions.get(await chat.sessionId())).turns).toBe(3);
  });

  for (const transport of ['http', 'websocket']) {
    test(`the server goes in mid-answer and comes back, over ${transport}`, async () => {
      const outage = await Outage.of(name);
      const chat = await outage.open({ agent: 'held', transport });
      await chat.say('21 100');
      await chat.shows(numbers(21));
      await chat.sessionId();
      outage.begin();
      await banner(chat, 'cannot be reached. This page goes on').waitFor({ timeout: AT_ONCE });
      expect(await chat.answers()).toEqual([numbers(21)]);
      await chat.release();
      outage.end();
      await chat.shows(numbers(100));
      await noBanner(chat);
      await chat.isDone();
      expect(await chat.page.getByRole('alert').count()).toBe(0);
    });
  }

  test('a message that waits can be taken back, and never reaches the server', async () => {
    const outage = await Outage.of(name);
    const chat = await outage.open();
    await chat.say('count to 2');
    await chat.hears('1 2');
    await chat.isDone();
    outage.begin();
    await chat.say('count to 9');
    await banner(chat, 'Your message is kept').waitFor();
    await chat.page.getByRole('button', { name: 'Stop' }).click();
    await chat.page.locator('.turn', { hasText: 'Stopped.' }).waitFor();
    outage.end();
    await noBanner(chat);
    expect((await admin.sessions.get(await chat.sessionId())).turns).toBe(1);
  });

  test('a server that drains says so, and is asked again', async () => {
    const outage = await Outage.of(name);
    const chat = await outage.open();
    await chat.say('count to 2');
    await chat.isDone();
    const error = { code: 'UNAVAILABLE', message: 'the server is stopping', retry_after: 1 };
    await chat.page.route('**/v1/**', (route) => route.fulfill({ status: 503, json: { error } }));
    await chat.say('count to 3');
    await banner(chat, 'The server is stopping. Your message is kept').waitFor({
      timeout: AT_ONCE,
    });
    await chat.page.unroute('**/v1/**');
    await chat.hears('1 2 3');
    await noBanner(chat);
  });

  test('a key that the server does not take is said, and not tried again', async () => {
    const outage = await Outage.of(name, 'rg_nobody_has_this_key_0123456789');
    const asked: string[] = [];
    const chat = await outage.open();
    chat.page.on('request', (request) => asked.push(request.url()));
    const text = `The server at ${outage.host} does not take the API key of this page.`;
    await chat.page.locator('.banner.refused', { hasText: text }).waitFor({ timeout: AT_ONCE });
    await chat.say('count to 2');
    await chat.page.getByRole('alert').getByText(text).waitFor({ timeout: AT_ONCE });
    await noBanner(chat);
    expect(asked.filter((url) => url.includes('/api/token')).length).toBeLessThanOrEqual(2);
    expect(await chat.page.locator('.turn').getAttribute('aria-busy')).toBe('false');
  });

  test('a key that may make no tokens is said so', async () => {
    const made = await fetch(`${inject('server')}/v1/keys`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ name: 'reader', scopes: ['sessions:read'] }),
    });
    const { key } = (await made.json()) as { key: string };
    await expect(
      new ResonantGenesis({ apiKey: key, baseUrl: inject('server') }).sessions.list(),
    ).resolves.toBeDefined();
    const chat = await (await Outage.of(name, key)).open();
    await banner(chat, 'may not make its tokens').waitFor({ timeout: AT_ONCE });
  });

  test('an agent that is not there is said when the page is loaded', async () => {
    const chat = await (await Outage.of(name)).open({ agent: 'nobody' });
    await chat.page.locator('.banner.refused', { hasText: 'nobody' }).waitFor({ timeout: AT_ONCE });
  });
}
