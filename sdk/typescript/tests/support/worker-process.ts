/** A worker as users run it: a process of its own, of a built program, which a test can kill. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { KEY } from './server.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
/** Where the program finds `ws`. */
const OUT = join(ROOT, 'node_modules/.cache', `rg-worker-${process.pid}`);

/** Builds the program from the SDK's sources. Returns its file, and what removes it. */
export async function buildWorker(): Promise<{ file: string; remove: () => Promise<void> }> {
  await build({
    configFile: false,
    logLevel: 'error',
    resolve: { alias: { '@resonantgenesis/sdk': join(ROOT, 'sdk/typescript/src/index.ts') } },
    build: {
      ssr: join(ROOT, 'sdk/typescript/tests/support/worker-program.ts'),
      outDir: OUT,
      target: 'node20',
    },
  });
  const remove = () => rm(OUT, { recursive: true, force: true });
  return { file: join(OUT, 'worker-program.js'), remove };
}

export class WorkerProcess {
  readonly #child: ChildProcess;
  readonly #gone: Promise<unknown>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#gone = once(child, 'exit');
  }

  /** Returns once the server has welcomed the worker. */
  static async start(file: string, server: string, handler: string): Promise<WorkerProcess> {
    const child = spawn(process.execPath, [file, handler], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, RESONANTGENESIS_BASE_URL: server, RESONANTGENESIS_API_KEY: KEY },
    });
    const started = new WorkerProcess(child);
    for await (const line of createInterface(child.stdout)) {
      if (line === 'serving') return started;
    }
    throw new Error('the worker ended');
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Ends it, and returns its exit code when it is gone. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    this.#child.kill(signal);
    await this.#gone;
    return this.#child.exitCode;
  }
}
