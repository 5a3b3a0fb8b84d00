/** The server as users run it: a process of its own, on a free port, in a directory of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
export const KEY = 'rg_test_bootstrap_key_0123456789';

const AGENTS = [
  'paced=support.agents:paced',
  'silent=support.agents:silent',
  'failing=guide.failing:failing',
  'refunds=support.agents:refunds_in_a_thread',
  'questions=support.agents:questions',
  'location=support.agents:location',
  'talkative=support.agents:talkative',
];

/** Milliseconds that a start or a stop may take on a busy machine. */
const PATIENCE = 30_000;

export class TestServer {
  /** Empty while it takes no requests. Another one after each start: a port is nobody's meanwhile. */
  url = '';
  readonly data: string;
  readonly #env: Record<string, string>;
  #process: ChildProcess | undefined;

  constructor(data: string, env: Record<string, string>) {
    this.data = data;
    this.#env = env;
  }

  /** Returns once it takes requests. */
  async start(): Promise<this> {
    const child = spawn(
      join(ROOT, '.venv/bin/resonantgenesis'),
      ['serve', '--port', '0', '--data', join(this.data, 'data')],
      {
        cwd: this.data,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          PATH: process.env.PATH,
          HOME: this.data,
          PYTHONPATH: join(ROOT, 'tests'),
          RESONANTGENESIS_BOOTSTRAP_KEY: KEY,
          RESONANTGENESIS_LOG_FORMAT: 'json',
          RESONANTGENESIS_WORDS_PER_SECOND: '0',
          RESONANTGENESIS_DRAIN_SECONDS: '0',
          RESONANTGENESIS_AGENTS: AGENTS.join(),
          ...this.#env,
        },
      },
    );
    this.#process = child;
    this.url = await serving(child);
    return this;
  }

  /** Ends it, with or without a goodbye, and returns when it is gone. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    this.url = '';
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    await gone;
    clearTimeout(late);
  }
}

/** A server that is gone, with all it wrote, after `[Symbol.asyncDispose]` or `dispose`. */
export async function startServer(
  env: Record<string, string> = {},
): Promise<TestServer & { dispose(): Promise<void> }> {
  const data = await mkdtemp(join(tmpdir(), 'rg-ts-'));
  const server = await new TestServer(data, env).start();
  return Object.assign(server, {
    async dispose() {
      await server.stop();
      await rm(data, { recursive: true, force: true });
    },
  });
}

function serving(child: ChildProcess): Promise<string> {
  let said = '';
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the server was not ready: ${said}`)), PATIENCE);
    const hear = (line: string) => {
      // What it says later is read as well, so that its pipe never fills.
      if (said.length < 20_000) said += `${line}\n`;
      const found = line.includes('"event": "serving"') && /"url": "([^"]+)"/.exec(line);
      if (!found) return;
      clearTimeout(late);
      resolve(found[1] ?? '');
    };
    for (const stream of [child.stdout, child.stderr]) {
      if (stream) createInterface(stream).on('line', hear);
    }
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`the server ended: ${said}`)));
  });
}
