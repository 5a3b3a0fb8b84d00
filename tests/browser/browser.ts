/** Pages of the browser that `setup.ts` has started, and what the server says about them. */

import { ResonantGenesis } from '@resonantgenesis/sdk';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { chromium } from 'playwright-core';
import { afterEach, beforeAll, expect, inject, onTestFinished } from 'vitest';
import { KEY } from '../../sdk/typescript/tests/support/server.ts';
import { CHROMIUM } from './chromium.ts';

/** Milliseconds that anything in a page may take on a busy machine. */
export const PATIENCE = 40_000;

/** With the key: sees what every page made. */
export const admin = new ResonantGenesis({ apiKey: KEY, baseUrl: inject('server') });

let shared: Browser;
const contexts: BrowserContext[] = [];
const complaints: string[] = [];

beforeAll(async () => {
  shared = await chromium.connect(inject('chromium'));
  return () => shared.close();
});

afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
  // No page has thrown what nobody caught.
  expect(complaints.splice(0)).toEqual([]);
});

/** A browser for one test, with what there is only one of in each. */
export async function ownBrowser(): Promise<Browser> {
  const browser = await chromium.launch(CHROMIUM);
  onTestFinished(() => browser.close());
  return browser;
}

/** A page of a browser profile of its own. */
export async function openPage(url: string, browser: Browser = shared): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1000, height: 760 } });
  contexts.push(context);
  context.setDefaultTimeout(PATIENCE);
  // For pages that name no server, as the guide's do not.
  await context.addInitScript((baseUrl) => {
    Object.assign(globalThis, { RESONANTGENESIS_BASE_URL: baseUrl });
  }, inject('server'));
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(url);
  return page;
}

/** Another tab of the same browser profile, at the same address. */
export async function openTab(page: Page): Promise<Page> {
  const tab = await page.context().newPage();
  await tab.goto(page.url());
  return tab;
}
