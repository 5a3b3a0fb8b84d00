/** Once for all browser tests: the server, the built pages and their own servers, and Chromium. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import vue from '@vitejs/plugin-vue';
import { chromium } from 'playwright-core';
import type { InlineConfig, PreviewServer } from 'vite';
import { build, preview } from 'vite';
import type { TestProject } from 'vitest/node';
import { resonantGenesis } from '../../examples/shared/vite.ts';
import { KEY, startServer } from '../../sdk/typescript/tests/support/server.ts';
import { CHROMIUM } from './chromium.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server's own address. */
    server: string;
    /** Where the pages are. */
    react: string;
    vue: string;
    guide: string;
    aiSdk: string;
    copilotKit: string;
    /** The folder that has the built pages, each by its name. */
    built: string;
    /** Where Chromium listens. */
    chromium: string;
  }
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const AGENTS = [
  ...['fast', 'thinking', 'held', 'release'].map((name) => `${name}=browser.agents:${name}`),
  'failing=guide.failing:failing',
  'talkative=support.agents:talkative',
].join(',');

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const undo: (() => Promise<unknown>)[] = [];
  const teardown = async (): Promise<void> => {
    for (const step of undo.reverse()) {
      await step();
    }
  };
  try {
    const server = await startServer({ RESONANTGENESIS_AGENTS: AGENTS });
    undo.push(() => server.dispose());
    project.provide('server', server.url);
    process.env.RESONANTGENESIS_BASE_URL = server.url;
    process.env.RESONANTGENESIS_API_KEY = KEY;

    const out = await mkdtemp(join(tmpdir(), 'rg-pages-'));
    undo.push(() => rm(out, { recursive: true, force: true }));
    project.provide('built', out);
    for (const [name, root] of Object.entries({
      react: 'examples/react-chat',
      vue: 'examples/vue-chat',
      guide: 'tests/browser/pages',
      aiSdk: 'examples/ai-sdk-chat',
      copilotKit: 'examples/copilotkit-chat',
    })) {
      const served = await serve(project, join(ROOT, root), join(out, name));
      undo.push(() => served.close());
      project.provide(name as 'guide', served.resolvedUrls?.local[0] ?? '');
    }

    const browser = await chromium.launchServer(CHROMIUM);
    undo.push(() => browser.close());
    project.provide('chromium', browser.wsEndpoint());
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}

/** Builds a page from the SDK's sources, and serves it as its own Vite configuration would. */
async function serve(project: TestProject, root: string, outDir: string): Promise<PreviewServer> {
  const config: InlineConfig = {
    root,
    configFile: false,
    logLevel: 'silent',
    plugins: [react(), vue(), resonantGenesis()],
    resolve: {
      alias: project.vite.config.resolve.alias.filter(({ find }) =>
        String(find).includes('resonantgenesis'),
      ),
    },
    // The guide's samples read their key like this; a page for users never has one.
    define: {
      'process.env.API_KEY': JSON.stringify(KEY),
      'import.meta.env.VITE_API_KEY': JSON.stringify(KEY),
    },
    build: {
      outDir,
      emptyOutDir: true,
      ...(root.endsWith('pages') && {
        rollupOptions: { input: [join(root, 'react.html'), join(root, 'vue.html')] },
      }),
    },
    preview: { host: '127.0.0.1', port: 0 },
  };
  // Strict mode lets effects run twice only in the React that is for development.
  process.env.NODE_ENV = root.endsWith('pages') ? 'development' : 'production';
  await build(config);
  return preview(config);
}
