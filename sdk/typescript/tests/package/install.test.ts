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
  const dependencies = { '@resonantgenesis/sdk': `file:${inject('tarball')}` };
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

let linked: Promise<void> | undefined;

/** React and Vue, from where they are already. */
function frameworks(): Promise<void> {
  linked ??= (async () => {
    const names = ['react', 'react-dom', 'vue', '@types/react', '@types/react-dom', 'csstype'];
    for (const name of names) {
      await mkdir(dirname(join(project, 'node_modules', name)), { recursive: true });
      await symlink(join(MODULES, name), join(project, 'node_modules', name));
    }
  })();
  return linked;
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
  await frameworks();
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

/** Uses all that is exported, in a file of a project of somebody's own. */
const USES = `
  import { ResonantGenesis, StreamError, type Chunk } from '@resonantgenesis/sdk';
  import { useAgentStream } from '@resonantgenesis/sdk/react';
  import { SessionStore } from '@resonantgenesis/sdk/store';
  import { createResonantGenesis } from '@resonantgenesis/sdk/vue';
  import { AgentError, type Handler } from '@resonantgenesis/sdk/worker';
  import { verifyWebhook } from '@resonantgenesis/sdk/webhooks';
  export const client: ResonantGenesis = new ResonantGenesis({ apiKey: 'k' });
  export const text = (chunk: Chunk) => (chunk.type === 'text' ? chunk.content.length : chunk.position);
  export const failed = (error: unknown) => error instanceof StreamError && error.code.length;
  export const shown = () => useAgentStream('guide', 'Hello').content.length;
  export const plugin = createResonantGenesis(client);
  export const told = (body: string) => verifyWebhook(body, {}, 'whsec_').type.length;
  export type Store = SessionStore;
  const answer: Handler = async function* (turn) {
    if (!turn.goal) throw new AgentError('no goal', { retryable: false });
    yield { type: 'text', content: turn.goal.toUpperCase() };
  };
  export const stop = async () => (await client.agents.serve('a', answer)).stop();
  // @ts-expect-error Types are really there: what is not in them is an error.
  client.nothing;
`;

const DOM = { lib: ['ES2022', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'], types: [] };

test.each([
  ['node', 'ts', { module: 'CommonJS', moduleResolution: 'node10', ignoreDeprecations: '6.0' }],
  ['node16', 'cts', { module: 'Node16', moduleResolution: 'Node16' }],
  ['node16', 'mts', { module: 'Node16', moduleResolution: 'Node16' }],
  ['nodenext', 'cts', { module: 'NodeNext', moduleResolution: 'NodeNext' }],
  ['nodenext', 'mts', { module: 'NodeNext', moduleResolution: 'NodeNext' }],
  ['bundler', 'ts', { module: 'ESNext', moduleResolution: 'Bundler' }],
])('its types with moduleResolution %s, in a file .%s', async (name, ending, options) => {
  await frameworks();
  const folder = `types-${name}-${ending}`;
  await write({
    [`${folder}/main.${ending}`]: USES,
    [`tsconfig.${folder}.json`]: strict({
      ...DOM,
      ...options,
      // Of the frameworks' own types it is not to be judged here.
      skipLibCheck: true,
      include: [folder],
    }),
  });
  await check(`tsconfig.${folder}.json`);
});

test('where only CommonJS is loaded, as in Jest: every subpath, and what is loaded later', async () => {
  await frameworks();
  const code = `
    const { ResonantGenesis, StreamError } = require('@resonantgenesis/sdk');
    for (const name of ['react', 'vue', 'store', 'worker', 'webhooks', 'admin']) {
      const names = Object.keys(require('@resonantgenesis/sdk/' + name));
      if (!names.length) throw new Error(name);
    }
    (async () => {
      const options = { apiKey: 'k', baseUrl: 'http://127.0.0.1:9', maxRetries: 0, logLevel: 'silent' };
      const client = new ResonantGenesis(options);
      const queue = await client.offlineQueue();
      await queue.close();
      class Socket { send() {} close() {} }
      const realtime = await new ResonantGenesis({ ...options, webSocket: Socket }).realtime();
      await realtime.close();
      const tries = [
        () => client.agents.get('a'),
        () => client.files.get('f'),
        async () => { for await (const _ of client.events.subscribe({ since: 'c' })); },
      ];
      for (const attempt of tries) {
        const error = await attempt().then(() => undefined, (reason) => reason);
        if (!(error instanceof StreamError)) throw new Error('no error of ours: ' + error);
        console.log(error.code);
      }
      console.log(require.resolve('@resonantgenesis/sdk'));
    })();
  `;
  // Jest's own loader has these conditions, and runs no module.
  const only = ['--no-experimental-require-module', '-e', code];
  const { stdout } = await run('node', only, { cwd: project });
  expect(stdout.trim().split('\n')).toEqual([
    'CONNECTION_LOST',
    'CONNECTION_LOST',
    'CONNECTION_LOST',
    expect.stringContaining('dist/cjs/index.js'),
  ]);
});

test('in Node there is one copy of it, imported or required', async () => {
  const code = `
    const { ResonantGenesis } = require('@resonantgenesis/sdk');
    import('@resonantgenesis/sdk').then((sdk) => console.log(sdk.ResonantGenesis === ResonantGenesis));
  `;
  const { stdout } = await run('node', ['-e', code], { cwd: project });
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  // Before, a module could not be required.
  const modern = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
  expect(stdout.trim()).toBe(String(modern));
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
