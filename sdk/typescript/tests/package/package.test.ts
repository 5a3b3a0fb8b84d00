/** What is published: which files, how large, and that it installs and builds where nothing else is. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const SDK = fileURLToPath(new URL('../../', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const TIME = 120_000;

/** Everything happens here, so that nothing else that builds the package is disturbed. */
let work: string;
/** The package as it is published, unpacked. */
let pack: string;
let tarball: string;

beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'rg-pack-'));
  pack = join(work, 'package');
  await mkdir(pack);
  const dist = join(pack, 'dist');
  await build({
    root: SDK,
    configFile: join(SDK, 'vite.config.ts'),
    logLevel: 'error',
    build: { outDir: dist },
  });
  await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json', '--outDir', dist], {
    cwd: SDK,
  });
  for (const name of ['package.json', 'README.md', 'LICENSE']) {
    await cp(join(SDK, name), join(pack, name));
  }
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', work], {
    cwd: pack,
  });
  tarball = join(work, JSON.parse(stdout)[0].filename);
}, TIME);

afterAll(() => rm(work, { recursive: true, force: true }));

async function published(): Promise<string[]> {
  const { stdout } = await run('tar', ['-tzf', tarball]);
  return stdout
    .trim()
    .split('\n')
    .map((name) => name.replace('package/', ''))
    .sort();
}

/** A page of somebody who writes `code`: its files, minified, as they are loaded. */
async function bundle(code: string): Promise<Rolldown.OutputChunk[]> {
  const entry = join(work, 'entry.js');
  await writeFile(entry, code);
  const made = await build({
    root: work,
    configFile: false,
    logLevel: 'error',
    resolve: {
      alias: {
        '@resonantgenesis/sdk': join(pack, 'dist/index.js'),
        'eventsource-parser': join(ROOT, 'node_modules/eventsource-parser'),
      },
    },
    build: {
      write: false,
      target: 'es2022',
      lib: { entry, formats: ['es'], fileName: 'entry' },
      rolldownOptions: { output: { minify: true } },
    },
  });
  const [{ output }] = made as Rolldown.RolldownOutput[] as [Rolldown.RolldownOutput];
  return output.filter((part) => part.type === 'chunk');
}

/** Of the entry and all that is loaded with it, minified and gzipped; in bytes. */
function eager(chunks: Rolldown.OutputChunk[]): number {
  const names = new Set<string>();
  const add = (name: string) => {
    const found = chunks.find((chunk) => chunk.fileName === name);
    if (!found || names.has(name)) return;
    names.add(name);
    for (const one of found.imports) add(one);
  };
  add(chunks.find((chunk) => chunk.isEntry)?.fileName ?? '');
  const loaded = chunks.filter((chunk) => names.has(chunk.fileName));
  return loaded.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
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

test('only what is meant to be published is', async () => {
  const names = await published();
  const odd = names.filter(
    (name) => !/^(package\.json|README\.md|LICENSE|dist\/.+\.(js|d\.ts))$/.test(name),
  );
  expect(odd).toEqual([]);
  const { exports, sideEffects, dependencies } = JSON.parse(
    await readFile(join(pack, 'package.json'), 'utf8'),
  );
  for (const entry of Object.values<Record<string, string> | string>(exports)) {
    const targets = typeof entry === 'string' ? [entry] : Object.values(entry);
    for (const target of targets) expect(names).toContain(target.replace('./', ''));
  }
  expect(sideEffects).toBe(false);
  expect(Object.keys(dependencies)).toEqual(['eventsource-parser']);
});

test('it imports nothing of Node’s, and the core nothing of a framework', async () => {
  const allowed: Record<string, string[]> = {
    'core.js': ['eventsource-parser'],
    'react/index.js': ['react'],
    'vue/index.js': ['vue'],
  };
  const files = (await readdir(join(pack, 'dist'), { recursive: true })).filter((name) =>
    name.endsWith('.js'),
  );
  for (const name of files) {
    const code = await readFile(join(pack, 'dist', name), 'utf8');
    const found = [...code.matchAll(/^(?:import|export)[^'"\n]*['"]([^'"]+)['"]/gm)].map(
      (m) => m[1],
    );
    const foreign = found.filter((one) => !one?.startsWith('.'));
    expect([name, foreign]).toEqual([name, allowed[name] ?? []]);
    expect(code).not.toMatch(/\brequire\(|['"]node:/);
  }
});

test('the core is below 12 KB, minified and gzipped', async () => {
  const chunks = await bundle("export * from '@resonantgenesis/sdk';");
  expect(eager(chunks)).toBeLessThan(12 * 1024);
  // What only some pages need is not in it.
  const later = chunks.filter((chunk) => chunk.isDynamicEntry).map((chunk) => chunk.name);
  expect(later).toEqual(expect.arrayContaining(['realtime', 'queue', 'event-machine']));
});

test('an import that is not used costs nothing', async () => {
  const chunks = await bundle("import { ResonantGenesis } from '@resonantgenesis/sdk'; export {};");
  expect(eager(chunks)).toBeLessThan(100);
});

test('it installs into an empty Vite project and builds, with types', {
  timeout: TIME,
}, async () => {
  const project = join(work, 'project');
  await mkdir(join(project, 'src'), { recursive: true });
  // The dependency is taken from where it is already, so that no registry is asked.
  const parser = join(ROOT, 'node_modules/eventsource-parser');
  const files = {
    'package.json': JSON.stringify({
      private: true,
      type: 'module',
      dependencies: {
        '@resonantgenesis/sdk': `file:${tarball}`,
        'eventsource-parser': `file:${parser}`,
      },
    }),
    'index.html': '<script type="module" src="/src/main.ts"></script>',
    'tsconfig.json': strict({ lib: ['ES2022', 'DOM', 'DOM.Iterable'], types: [] }),
    // A server's project knows no page.
    'tsconfig.node.json': strict({
      lib: ['ES2022'],
      types: ['node'],
      typeRoots: [join(ROOT, 'node_modules/@types')],
      include: ['server'],
    }),
    'server/main.ts': `
      import { ResonantGenesis } from '@resonantgenesis/sdk';
      const client = new ResonantGenesis();
      for await (const event of client.events.subscribe({ events: 'session.*' })) console.log(event.type);
      const queue = await client.offlineQueue({ storage: 'memory' });
      await queue.add({ agentId: 'guide', goal: 'Hello' });
    `,
    'src/main.ts': `
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
  };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(project, name)), { recursive: true });
    await writeFile(join(project, name), content);
  }
  const quiet = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
  await run('npm', ['install', ...quiet], { cwd: project });
  for (const config of ['tsconfig.json', 'tsconfig.node.json']) {
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', join(project, config)]);
  }
  await build({ root: project, configFile: false, logLevel: 'error' });
  const built = await readdir(join(project, 'dist/assets'));
  expect(built.filter((name) => name.endsWith('.js')).length).toBeGreaterThan(1);
  // And it is a module of Node's, as it is.
  const code =
    "import('@resonantgenesis/sdk').then((sdk) => console.log(new sdk.ResonantGenesis().baseUrl))";
  const { stdout } = await run('node', ['-e', code], { cwd: project });
  expect(stdout).toContain('https://');
});
