/** The examples in a real browser, on a real server. */
import { expect, inject, test } from 'vitest';
import { admin, ownBrowser, PATIENCE } from './browser.ts';
import { Chat, numbers } from './chat.ts';
import { watchTasks } from './tasks.ts';

/** Fast enough for a test, slow enough to be seen: words a second. */
const SEEN = { pace: '60' };

/** What both examples do; one test file each, so that they run side by side. */
export function testChat(name: 'react' | 'vue'): void {
  const open = (query: Record<string, string> = SEEN) => Chat.open(inject(name), query);

  test('an answer streams, with its tools and a cursor until its end', async () => {
    const chat = await open();
    const recorded = await chat.record();
    await chat.say('What is 17 * 23, and how do I cancel a turn?');
    await chat.page.locator('.tool[data-status=completed]', { hasText: 'calculator' }).waitFor();
    await chat.page.locator('.tool summary').first().click();
    expect(await chat.page.locator('.tool pre').first().textContent()).toContain('391');
    await chat.hears('391');
    await chat.isDone();
    const shown = await recorded();
    const last = shown.at(-1);
    expect(last).toMatchObject({ text: expect.stringContaining('391'), cursors: 0 });
    for (const [index, after] of shown.entries()) {
      // What is on the page stays as it is, whatever marks are open in it.
      const before = shown[index - 1]?.text ?? '';
      expect(after.text.slice(0, before.length)).toBe(before);
    }
    const growing = shown.filter(({ text }) => text !== '' && text !== last?.text);
    expect(growing.length).toBeGreaterThan(1);
    expect(growing.filter(({ cursors }) => cursors !== 1)).toEqual([]);
    // On a telephone nothing stands out of the page.
    await chat.page.setViewportSize({ width: 390, height: 844 });
    const { width } = (await chat.page.locator('form').boundingBox()) ?? {};
    expect(width).toBeLessThanOrEqual(390);
  });

  test('what the agent thinks is there to be opened', async () => {
    const chat = await open({ agent: 'thinking' });
    await chat.say('tea');
    await chat.hears('About tea: yes.');
    await chat.page.locator('.tool summary', { hasText: 'think' }).click();
    expect(await chat.page.locator('.tool pre').textContent()).toBe('One thing after another.');
  });

  test('thoughts, data and what is told are shown; a turn is asked again, and branched off', async () => {
    const chat = await open({ agent: 'talkative' });
    const aside = async (name: string) => {
      const details = chat.page.locator('.turn').last().locator('.tool', { hasText: name });
      await details.locator('summary').click();
      return details.locator('pre').textContent();
    };
    const press = (name: string) =>
      chat.page.locator('.turn').last().getByRole('button', { name }).click();
    await chat.say('talk');
    await chat.hears('Turn 1.');
    expect(await aside('thought')).toBe('Let me think.');
    expect(await aside('weather')).toBe('{"sky":"blue"}');
    await chat.page.getByLabel('Message').fill('shorter');
    await chat.page.getByRole('button', { name: 'Tell it now' }).click();
    await chat.hears('You said: shorter.');
    await chat.isDone();
    expect(await aside('you')).toBe('shorter');

    await chat.say('short');
    await chat.hears('Turn 2.');
    await chat.isDone();
    await press('Again');
    await chat.hears('Turn 3.');
    await chat.isDone();
    expect(await chat.goals()).toEqual(['talk', 'short']);
    const first = await chat.sessionId();
    // Somebody who comes later sees the same.
    const other = await chat.another();
    await other.shows('Turn 1. You said: shorter.', 'Turn 3.');

    await press('Branch');
    await chat.page.waitForURL((url) => url.searchParams.get('session') !== first);
    await chat.shows('Turn 1. You said: shorter.', 'Turn 3.');
    await chat.say('short');
    await chat.shows('Turn 1. You said: shorter.', 'Turn 3.', 'Turn 1.');
    await chat.page.reload();
    await chat.shows('Turn 1. You said: shorter.', 'Turn 3.', 'Turn 1.');
    expect(await other.answers()).toEqual(['Turn 1. You said: shorter.', 'Turn 3.']);
  });

  test('stopping ends the turn on the server; the next question goes into the same session', async () => {
    const chat = await open();
    await chat.say('count to 100000');
    await chat.hears('7 8 9');
    await chat.page.getByRole('button', { name: 'Stop' }).click();
    await chat.page.getByText('Stopped.').waitFor();
    await chat.isDone();
    expect(await chat.answer()).toBe(await chat.output());
    const sessionId = await chat.sessionId();
    expect((await admin.sessions.get(sessionId)).status).toBe('cancelled');
    await chat.say('count to 3');
    await chat.hears('1 2 3');
    await chat.isDone();
    expect(await chat.goals()).toEqual(['count to 100000', 'count to 3']);
    expect(await chat.sessionId()).toBe(sessionId);
  });

  test('a reload in mid-answer shows what was there and goes on where it was', async () => {
    const chat = await open({ agent: 'held' });
    await chat.say('21 100');
    await chat.shows(numbers(21));
    await chat.sessionId();
    const streams = chat.streams();
    await chat.page.reload();
    await chat.page.locator('.answer').waitFor();
    expect(await chat.answers()).toEqual([numbers(21)]);
    await chat.release();
    await chat.hears('99 100');
    await chat.isDone();
    expect(await chat.answers()).toEqual([numbers(100)]);
    expect(await chat.goals()).toEqual(['21 100']);
    const places = streams.map((stream) => Number(/resume_from=(\d+)/.exec(stream)?.[1]));
    expect(places.length).toBeGreaterThan(0);
    expect(places.every((place) => place > 20)).toBe(true);
  });

  test('the network goes and comes back: a banner, and nothing missing or twice', async () => {
    const chat = await open({ agent: 'held' });
    await chat.say('21 100');
    await chat.shows(numbers(21));
    await chat.sessionId();
    await chat.page.context().setOffline(true);
    await chat.page.locator('.offline').waitFor();
    await chat.page.locator('.state[data-state=offline]').waitFor();
    await chat.release();
    expect(await chat.answers()).toEqual([numbers(21)]);
    await chat.page.context().setOffline(false);
    await chat.page.locator('.offline').waitFor({ state: 'detached' });
    await chat.hears('99 100');
    await chat.isDone();
    expect(await chat.answers()).toEqual([numbers(100)]);
  });

  test('a question asked while offline is sent when the network is back, once', async () => {
    const chat = await open();
    await chat.say('count to 2');
    await chat.hears('1 2');
    await chat.isDone();
    await chat.page.context().setOffline(true);
    await chat.page.locator('.offline').waitFor();
    await chat.say('count to 4');
    await chat.page.locator('.turn[aria-busy=true]', { hasText: 'count to 4' }).waitFor();
    await chat.page.context().setOffline(false);
    await chat.hears('1 2 3 4');
    await chat.isDone();
    expect((await admin.sessions.get(await chat.sessionId())).turns).toBe(2);
  });

  test('the reader who has scrolled up stays there, and a button leads back', async () => {
    const chat = await open({ agent: 'held' });
    await chat.say('1500 3000');
    await chat.hears('1500');
    const button = chat.page.getByRole('button', { name: 'To the newest' });
    await expect.poll(() => chat.gap(), { timeout: PATIENCE }).toBeLessThan(2);
    expect(await button.count()).toBe(0);
    await chat.scroll(-30);
    await button.waitFor();
    await chat.scroll(-300);
    const before = await chat.place();
    await chat.release();
    await chat.hears('3000');
    await chat.isDone();
    expect(await chat.place()).toBe(before);
    await button.focus();
    await chat.page.keyboard.press('Enter');
    await button.waitFor({ state: 'detached' });
    await expect.poll(() => chat.gap(), { timeout: PATIENCE }).toBeLessThan(2);
    // The keyboard goes on in the list.
    await chat.page.keyboard.press('Home');
    await button.waitFor();
  });

  test('who sends something sees it, however far up they were', async () => {
    const chat = await open({ agent: 'held' });
    await chat.say('1500 1500');
    await chat.hears('1500');
    await expect.poll(() => chat.gap(), { timeout: PATIENCE }).toBeLessThan(2);
    await chat.scroll(-400);
    const button = chat.page.getByRole('button', { name: 'To the newest' });
    await button.waitFor();
    await chat.say('400 500');
    await chat.hears('400');
    await button.waitFor({ state: 'detached' });
    expect(await chat.page.locator('.goal').nth(1).isVisible()).toBe(true);
    await expect.poll(() => chat.gap(), { timeout: PATIENCE }).toBeLessThan(2);
    // What it leaves less room for stays at the end, too: a banner, or a longer message.
    await chat.page.getByLabel('Message').fill('a\nb\nc\nd');
    await expect.poll(() => chat.gap(), { timeout: PATIENCE }).toBeLessThan(2);
    // What others send moves nobody.
    await chat.scroll(-200);
    await button.waitFor();
    const before = await chat.place();
    const other = await chat.another();
    await chat.release();
    await other.say('900 900');
    await chat.hears('900');
    expect(await chat.place()).toBe(before);
  });

  test('two tabs show the same session, whoever asks', async () => {
    const one = await open({ agent: 'held' });
    await one.say('11 60');
    await one.shows(numbers(11));
    await one.sessionId();
    const other = await one.another();
    await other.shows(numbers(11));
    await one.release();
    await other.shows(numbers(60));
    await other.isDone();
    await other.say('2 5');
    for (const tab of [one, other]) {
      await tab.shows(numbers(60), numbers(5));
      await tab.isDone();
      await tab.page.locator('.goal').nth(1).waitFor();
      expect(await tab.answers()).toEqual([numbers(60), numbers(5)]);
      expect(await tab.goals()).toEqual(['11 60', '2 5']);
    }
  });

  test('a turn that fails says why, and is asked again', async () => {
    const chat = await open({ agent: 'failing' });
    await chat.say('fly');
    const alert = chat.page.getByRole('alert');
    await alert.getByText('cannot fly').waitFor();
    await alert.getByRole('button', { name: 'Try again' }).click();
    await chat.page.locator('.turn[aria-busy=false]').nth(1).waitFor();
    await alert.getByText('cannot fly').waitFor();
    expect(await chat.goals()).toEqual(['fly', 'fly']);
  });

  test('two thousand tokens a second never hold the page up for 50 ms', async () => {
    const chat = await Chat.open(inject(name), { agent: 'fast' }, await ownBrowser());
    await chat.page.getByLabel('Message').waitFor();
    const tasks = await watchTasks(chat.page);
    const stop = await chat.watch();
    await chat.say('5000');
    await chat.hears('4999 5000');
    await chat.isDone();
    expect(await chat.answer()).toBe(numbers(5000));
    const seen = await stop();
    const { count, longest } = await tasks();
    expect(count).toBeGreaterThan(seen.frames);
    expect(longest).toBeLessThan(50);
    // One change a frame, or where none is drawn a quarter of a second, a beginning and an end.
    expect(seen.changes).toBeLessThan(seen.frames + seen.stalls + 20);
  });

  test('the key never reaches the page', async () => {
    const chat = await open();
    const credentials: string[] = [];
    chat.page.on('request', (request) => {
      const credential = request.headers().authorization;
      if (credential !== undefined) {
        credentials.push(credential);
      }
    });
    await chat.say('count to 2');
    await chat.hears('1 2');
    expect(credentials.length).toBeGreaterThan(0);
    expect(credentials.filter((credential) => credential.includes('rg_'))).toEqual([]);
    const other = await chat.page.request.post(`${inject(name)}api/token`, {
      headers: { 'Sec-Fetch-Site': 'cross-site' },
    });
    expect(other.status()).toBe(403);
  });
}
