import type { Page } from 'playwright-core';
import { admin, openPage, openTab } from './browser.ts';

/** What happened in a page: tasks of over 50 ms, frames drawn, and times the page was changed. */
export interface Seen {
  readonly longTasks: number;
  readonly frames: number;
  readonly changes: number;
}

/** The chat of the examples, as its user sees it. */
export class Chat {
  readonly page: Page;

  private constructor(page: Page) {
    this.page = page;
  }

  static async open(url: string, query: Record<string, string> = {}): Promise<Chat> {
    return new Chat(await openPage(`${url}?${new URLSearchParams(query)}`));
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

  /** Watches how the page keeps up, until the function it returns is called. */
  async watch(): Promise<() => Promise<Seen>> {
    await this.page.evaluate(() => {
      const seen = { longTasks: 0, frames: 0, changes: 0 };
      const tasks = new PerformanceObserver((list) => {
        seen.longTasks += list.getEntries().length;
      });
      tasks.observe({ type: 'longtask' });
      const changes = new MutationObserver(() => {
        seen.changes += 1;
      });
      changes.observe(document.body, { subtree: true, childList: true, characterData: true });
      let frame = requestAnimationFrame(function next() {
        seen.frames += 1;
        frame = requestAnimationFrame(next);
      });
      const stop = () => {
        seen.longTasks += tasks.takeRecords().length;
        tasks.disconnect();
        changes.disconnect();
        cancelAnimationFrame(frame);
        return seen;
      };
      Object.assign(globalThis, { stopWatching: stop });
    });
    return () =>
      this.page.evaluate(() =>
        (globalThis as unknown as { stopWatching: () => Seen }).stopWatching(),
      );
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

/** Without the cursor, and with paragraphs run together: the pages cut long ones. */
function plain(text: string): string {
  return text.replace('▌', '').replace(/\s+/g, ' ').trim();
}

/** What `count to` answers. */
export function numbers(last: number): string {
  return Array.from({ length: last }, (_, index) => index + 1).join(' ');
}
