/** Workers in TypeScript, with the server: what they take and give, and what survives what. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AgentFailed,
  AuthenticationError,
  type Chunk,
  Conflict,
  NotFound,
  RateLimited,
  ResonantGenesis,
} from '@resonantgenesis/sdk';
import {
  AgentError,
  type Handler,
  type ServeOptions,
  type Turn,
} from '@resonantgenesis/sdk/worker';
import { expect, onTestFinished, test, vi } from 'vitest';
import { clientOf, collect, proxyTo, upTo } from '../support/clients.js';
import { KEY } from '../support/server.js';
import { buildWorker, WorkerProcess } from '../support/worker-process.js';

const PATIENCE = { timeout: 30_000, interval: 10 };

/** A worker that is gone with the test. */
async function served(
  client: ResonantGenesis,
  agentId: string,
  handler: Handler,
  options: ServeOptions = {},
) {
  const worker = await client.agents.serve(agentId, handler, { drainSeconds: 5, ...options });
  onTestFinished(() => worker.stop());
  return worker;
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function* counting({ goal, context }: Turn) {
  for (let number = 1; number <= Number(context.count); number += 1) {
    if (context.pace) await pause(1000 / Number(context.pace));
    yield `${goal}-${number} `;
  }
}

const counted = (goal: string, count: number) =>
  upTo(count)
    .map((number) => `${goal}-${number} `)
    .join('');

test('a handler gets the turn and gives every kind of chunk', async () => {
  const client = clientOf();
  await served(client, 'ts-telling', async function* (turn) {
    const { context, metadata, subject } = turn;
    const history = turn.history.map(({ goal, output }) => [goal, output]);
    yield { type: 'step', name: 'look' };
    yield { type: 'reasoning', content: 'Hm.' };
    yield { type: 'tool_call', tool: 'look', args: { some_key: turn.goal }, callId: 'c1' };
    const result = { context, metadata, subject, history };
    yield { type: 'tool_result', tool: 'look', result, callId: 'c1' };
    yield { type: 'source', url: 'https://example.com/', title: 'Example' };
    yield { type: 'data', name: 'sky', id: 'd1', data: { someKey: 1 } };
    yield { type: 'text', content: 'not mine ', agentId: 'helper', parent: 'c1' };
    yield { type: 'usage', inputTokens: 3, outputTokens: 4 };
    yield { type: 'step', name: 'look', status: 'completed', finishReason: 'stop' };
    yield `turn ${turn.turn}`;
  });
  const { sessionId } = await client.sessions.execute({
    agentId: 'ts-telling',
    goal: 'one',
    context: { a: [1] },
  });
  const chunks = await collect(
    await client.sessions.executeStream({ sessionId, goal: 'two', metadata: { m: 1 } }),
  );
  expect(chunks.map(({ type }) => type).join(' ')).toBe(
    'step reasoning tool_call tool_result source data text step text done',
  );
  expect(chunks).toMatchObject([
    { name: 'look', status: 'started' },
    { content: 'Hm.' },
    { args: { some_key: 'two' }, callId: 'c1' },
    {
      isError: false,
      result: {
        context: { a: [1] },
        metadata: { m: 1 },
        subject: null,
        history: [['one', 'turn 1']],
      },
    },
    { url: 'https://example.com/', title: 'Example' },
    { name: 'sky', id: 'd1', data: { someKey: 1 } },
    { content: 'not mine ', agentId: 'helper', parent: 'c1' },
    { finishReason: 'stop' },
    { content: 'turn 2' },
    { output: 'turn 2', usage: { inputTokens: 3, outputTokens: 4 } },
  ]);
});

test('a turn asks and goes on in another worker, with what it kept', async () => {
  const client = clientOf();
  const asking = (name: string): Handler =>
    async function* ({ answers, kept, soFar }) {
      if (!answers.pay) {
        yield 'asking ';
        yield { type: 'keep', value: { asked_by: name } };
        yield { type: 'tool_call', tool: 'pay', args: {}, callId: 'pay' };
        yield { type: 'ask', kind: 'approval', tool: 'pay', args: {}, callId: 'pay' };
        yield { type: 'ask', message: 'Why?', schema: { type: 'string' }, callId: 'why' };
        return;
      }
      yield JSON.stringify([answers.pay.ok, answers.why?.payload, kept, soFar[0]?.text, name]);
    };
  const first = await served(client, 'ts-asking', asking('first'));
  const stream = await client.sessions.executeStream({ agentId: 'ts-asking', goal: 'x' });
  expect((await collect(stream)).at(-1)).toMatchObject({ type: 'waiting' });
  await first.stop();
  await served(client, 'ts-asking', asking('second'));
  const session = await client.sessions.get(stream.sessionId ?? '');
  await session.input('why', { payload: 'lost' });
  await session.input('pay', { approved: true });
  const rest = await collect(await session.join({ resumeFrom: stream.position }));
  expect(rest.filter(({ type }) => type === 'text')).toMatchObject([
    { content: '[true,"lost",{"asked_by":"first"},"asking ","second"]' },
  ]);
});

test('a handler awaits what it asks, and is run again in another worker', async () => {
  const client = clientOf();
  const asking = (name: string): Handler =>
    async function* (turn) {
      yield 'Looking. ';
      const call = { tool: 'pay', args: {}, callId: 'pay' };
      yield { type: 'tool_call', ...call };
      if (!(await turn.approve(call)).ok) return;
      yield { type: 'tool_result', tool: 'pay', result: 'paid', callId: 'pay' };
      yield `Paid for ${await turn.ask('Whose?', { schema: { type: 'string' } })} by ${name}.`;
    };
  const first = await served(client, 'ts-awaiting', asking('first'));
  const turn = await client.sessions.execute({ agentId: 'ts-awaiting', goal: 'x' });
  expect(turn.waiting).toMatchObject([{ callId: 'pay', kind: 'approval', tool: 'pay' }]);
  await first.stop();
  await served(client, 'ts-awaiting', asking('second'));
  const follow = { resumeFrom: turn.position, follow: true };
  const types: string[] = [];
  await client.sessions.input(turn.sessionId, 'pay', { approved: true });
  for await (const chunk of await client.sessions.join(turn.sessionId, follow)) {
    types.push(chunk.type);
    if (chunk.type === 'input_required') {
      await client.sessions.input(turn.sessionId, chunk.callId, { payload: 'Ada' });
    }
    if (chunk.type !== 'done') continue;
    expect(chunk.output).toBe('Looking. Paid for Ada by second.');
    break;
  }
  expect(types.filter((type) => type !== 'step').join(' ')).toBe(
    'input tool_result input_required waiting input text done',
  );
});

test('a failure says what the handler meant for clients, and the rest stays in the log', async () => {
  const logger = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() };
  const client = clientOf({ logger });
  await served(client, 'ts-failing', async function* ({ goal }) {
    if (goal === 'told') throw new AgentError('full', { code: 'RATE_LIMITED', retryAfter: 7 });
    if (goal === 'bad') yield { type: 'nonsense' } as never;
    throw new Error('a secret of the house');
  });
  const fails = (goal: string) =>
    client.sessions.execute({ agentId: 'ts-failing', goal }).catch((error) => error);
  expect(await fails('told')).toBeInstanceOf(RateLimited);
  expect(await fails('told')).toMatchObject({ message: 'full', retryable: true });
  for (const goal of ['hidden', 'bad']) {
    const error = await fails(goal);
    expect(error).toBeInstanceOf(AgentFailed);
    expect(error.message).toBe('the agent failed');
  }
  const said = logger.error.mock.calls.join();
  expect(said).toContain('a secret of the house');
  expect(said).toContain('a handler yields text');
});

