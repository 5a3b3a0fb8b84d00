/** A turn in a worker, without a server: what waits, what is sent again, what a handler may do. */
import { expect, test, vi } from 'vitest';
import { Assignment } from '../../src/worker/assignment.js';
import { AgentError, type Handler } from '../../src/worker/index.js';

const RAW = { goal: 'x', session_id: 's', turn: 1, agent_id: 'a' };
const KB = 1024;

function assigned(handler: Handler) {
  const port = {
    handler,
    window: 64 * KB,
    largest: 256 * KB,
    changed: vi.fn(),
    over: vi.fn(),
    failed: vi.fn(),
  };
  return { port, assignment: new Assignment('asg_1', RAW, port) };
}

const parsed = (messages: string[]) => messages.map((message) => JSON.parse(message));
const textsOf = (messages: string[]) => parsed(messages).flatMap(({ chunks }) => chunks);

/** Resolves once the value has been the same for many turns of the loop. */
async function settled(what: () => unknown): Promise<void> {
  for (let same = 0, before: unknown; same < 20; ) {
    const now = what();
    same = now === before ? same + 1 : 0;
    before = now;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a handler waits while the server takes nothing', async () => {
  let produced = 0;
  const { assignment } = assigned(async function* () {
    for (; produced < 1_000; produced += 1) yield 'x'.repeat(1_000);
  });
  await settled(() => produced);
  expect(produced).toBeGreaterThanOrEqual(60);
  expect(produced).toBeLessThanOrEqual(70);
  const sent = assignment.messages();
  await settled(() => produced);
  expect(assignment.messages()).toEqual([]);
  expect(produced).toBeLessThanOrEqual(70);
  while (!assignment.isDone) {
    assignment.acked(parsed(sent).at(-1).seq);
    await settled(() => produced);
    sent.push(...assignment.messages());
  }
  expect(textsOf(sent).join('')).toBe('x'.repeat(1_000_000));
  expect(parsed(sent).map(({ seq }) => seq)).toEqual(sent.map((_, at) => at + 1));
  expect(parsed(sent).at(-1)).toMatchObject({ is_last: true });
});

test('what was not taken is sent again on the next socket', async () => {
  const { assignment } = assigned(() => Array.from({ length: 200 }, () => 'x'.repeat(1_000)));
  await settled(() => assignment.isOver);
  const first = assignment.messages();
  expect(assignment.messages()).toEqual([]);
  assignment.resumed(0);
  expect(assignment.messages()).toEqual(first);
  assignment.resumed(1);
  expect(assignment.messages().slice(0, first.length - 1)).toEqual(first.slice(1));
});

test('many small chunks are several messages', async () => {
  const { assignment } = assigned(() => Array.from({ length: 12_000 }, () => 'x'));
  await assignment.ended();
  const sizes = parsed(assignment.messages()).map(({ chunks }) => chunks.length);
  expect(sizes).toEqual([5_000, 5_000, 2_000]);
});

test('a failure says what the handler meant for clients, and nothing else', async () => {
  const told = assigned(() => {
    throw new AgentError('the cellar is full', { code: 'RATE_LIMITED', retryAfter: 7 });
  });
  await told.assignment.ended();
  expect(parsed(told.assignment.messages())).toEqual([
    {
      type: 'chunks',
      assignment: 'asg_1',
      seq: 1,
      chunks: [],
      is_last: true,
      error: { message: 'the cellar is full', code: 'RATE_LIMITED', retry_after: 7 },
    },
  ]);
  expect(told.port.failed).not.toHaveBeenCalled();

  const secret = new Error('a secret of the house');
  const hidden = assigned(async function* () {
    yield 'begun';
    throw secret;
  });
  await hidden.assignment.ended();
  expect(parsed(hidden.assignment.messages())).toMatchObject([
    { chunks: ['begun'], is_last: true, error: { message: 'the agent failed' } },
  ]);
  expect(hidden.port.failed).toHaveBeenCalledExactlyOnceWith(secret);
});

test('a chunk that no message takes fails the turn', async () => {
  const { assignment } = assigned(() => [
    { type: 'data', name: 'd', data: 'é'.repeat(140 * KB) } as const,
  ]);
  await assignment.ended();
  expect(parsed(assignment.messages())).toMatchObject([{ error: { code: 'PAYLOAD_TOO_LARGE' } }]);
});

test('cancelled, the handler hears it and cleans up, and nothing more is sent', async () => {
  const heard: string[] = [];
  const { port, assignment } = assigned(async function* ({ signal }) {
    try {
      yield 'begun';
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      heard.push('signal');
      yield 'too late';
      heard.push('never');
    } finally {
      heard.push('cleaned up');
    }
  });
  await settled(() => port.changed.mock.calls.length);
  assignment.cancel();
  await assignment.ended();
  expect(heard).toEqual(['signal', 'cleaned up']);
  expect(assignment.isDone).toBe(true);
  expect(assignment.messages()).toEqual([]);
  expect(port.over).toHaveBeenCalledOnce();
});

test('cancelled while it waits for room, it ends', async () => {
  let isCleanedUp = false;
  const { assignment } = assigned(function* () {
    try {
      while (true) yield 'x'.repeat(10_000);
    } finally {
      isCleanedUp = true;
    }
  });
  await settled(() => assignment.messages().length);
  assignment.cancel();
  await assignment.ended();
  expect([assignment.isDone, isCleanedUp]).toEqual([true, true]);
});
