import type { Browser, Page } from 'playwright-core';
import { expect } from 'vitest';
import { admin, openPage, openTab, PATIENCE } from './browser.ts';

/** What happened in a page: frames drawn, quarters of a second without one, times it was changed. */
export interface Seen {
  readonly frames: number;
  readonly stalls: number;
  readonly changes: number;
}

/** An answer at one moment. */
export interface Shown {
  readonly text: string;
  readonly cursors: number;
}

/** The chat of the examples, as its user sees it. */
export class Chat {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async open(url: string, query: Record<string, string>, browser?: Browser): Promise<Chat> {
    return new Chat(await openPage(`${url}?${new URLSearchParams(query)}`, browser));
  }

  /** A second tab at the address that the first has by now. */
  async another(): Promise<Chat> {
    return new Chat(await openTab(this.page));
  }

  async say(goal: string): Promise<void> {
    await this.page.getByLabel('Message').fill(goal);
    await this.page.keyboard.press('Enter');
  }

  /** Waits until the newest answer has this text somewhere. */
  async hears(text: string | RegExp): Promise<void> {
    await this.page.locator('.turn').last().locator('.answer', { hasText: text }).waitFor();
  }

  /** Waits until no turn is under way. */
  async isDone(): Promise<void> {
    await this.page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'detached' });
  }

  /** The newest answer, its white space as a reader sees it. */
  async answer(): Promise<string> {
    return (await this.answers()).at(-1) ?? '';
  }

  async answers(): Promise<string[]> {
    const texts = await this.page.locator('.answer').allTextContents();
    return texts.map((text) => plain(text));
  }

  /** Waits until these are the answers, each as often as it is here. */
  async shows(...answers: string[]): Promise<void> {
    await expect.poll(() => this.answers(), { timeout: PATIENCE }).toEqual(answers);
  }

  /** Pixels between what is seen of the conversation and its end. */
  async gap(): Promise<number> {
    return this.page
      .locator('.turns')
      .evaluate((list) => list.scrollHeight - list.scrollTop - list.clientHeight);
  }

  /** Turns the wheel over the conversation by so many pixels, and waits until it rests. */
  async scroll(pixels: number): Promise<void> {
    const list = this.page.locator('.turns');
    await list.hover();
    const rest = await list.evaluateHandle((element) => ({
      here: new Promise((resolve) =>
        element.addEventListener('scrollend', resolve, { once: true }),
      ),
    }));
    await this.page.mouse.wheel(0, pixels);
    await rest.evaluate(({ here }) => here.then(() => undefined));
  }

  /** How far down the conversation is scrolled, in pixels. */
  async place(): Promise<number> {
    return this.page.locator('.turns').evaluate((list) => list.scrollTop);
  }

  async goals(): Promise<string[]> {
    return this.page.locator('.goal').allTextContents();
  }

  async sessionId(): Promise<string> {
    await this.page.waitForURL(/[?&]session=sess_/);
    return new URL(this.page.url()).searchParams.get('session') ?? '';
  }

  /** What the server has of the newest turn. */
  async output(): Promise<string> {
    const session = await admin.sessions.get(await this.sessionId());
    return plain(session.output ?? '');
  }

  /** Lets the agent `held` go on, and waits until its turn is over on the server. */
  async release(): Promise<void> {
    const sessionId = await this.sessionId();
    await admin.sessions.execute({ agentId: 'release', goal: sessionId });
    for await (const _ of await admin.sessions.join(sessionId)) {
      // To its end.
    }
  }

  /** Takes down the newest answer whenever the page changes, until the function it returns is called. */
  async record(): Promise<() => Promise<Shown[]>> {
    return collect(this.page, () => {
      const shown: Shown[] = [];
      const look = new MutationObserver(() => {
        const answer = [...document.querySelectorAll('.answer')].at(-1);
        if (answer !== undefined) {
          const text = answer.textContent.replace('▌', '');
          shown.push({ text, cursors: answer.querySelectorAll('.cursor').length });
        }
      });
      look.observe(document.body, { subtree: true, childList: true, characterData: true });
      return () => shown;
    });
  }

  /** Watches how the page keeps up, until the function it returns is called. */
  async watch(): Promise<() => Promise<Seen>> {
    return collect(this.page, () => {
      const seen = { frames: 0, stalls: 0, changes: 0 };
      const changes = new MutationObserver(() => {
        seen.changes += 1;
      });
      changes.observe(document.body, { subtree: true, childList: true, characterData: true });
      let last = performance.now();
      let frame = requestAnimationFrame(function next() {
        const now = performance.now();
        seen.frames += 1;
        seen.stalls += Math.floor((now - last) / 250);
        last = now;
        frame = requestAnimationFrame(next);
      });
      return () => {
        changes.disconnect();
        cancelAnimationFrame(frame);
        return seen;
      };
    });
  }

  /** Paths and queries of the streams that the page opens from now on. */
  streams(): string[] {
    const seen: string[] = [];
    this.page.on('request', (request) => {
      const { pathname, search } = new URL(request.url());
      if (pathname.endsWith('/stream')) {
        seen.push(pathname + search);
      }
    });
    return seen;
  }
}

/** Starts something in a page; what the function it returns there gives is what ours gives here. */
async function collect<T>(page: Page, start: () => () => T): Promise<() => Promise<T>> {
  const handle = await page.evaluateHandle(start);
  return () => handle.evaluate((stop) => (stop as () => T)()) as Promise<T>;
}

/** Without the cursor, and with paragraphs run together: the pages cut long ones. */
function plain(text: string): string {
  return text.replace('▌', '').replace(/\s+/g, ' ').trim();
}

/** What `count to` answers. */
export function numbers(last: number): string {
  return Array.from({ length: last }, (_, index) => index + 1).join(' ');
}
