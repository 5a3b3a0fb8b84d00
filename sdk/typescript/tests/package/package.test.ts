/** What is published: which files, how large, and where it runs. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { build, type InlineConfig, type Rolldown } from 'vite';
import { expect, inject, onTestFinished, test } from 'vitest';
import { chunkFrame } from '../support/script.js';

const run = promisify(execFile);

async function published(): Promise<string[]> {
  const { stdout } = await run('tar', ['-tzf', inject('tarball')]);
  return stdout
    .trim()
    .split('\n')
    .map((name) => name.replace('package/', ''))
    .sort();
}

/** A page of somebody who writes `code`: its files, minified, as they are loaded. */
async function bundle(
  code: string,
  format: 'es' | 'iife' = 'es',
  output: Rolldown.OutputOptions = {},
): Promise<Rolldown.OutputChunk[]> {
  const root = await mkdtemp(join(tmpdir(), 'rg-bundle-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const entry = join(root, 'entry.js');
  await writeFile(entry, code);
  const config: InlineConfig = {
    root,
    configFile: false,
    logLevel: 'error',
    resolve: {
      alias: {
        '@resonantgenesis/sdk': join(inject('pack'), 'dist/index.js'),
      },
    },
    build: {
      write: false,
      target: 'es2022',
      lib: { entry, formats: [format], fileName: 'entry', name: 'bundle' },
      rolldownOptions: { output: { minify: true, ...output } },
    },
  };
  const [{ output: parts }] = (await build(config)) as [Rolldown.RolldownOutput];
  return parts.filter((part) => part.type === 'chunk');
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

/** All files that are named somewhere in it. */
function targetsOf(entry: unknown): string[] {
  return typeof entry === 'string' ? [entry] : Object.values(entry as object).flatMap(targetsOf);
}

test('only what is meant to be published is', async () => {
  const names = await published();
  const odd = names.filter(
    (name) =>
      !/^(package\.json|README\.md|LICENSE|dist\/cjs\/package\.json|dist\/.+\.(js|d\.ts))$/.test(
        name,
      ),
  );
  expect(odd).toEqual([]);
  const { exports, main, module, types, typesVersions, sideEffects, dependencies } = JSON.parse(
    await readFile(join(inject('pack'), 'package.json'), 'utf8'),
  );
  const targets = [main, module, types, ...targetsOf(exports), ...targetsOf(typesVersions)];
  expect(targets.length).toBeGreaterThan(30);
  for (const target of targets) expect(names).toContain(target.replace('./', ''));
  expect(sideEffects).toBe(false);
  expect(dependencies).toBeUndefined();
});

test('it imports nothing of Node’s, and the core nothing of a framework', async () => {
  const allowed: Record<string, string[]> = {
    'react/index.js': ['react'],
    'vue/index.js': ['vue'],
  };
  const all = await readdir(join(inject('pack'), 'dist'), { recursive: true });
  const files = all.filter((name) => name.endsWith('.js') && !name.startsWith('cjs/'));
  expect(all.filter((name) => /^cjs\/.*\.js$/.test(name)).sort()).toEqual(
    files.map((name) => `cjs/${name}`).sort(),
  );
  for (const name of files) {
    const code = await readFile(join(inject('pack'), 'dist', name), 'utf8');
    const found = [...code.matchAll(/^(?:import|export)[^'"\n]*['"]([^'"]+)['"]/gm)].map(
      (m) => m[1],
    );
    const foreign = found.filter((one) => !one?.startsWith('.'));
    expect([name, foreign]).toEqual([name, allowed[name] ?? []]);
    expect(code).not.toMatch(/\brequire\(|['"]node:/);
    // What `require` gets is made of the same.
    const common = await readFile(join(inject('pack'), 'dist/cjs', name), 'utf8');
    const required = [...common.matchAll(/\brequire\(['"]([^'"]+)['"]\)/g)].map((m) => m[1]);
    expect([name, required.filter((one) => !one?.startsWith('.'))]).toEqual([
      name,
      allowed[name] ?? [],
    ]);
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

test('it runs where there is nothing but what the web has: no process, no page, no socket', async () => {
  const code = "export { ResonantGenesis } from '@resonantgenesis/sdk';";
  const [made] = await bundle(code, 'iife', { codeSplitting: false });
  const web = { fetch, AbortController, Headers, ReadableStream, Request, Response, URL, crypto };
  const more = { TextDecoder, TextEncoder, URLSearchParams, clearTimeout, performance, setTimeout };
  const frames = [
    { type: 'text', content: 'Hello', position: 1 },
    { type: 'done', session_id: 's', turn: 1, status: 'success', output: 'Hello', position: 2 },
  ];
  const headers = { 'content-type': 'text/event-stream', 'x-session-id': 's', 'x-turn': '1' };
  const answer = async () => new Response(frames.map(chunkFrame).join(''), { headers });
  const page = `${made?.code}
    (async () => {
      const client = new bundle.ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: answer });
      const stream = await client.sessions.executeStream({ agentId: 'a', goal: 'g' });
      const seen = [];
      for await (const chunk of stream) seen.push(chunk.type + ' ' + chunk.position);
      return seen.join();
    })()`;
  expect(await runInNewContext(page, { ...web, ...more, answer })).toBe('text 1,done 2');
});
