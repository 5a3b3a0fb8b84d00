/** Every code block of the documentation in JavaScript and TypeScript, as a reader pastes it. */
import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, inject, test } from 'vitest';
import { ResonantGenesis } from '../../src/index.js';
import { KEY, startServer } from '../support/server.js';
import type { Block, Program } from './pages.js';
import { blocksOf, programsOf } from './pages.js';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const GUIDE = 'docs';
/** Milliseconds that a block may take. */
const PATIENCE = 40_000;

/** What the text around the blocks names, for the compiler … */
const AMBIENT = `
import type { ResonantGenesis } from '@resonantgenesis/sdk';
declare global {
  const client: ResonantGenesis;
  const owner: ResonantGenesis;
  const user: { id: string };
  const input: { files: File[]; value: string };
  const id: string;
  function show(what: unknown): void;
  function render(what: unknown): void;
  function write(text: string): void;
}
`;
/** … and in Node. */
const PRELUDE = `
const { ResonantGenesis: Client } = await import('@resonantgenesis/sdk');
const client = new Client();
const owner = client;
const user = { id: 'reed' };
const input = { files: [new (await import('node:buffer')).File(['a report'], 'report.txt')], value: 'count to 2' };
const id = process.env.FILE;
const show = (what) => console.log(JSON.stringify(what));
const render = show;
const write = (text) => process.stdout.write(text);
`;

/** The folder of a reader who has installed the package. */
let folder: string;
let admin: ResonantGenesis;
let fileId: string;
const pages = new Map<string, Block[]>();

beforeAll(async () => {
  const server = await startServer();
  folder = await mkdtemp(join(tmpdir(), 'rg-snippets-'));
  const modules = ['react', 'react-dom', 'vue', '@types'].map((name) => [
    name,
    join(ROOT, 'node_modules', name),
  ]);
  for (const [name = '', from = ''] of [...modules, ['@resonantgenesis/sdk', inject('pack')]]) {
    await mkdir(dirname(join(folder, 'node_modules', name)), { recursive: true });
    await symlink(from, join(folder, 'node_modules', name));
  }
  await writeFile(join(folder, 'package.json'), '{"private": true, "type": "module"}');
  await writeFile(join(folder, 'report.pdf'), '%PDF-1.7 a report'.repeat(1000));
  admin = new ResonantGenesis({ apiKey: KEY, baseUrl: server.url });
  const { sessionId } = await admin.sessions.execute({ agentId: 'guide', goal: 'count to 9' });
  fileId = (await admin.files.upload(new Blob(['abc']), { name: 'f.txt' })).id;
  const values = {
    'http://127.0.0.1:8080': server.url,
    your_key: KEY,
    'sess_…': sessionId,
    'file_…': fileId,
  };
  const guide = (await readdir(join(ROOT, GUIDE))).filter((name) => name.endsWith('.md'));
  for (const path of [
    'README.md',
    'sdk/typescript/README.md',
    ...guide.map((n) => `${GUIDE}/${n}`),
  ]) {
    pages.set(path, await blocksOf(join(ROOT, path), values));
  }
  return async () => {
    await server.dispose();
    await rm(folder, { recursive: true, force: true });
  };
});

test('all of them have the types that they say', async () => {
  const all = [...pages.values()].flat();
  expect(all.length).toBeGreaterThan(15);
  await mkdir(join(folder, 'typed'));
  for (const [index, { name, ending, code }] of all.entries()) {
    // A module, as what is pasted into a file of its own is.
    const text = ending === 'vue' ? code : `${code}\nexport {};\n`;
    await writeFile(join(folder, 'typed', `${name}-${index}.${ending}`), text);
  }
  await writeFile(join(folder, 'typed/ambient.d.ts'), AMBIENT);
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'bundler',
    lib: ['ES2022', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable'],
    types: ['node'],
    jsx: 'react-jsx',
    skipLibCheck: true,
  };
  const config = JSON.stringify({ compilerOptions, include: ['typed'] });
  await writeFile(join(folder, 'tsconfig.json'), config);
  const compiler = join(ROOT, 'node_modules/.bin/vue-tsc');
  const { stdout } = await run(compiler, ['-p', folder]).catch((error) => error);
  expect(stdout).toBe('');
});

test('those for Node run against a server', async () => {
  const programs = [...pages.values()].flatMap((blocks) => programsOf(blocks, PRELUDE));
  expect(programs.length).toBeGreaterThan(4);
  for (const program of programs) {
    await pasted(program);
  }
});

/** Runs a program to its end, or to what it prints. Throws with all that it printed if it fails. */
async function pasted({ name, code, until }: Program): Promise<void> {
  const path = join(folder, `${name}.mjs`);
  await writeFile(path, code);
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [path], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH,
      HOME,
      RESONANTGENESIS_BASE_URL: admin.baseUrl,
      RESONANTGENESIS_API_KEY: KEY,
      FILE: fileId,
    },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      said += data;
    });
  }
  const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
  const gone = new Promise<number | null>((resolve) => child.once('exit', resolve));
  let isGone = false;
  void gone.then(() => {
    isGone = true;
  });
  while (until !== undefined && !isGone && !said.includes(until)) {
    // Something happens that those who follow events see.
    await admin.sessions.execute({ agentId: 'guide', goal: 'count to 1' });
  }
  if (until !== undefined && said.includes(until)) {
    child.kill('SIGKILL');
    await gone;
  } else {
    expect([name, await gone, said]).toEqual([name, 0, said]);
    expect(until).toBeUndefined();
  }
  clearTimeout(late);
}
