/** A turn in a worker, without a server: what waits, what is sent again, what a handler may do. */
import { expect, test, vi } from 'vitest';
import { Assignment } from '../../src/worker/assignment.js';
import { AgentError, type Handler } from '../../src/worker/index.js';

const RAW = { goal: 'x', session_id: 's', turn: 1, agent_id: 'a' };
const KB = 1024;

function assigned(handler: Handler, raw: object = RAW) {
  const port = {
    handler,
    window: 64 * KB,
    largest: 256 * KB,
    changed: vi.fn(),
    over: vi.fn(),
    failed: vi.fn(),
  };
  return { port, assignment: new Assignment('asg_1', { ...raw }, port) };
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

const answered = (callId: string, payload: unknown, more = {}) => ({
  [callId]: { call_id: callId, status: 'answered', approved: null, payload, reason: '', ...more },
});
const MARK = 'resonantgenesis.run_again';

test('a handler that awaits its asks runs again, and what was sent before is left out', async () => {
  let isCleanedUp = false;
  const handler: Handler = async function* (turn) {
    try {
      yield 'Looking. ';
      yield { type: 'keep', value: { seen: 1 } };
      const pay = { tool: 'pay', args: { sum: 5 }, callId: 'pay' };
      yield { type: 'tool_call', ...pay };
      const [decided, name] = await Promise.all([
        turn.approve(pay, { message: 'Pay?' }),
        turn.ask('Name?', { schema: { type: 'string' } }),
      ]);
      yield `${decided.ok} ${name} `;
      yield `${await turn.ask('More?')}`;
    } finally {
      isCleanedUp = true;
    }
  };
  const first = assigned(handler);
  await first.assignment.ended();
  const asks = [
    {
      type: 'ask',
      kind: 'approval',
      tool: 'pay',
      args: { sum: 5 },
      call_id: 'pay',
      message: 'Pay?',
    },
    {
      type: 'ask',
      kind: 'input',
      message: 'Name?',
      schema: { type: 'string' },
      call_id: 'ask_1_1',
    },
  ];
  expect(parsed(first.assignment.messages())).toEqual([
    {
      type: 'chunks',
      assignment: 'asg_1',
      seq: 1,
      is_last: true,
      chunks: [
        'Looking. ',
        { type: 'keep', value: { seen: 1 } },
        { type: 'tool_call', tool: 'pay', args: { sum: 5 }, call_id: 'pay' },
        { type: 'keep', value: { [MARK]: { seen: 1 } } },
        ...asks,
      ],
    },
  ]);
  expect([isCleanedUp, first.port.failed.mock.calls]).toEqual([true, []]);

  const kept = { [MARK]: { seen: 1 } };
  const answers = {
    ...answered('pay', null, { approved: true }),
    ...answered('ask_1_1', 'Ada'),
  };
  const second = assigned(handler, { ...RAW, kept, answers });
  await second.assignment.ended();
  expect(textsOf(second.assignment.messages())).toEqual([
    'true Ada ',
    { type: 'keep', value: kept },
    { type: 'ask', kind: 'input', message: 'More?', call_id: 'ask_1_2' },
  ]);

  const all = { ...answers, ...answered('ask_1_2', 'no') };
  const third = assigned(handler, { ...RAW, kept, answers: all });
  await third.assignment.ended();
  expect(textsOf(third.assignment.messages())).toEqual(['no']);
});

test('an ask that nobody answers is an error that the client may know', async () => {
  const answers = answered('ask_1_1', null, { approved: false, reason: 'not today' });
  const handler: Handler = async ({ ask }) => String(await ask('Well?'));
  const { assignment } = assigned(handler, { ...RAW, kept: { [MARK]: null }, answers });
  await assignment.ended();
  expect(parsed(assignment.messages())).toMatchObject([
    { error: { message: 'denied: not today', code: 'AGENT_FAILED' } },
  ]);
});

test('a handler that does not ask again as it had before fails', async () => {
  const raw = { ...RAW, kept: { [MARK]: null }, answers: answered('ask_1_1', 'Ada') };
  const { assignment } = assigned(() => 'done', raw);
  await assignment.ended();
  expect(parsed(assignment.messages())).toMatchObject([
    { chunks: [], error: { message: expect.stringContaining('did not ask as it had before') } },
  ]);
});

test('cancelled while it asks, a handler ends', async () => {
  let isCleanedUp = false;
  const { assignment, port } = assigned(async ({ ask }) => {
    try {
      return String(await ask('Well?'));
    } finally {
      isCleanedUp = true;
    }
  });
  await settled(() => 0);
  assignment.cancel();
  await assignment.ended();
  expect([isCleanedUp, assignment.messages(), port.failed.mock.calls]).toEqual([true, [], []]);
});