test('a turn that is cancelled aborts the signal, and the next one has its place', async () => {
  const client = clientOf();
  const heard: string[] = [];
  const handler: Handler = async function* ({ goal, signal }) {
    yield 'begun';
    if (goal === 'quick') return;
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    heard.push(goal);
  };
  await served(client, 'ts-long', handler, { capacity: 1 });
  const stream = await client.sessions.executeStream({ agentId: 'ts-long', goal: 'long' });
  const statuses: unknown[] = [];
  for await (const chunk of stream) {
    if (chunk.type === 'text') await stream.cancel();
    if (chunk.type === 'done') statuses.push(chunk.status);
  }
  expect(statuses).toEqual(['cancelled']);
  const next = await client.sessions.execute({ agentId: 'ts-long', goal: 'quick' });
  expect([next.output, heard]).toEqual(['begun', ['long']]);
});

test('cuts of the network lose nothing and double nothing', async () => {
  const proxy = await proxyTo();
  await served(clientOf({ baseUrl: proxy.url, logLevel: 'error' }), 'ts-cut', counting);
  const stream = await clientOf().sessions.executeStream({
    agentId: 'ts-cut',
    goal: 'n',
    context: { count: 400, pace: 800 },
  });
  let text = '';
  let count = 0;
  for await (const chunk of stream) {
    if (chunk.type !== 'text') continue;
    text += chunk.content;
    count += 1;
    if (count % 100 === 0) proxy.cut();
  }
  expect(text).toBe(counted('n', 400));
  expect(proxy.connections).toBeGreaterThan(3);
});

test('two workers share 40 turns, and none is lost or doubled', async () => {
  const client = clientOf();
  const taken: string[][] = [[], []];
  for (const goals of taken) {
    const handler: Handler = (turn) => {
      goals.push(turn.goal);
      return counting(turn);
    };
    await served(client, 'ts-shared', handler, { capacity: 5 });
  }
  const context = { count: 20, pace: 400 };
  const results = await Promise.all(
    upTo(40).map((number) =>
      client.sessions.execute({ agentId: 'ts-shared', goal: `t${number}`, context }),
    ),
  );
  for (const [at, { status, output }] of results.entries()) {
    expect([status, output]).toEqual(['success', counted(`t${at + 1}`, 20)]);
  }
  expect(taken.flat().sort()).toEqual(
    upTo(40)
      .map((number) => `t${number}`)
      .sort(),
  );
  for (const goals of taken) expect(goals.length).toBeGreaterThan(10);
});

