import type { Page } from 'playwright-core';

/** What a page's main thread did. */
export interface Tasks {
  readonly count: number;
  /** Milliseconds that the longest took of the processor: others on the machine do not count. */
  readonly longest: number;
}

/** Only one page of a browser can be watched at a time. */
export async function watchTasks(page: Page): Promise<() => Promise<Tasks>> {
  const session = await page.context().newCDPSession(page);
  const found: number[] = [];
  session.on('Tracing.dataCollected', ({ value }) => {
    for (const event of value as unknown as { name: string; tdur?: number }[]) {
      if (event.name === 'RunTask' && event.tdur !== undefined) {
        found.push(event.tdur / 1000);
      }
    }
  });
  // The category of main threads' tasks, which are what the browser reports as long tasks.
  const includedCategories = ['disabled-by-default-devtools.timeline'];
  await session.send('Tracing.start', { traceConfig: { includedCategories } });
  return async () => {
    const complete = new Promise((resolve) => session.once('Tracing.tracingComplete', resolve));
    await session.send('Tracing.end');
    await complete;
    await session.detach();
    return { count: found.length, longest: Math.max(...found) };
  };
}
