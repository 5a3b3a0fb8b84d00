/** The package where nothing else is: it installs, its types hold, and it builds. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'vite';
import { beforeAll, expect, inject, test } from 'vitest';

const run = promisify(execFile);
const MODULES = fileURLToPath(new URL('../../../../node_modules/', import.meta.url));

/** A project of somebody's own. */
let project: string;

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'rg-install-'));
  const dependencies = {
    '@resonantgenesis/sdk': `file:${inject('tarball')}`,
    // Taken from where it is already, so that no registry is asked.
    'eventsource-parser': `file:${join(MODULES, 'eventsource-parser')}`,
  };
  await write({ 'package.json': JSON.stringify({ private: true, type: 'module', dependencies }) });
  const quiet = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
  await run('npm', ['install', ...quiet], { cwd: project });
  return () => rm(project, { recursive: true, force: true });
});

async function write(files: Record<string, string>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(project, name)), { recursive: true });
    await writeFile(join(project, name), content);
  }
}

/** A TypeScript configuration of somebody who wants to know it all. */
function strict({ include = ['src'], ...more }: { include?: string[]; [name: string]: unknown }) {
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: false,
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'Bundler',
    ...more,
  };
  return JSON.stringify({ compilerOptions, include });
}

async function check(config: string): Promise<void> {
  await run(join(MODULES, '.bin/tsc'), ['-p', join(project, config)]);
}

/** Builds a folder's page, and says which scripts it is made of. */
async function scripts(folder: string): Promise<string[]> {
  const root = join(project, folder);
  await build({ root, configFile: false, logLevel: 'error' });
  return (await readdir(join(root, 'dist/assets'))).filter((name) => name.endsWith('.js'));
}

const WEB = { lib: ['ES2022', 'DOM', 'DOM.Iterable'], types: [] };

test('in an empty Vite project, with types', async () => {
  await write({
    'page/index.html': '<script type="module" src="/main.ts"></script>',
    'tsconfig.json': strict({ ...WEB, include: ['page'] }),
    // A server's project knows no page.
    'tsconfig.node.json': strict({
      lib: ['ES2022'],
      types: ['node'],
      typeRoots: [join(MODULES, '@types')],
      include: ['server'],
    }),
    'server/main.ts': `
      import { ResonantGenesis } from '@resonantgenesis/sdk';
      const client = new ResonantGenesis();
      for await (const event of client.events.subscribe({ events: 'session.*' })) console.log(event.type);
      const queue = await client.offlineQueue({ storage: 'memory' });
      await queue.add({ agentId: 'guide', goal: 'Hello' });
    `,
    'page/main.ts': `
      import { ResonantGenesis, StreamError } from '@resonantgenesis/sdk';
      const key: string | undefined = undefined;
      const client = new ResonantGenesis({ apiKey: key });
      try {
        const stream = await client.sessions.executeStream({ agentId: 'guide', goal: 'Hello' });
        for await (const chunk of stream) if (chunk.type === 'text') document.body.append(chunk.content);
      } catch (error) {
        if (error instanceof StreamError) document.title = error.code;
      }
      const realtime = await client.realtime();
      for await (const event of await realtime.subscribe({ channels: ['app'] })) console.log(event.type);
    `,
  });
  await check('tsconfig.json');
  await check('tsconfig.node.json');
  expect((await scripts('page')).length).toBeGreaterThan(1);
});

test('with React and Vue, where those are', async () => {
  for (const name of ['react', 'react-dom', 'vue', '@types/react', '@types/react-dom', 'csstype']) {
    await mkdir(dirname(join(project, 'node_modules', name)), { recursive: true });
    await symlink(join(MODULES, name), join(project, 'node_modules', name));
  }
  await write({
    'react/index.html': '<div id="app"></div><script type="module" src="/main.tsx"></script>',
    'react/main.tsx': `
      import { ResonantGenesis } from '@resonantgenesis/sdk';
      import { ResonantGenesisProvider, useAgentStream, useSession } from '@resonantgenesis/sdk/react';
      import { createRoot } from 'react-dom/client';
      function Answer() {
        const { content, isStreaming, error } = useAgentStream('guide', 'Hello');
        const { turns } = useSession(null, { agentId: 'guide' });
        return <p>{error?.message ?? content}{isStreaming && '…'}{turns.length}</p>;
      }
      const client = new ResonantGenesis();
      const page = <ResonantGenesisProvider client={client}><Answer /></ResonantGenesisProvider>;
      createRoot(document.getElementById('app')!).render(page);
    `,
    'vue/index.html': '<div id="app"></div><script type="module" src="/main.ts"></script>',
    'vue/main.ts': `
      import { createResonantGenesis, useAgentStream } from '@resonantgenesis/sdk/vue';
      import { ResonantGenesis } from '@resonantgenesis/sdk';
      import { createApp, h } from 'vue';
      const app = createApp({
        setup() {
          const { content, execute } = useAgentStream('guide');
          void execute('Hello');
          return () => h('p', content.value.toUpperCase());
        },
      });
      app.use(createResonantGenesis(new ResonantGenesis())).mount('#app');
    `,
    'tsconfig.frameworks.json': strict({ ...WEB, jsx: 'react-jsx', include: ['react', 'vue'] }),
  });
  await check('tsconfig.frameworks.json');
  expect(await scripts('react')).not.toEqual([]);
  expect(await scripts('vue')).not.toEqual([]);
});

test('in Node, by import and by require', async () => {
  const look = 'console.log(new sdk.ResonantGenesis().baseUrl)';
  for (const code of [
    `import('@resonantgenesis/sdk').then((sdk) => ${look})`,
    `const sdk = require('@resonantgenesis/sdk'); ${look}`,
  ]) {
    const { stdout } = await run('node', ['-e', code], { cwd: project });
    expect(stdout).toContain('https://');
  }
});