test('a worker that is stopped ends what it has, and takes nothing more', async () => {
  const client = clientOf();
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const first = await served(client, 'ts-drained', async function* () {
    yield 'begun ';
    await held;
    yield 'ended';
  });
  const chunks: Chunk[] = [];
  const stream = await client.sessions.executeStream({ agentId: 'ts-drained', goal: 'x' });
  let stopped: Promise<void> | undefined;
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (chunk.type !== 'text' || stopped) continue;
    stopped = first.stop();
    await served(client, 'ts-drained', () => 'by the second');
    const next = await client.sessions.execute({ agentId: 'ts-drained', goal: 'y' });
    expect(next.output).toBe('by the second');
    release();
  }
  await stopped;
  expect(chunks.at(-1)).toMatchObject({ type: 'done', status: 'success', output: 'begun ended' });
});

test('what stops a worker is told, whatever the WebSocket says of it', async () => {
  const owner = clientOf();
  const { baseUrl } = owner;
  const answer = await fetch(`${baseUrl}/v1/keys`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'workers', scopes: ['agents:serve'] }),
  });
  const { key } = (await answer.json()) as { key: string };
  const worker = (apiKey: string) => new ResonantGenesis({ apiKey, baseUrl }).agents;
  const nothing = () => 'x';
  await expect(worker(key).serve('nobody', nothing)).rejects.toBeInstanceOf(NotFound);
  await expect(worker(key).serve('guide', nothing)).rejects.toBeInstanceOf(Conflict);
  await expect(worker('rg_wrong').serve('guide', nothing)).rejects.toBeInstanceOf(
    AuthenticationError,
  );
  await owner.agents.create({ id: 'ts-keyed', name: 'Keyed', engine: 'worker' });
  const serving = await worker(key).serve('ts-keyed', () => 'served');
  const { output } = await owner.sessions.execute({ agentId: 'ts-keyed', goal: 'x' });
  expect(output).toBe('served');
  await serving.stop();
});

test('an agent of the engine http shows its secret once', async () => {
  const { agents } = clientOf();
  const made = await agents.create({
    id: 'ts-remote',
    name: 'Remote',
    engine: 'http',
    url: 'https://agent.example/turns',
  });
  expect(made).toMatchObject({ url: 'https://agent.example/turns' });
  expect(made.secret).toMatch(/^whsec_/);
  expect((await agents.get('ts-remote')).secret).toBeUndefined();
  const renewed = await agents.update('ts-remote', { secret: null });
  expect(renewed.secret).not.toBe(made.secret);
});

test('a killed worker: before its first chunk another gets the turn, after it the turn is lost', async () => {
  const { file, remove } = await buildWorker();
  const folder = await mkdtemp(join(tmpdir(), 'rg-worker-'));
  const workers: WorkerProcess[] = [];
  onTestFinished(async () => {
    for (const worker of workers) await worker.stop('SIGKILL');
    await remove();
    await rm(folder, { recursive: true, force: true });
  });
  const client = clientOf();
  const start = async (handler: string) => {
    const worker = await WorkerProcess.start(file, client.baseUrl, handler);
    workers.push(worker);
    return worker;
  };
  const context = { took: join(folder, 'took'), hold: join(folder, 'hold') };
  const pids = async () => (await readFile(context.took, 'utf8').catch(() => '')).split('\n');

  const first = await start('late');
  const turn = client.sessions.execute({ agentId: 'served', goal: 'x', context });
  await vi.waitFor(async () => expect(await pids()).toEqual([`${first.pid}`, '']), PATIENCE);
  const second = await start('late');
  await first.stop('SIGKILL');
  const both = [`${first.pid}`, `${second.pid}`, ''];
  await vi.waitFor(async () => expect(await pids()).toEqual(both), PATIENCE);
  await writeFile(context.hold, '');
  expect((await turn).output).toBe(`by ${second.pid}`);
  expect(await second.stop('SIGTERM')).toBe(0);

  await rm(context.hold);
  const third = await start('early');
  const stream = await client.sessions.executeStream({ agentId: 'served', goal: 'y', context });
  let text = '';
  const lost = await (async () => {
    for await (const chunk of stream) {
      if (chunk.type !== 'text') continue;
      text += chunk.content;
      await start('early'); // which must not get it
      await third.stop('SIGKILL');
    }
  })().catch((error) => error);
  expect(lost).toMatchObject({ code: 'RUNNER_LOST', retryable: true });
  expect([text, await pids()]).toEqual(['begun ', [...both.slice(0, 2), `${third.pid}`, '']]);
});
