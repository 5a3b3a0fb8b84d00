/** Calls that do not stream. */
import { NotFound, SessionBusy } from '@resonantgenesis/sdk';
import { expect, inject, test } from 'vitest';
import { clientOf, collect, proxyTo } from '../support/clients.js';

test('a session: created, used for turns, looked up, listed, deleted', async () => {
  const { sessions } = clientOf();
  const session = await sessions.create({
    agentId: 'guide',
    context: { user_name: 'Alice' },
    subject: 'alice',
    metadata: { theme: 'dark' },
  });
  expect(session).toMatchObject({
    agentId: 'guide',
    status: 'created',
    turns: 0,
    subject: 'alice',
  });
  const first = await session.execute({ goal: 'What is 2 + 3?' });
  expect(first).toMatchObject({ turn: 1, status: 'success', sessionId: session.sessionId });
  expect(first.output).toContain('2 + 3 = 5');
  expect(first.usage.durationMs).toBeTypeOf('number');
  const chunks = await collect(await session.executeStream({ goal: 'What is 7 - 1?' }));
  expect(chunks[0]).toMatchObject({ type: 'step', turn: 2, agentId: 'guide', status: 'started' });
  await session.refresh();
  expect(session).toMatchObject({
    turns: 2,
    turn: 2,
    status: 'completed',
    context: { user_name: 'Alice' },
  });
  expect((await session.steps()).map((step) => step.turn)).toContain(2);
  const second = await sessions.steps(session.sessionId, { turn: 2 });
  expect(new Set(second.map((step) => step.turn))).toEqual(new Set([2]));
  const listed = await sessions.list({ agentId: 'guide', limit: 100 });
  expect([...listed].map((one) => one.sessionId)).toContain(session.sessionId);
  const again = await collect(await session.join({ turn: 1, compact: true }));
  expect(again.at(-1)).toMatchObject({ type: 'done', turn: 1, output: first.output });
  await session.delete();
  await expect(sessions.get(session.sessionId)).rejects.toBeInstanceOf(NotFound);
});

test('lists go on page by page', async () => {
  const { sessions } = clientOf();
  const made = [];
  for (let count = 0; count < 3; count += 1) {
    made.push((await sessions.create({ agentId: 'silent' })).sessionId);
  }
  const found: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await sessions.list({ agentId: 'silent', limit: 2, cursor });
    expect(page.data.length).toBeLessThanOrEqual(2);
    found.push(...page.data.map((one) => one.sessionId));
    cursor = page.nextCursor ?? undefined;
  } while (cursor);
  expect(found).toEqual(expect.arrayContaining(made));
});

