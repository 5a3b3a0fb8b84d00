/** `node worker-program.js HANDLER` serves the agent `served` until SIGTERM. */
import { access, appendFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { ResonantGenesis } from '../../src/index.js';
import type { Handler, Turn } from '../../src/worker/index.js';

/** Notes that this process has the turn. */
async function took({ context }: Turn): Promise<void> {
  await appendFile(String(context.took), `${process.pid}\n`);
}

/** Waits for the file that lets the turn go on. */
async function held({ context, signal }: Turn): Promise<void> {
  const isThere = () =>
    access(String(context.hold)).then(
      () => true,
      () => false,
    );
  while (!signal.aborted && !(await isThere())) await pause(10);
}

const HANDLERS: Record<string, Handler> = {
  async *late(turn) {
    await took(turn);
    await held(turn);
    yield `by ${process.pid}`;
  },
  async *early(turn) {
    await took(turn);
    yield 'begun ';
    await held(turn);
    yield 'ended';
  },
};

const handler = HANDLERS[process.argv[2] ?? ''];
if (!handler) throw new Error('no such handler');
const worker = await new ResonantGenesis().agents.serve('served', handler);
process.once('SIGTERM', () => worker.stop());
process.stdout.write('serving\n');
await worker.ended;