test('a search finds what people remember of a session', async () => {
  const { sessions } = clientOf();
  const title = `Grüße ${crypto.randomUUID()}`;
  const made = await sessions.create({ agentId: 'guide', metadata: { title } });
  const find = async (search: string) => (await sessions.list({ search })).data;
  await expect(find(title.toUpperCase())).resolves.toMatchObject([{ sessionId: made.sessionId }]);
  await expect(find(made.sessionId)).resolves.toMatchObject([{ metadata: { title } }]);
  await expect(find(`${title} count`)).resolves.toEqual([]);
  await made.execute({ goal: 'count to 1' });
  await expect(find(`COUNT ${title}`)).resolves.toMatchObject([{ firstGoal: 'count to 1' }]);
  await expect(find('x'.repeat(201))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
});

test('a turn that outlasts the answer is followed to its end', async () => {
  const { sessions } = clientOf();
  const context = { count: 40, pace: 80 };
  const result = await sessions.execute({ agentId: 'paced', goal: 'n', context });
  expect(result).toMatchObject({ turn: 1, status: 'success', steps: 1 });
  expect(result.output.match(/n-/g)).toHaveLength(40);
});

test('a turn that failed is thrown, or told', async () => {
  const { sessions } = clientOf();
  const params = { agentId: 'failing', goal: 'help' };
  await expect(sessions.execute(params)).rejects.toMatchObject({
    code: 'AGENT_FAILED',
    retryable: false,
    sessionId: expect.stringMatching(/^sess_/),
  });
  const told = await sessions.execute(params, { raiseOnError: false });
  expect(told).toMatchObject({ status: 'failed', error: { message: 'cannot help' } });
  const chunks = await collect(await sessions.executeStream({ ...params, raiseOnError: false }));
  expect(chunks.slice(-2)).toMatchObject([
    { type: 'error', code: 'AGENT_FAILED', retryable: false },
    { type: 'done', status: 'failed' },
  ]);
});

test('a busy session says so; a key names one turn', async () => {
  const { sessions } = clientOf();
  const session = await sessions.create({
    agentId: 'paced',
    context: { count: 100_000, pace: 50 },
  });
  const running = await session.executeStream({ goal: 'long' });
  await expect(session.execute({ goal: 'second' })).rejects.toBeInstanceOf(SessionBusy);
  await sessions.cancel(session.sessionId);
  expect((await collect(running)).at(-1)).toMatchObject({ status: 'cancelled' });
  const params = { agentId: 'guide', goal: 'What is 1 + 1?', idempotencyKey: crypto.randomUUID() };
  const [one, two] = await Promise.all([sessions.execute(params), sessions.execute(params)]);
  expect(two.sessionId).toBe(one.sessionId);
});

test('a turn whose answer never came is cancelled by its key', async () => {
  const { sessions } = clientOf();
  const idempotencyKey = crypto.randomUUID();
  const context = { count: 100_000, pace: 50 };
  const stream = await sessions.executeStream({
    agentId: 'paced',
    goal: 'n',
    context,
    idempotencyKey,
  });
  await sessions.cancel({ idempotencyKey });
  expect((await collect(stream)).at(-1)).toMatchObject({ type: 'done', status: 'cancelled' });
});

test('agents are made, changed and deleted', async () => {
  const { agents } = clientOf();
  const made = await agents.create({ name: 'Mine', engine: 'guide', defaults: { max_steps: 3 } });
  expect(made).toMatchObject({ name: 'Mine', engine: 'guide', source: 'api' });
  const changed = await agents.update(made.id, { name: 'Yours', instructions: 'Be brief.' });
  expect(changed).toMatchObject({ name: 'Yours', instructions: 'Be brief.' });
  expect((await agents.list({ limit: 100 })).data.map((one) => one.id)).toContain(made.id);
  expect((await agents.get(made.id)).name).toBe('Yours');
  await agents.delete(made.id);
  await expect(agents.get(made.id)).rejects.toMatchObject({ code: 'AGENT_NOT_FOUND', status: 404 });
});

test('a credential that is missing or wrong is told by the first call', async () => {
  const { sessions } = clientOf({ apiKey: '' });
  await expect(sessions.list()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
  const wrong = clientOf({ apiKey: 'rg_live_wrong' });
  await expect(wrong.sessions.executeStream({ agentId: 'guide', goal: 'x' })).rejects.toMatchObject(
    {
      code: 'UNAUTHENTICATED',
      status: 401,
    },
  );
  const nowhere = clientOf({ baseUrl: 'ftp://host' });
  await expect(nowhere.sessions.list()).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
});

test('bad input names its fields', async () => {
  const { sessions } = clientOf();
  await expect(sessions.executeStream({ agentId: 'guide', goal: '' })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    status: 422,
    requestId: expect.any(String),
    details: { fields: expect.anything() },
  });
  const resume = { agentId: 'guide', goal: 'x', resumeFrom: 3 };
  await expect(sessions.executeStream(resume)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  await expect(sessions.join('', {})).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  await expect(sessions.join('s', { resumeFrom: Number.NaN })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
});

test('a base URL may end in /v1, have a prefix, or come from the surroundings', async () => {
  const url = inject('serverUrl');
  for (const baseUrl of [`${url}/v1`, `${url}/`, `${url}/api/v1/`]) {
    await expect(clientOf({ baseUrl }).agents.get('guide')).resolves.toMatchObject({ id: 'guide' });
  }
  const world = globalThis as { RESONANTGENESIS_BASE_URL?: string };
  world.RESONANTGENESIS_BASE_URL = url;
  expect(clientOf({ baseUrl: undefined }).baseUrl).toBe(url);
  process.env.RESONANTGENESIS_BASE_URL = 'http://127.0.0.1:1/v1';
  expect(clientOf({ baseUrl: undefined }).baseUrl).toBe('http://127.0.0.1:1');
  process.env.RESONANTGENESIS_BASE_URL = '';
  delete world.RESONANTGENESIS_BASE_URL;
  expect(clientOf({ baseUrl: undefined }).baseUrl).toBe('https://api.resonantgenesis.xyz');
});

test('a call is sent again when the network breaks, and makes one thing', async () => {
  const proxy = await proxyTo();
  proxy.choose = (number) => (number === 0 ? 30 : 'pass');
  const { sessions } = clientOf({ baseUrl: proxy.url });
  const subject = crypto.randomUUID();
  const made = await sessions.create({ agentId: 'silent', subject });
  const all = await sessions.list({ agentId: 'silent', limit: 200 });
  expect(all.data.filter((one) => one.subject === subject).map((one) => one.sessionId)).toEqual([
    made.sessionId,
  ]);
});

test('a server that cannot be reached is a lost connection, after the retries', async () => {
  const proxy = await proxyTo();
  proxy.choose = () => 'refuse';
  const { sessions } = clientOf({ baseUrl: proxy.url, maxRetries: 2 });
  await expect(sessions.list()).rejects.toMatchObject({ code: 'CONNECTION_LOST', retryable: true });
  expect(proxy.connections).toBe(3);
  await expect(sessions.executeStream({ agentId: 'guide', goal: 'x' })).rejects.toMatchObject({
    name: 'ConnectionLost',
  });
  expect(proxy.connections).toBe(6);
});
