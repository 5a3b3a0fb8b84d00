/** One socket for everything: bad networks, restarts, slow readers. */
import type { AgentStream, ConnectionState } from '@resonantgenesis/sdk';
import { expect, onTestFinished, test } from 'vitest';
import { clientOf, collect, proxyTo, upTo } from '../support/clients.js';

type Options = Parameters<ReturnType<typeof clientOf>['realtime']>[0];

async function socketOf(options: Parameters<typeof clientOf>[0] = {}, more: Options = {}) {
  const client = clientOf({ maxRetries: 1000, ...options });
  const realtime = await client.realtime(more);
  onTestFinished(() => realtime.close());
  return { client, realtime };
}

const positions = async (stream: AgentStream) =>
  (await collect(stream)).map((chunk) => chunk.position);

async function untilDone(stream: AgentStream): Promise<number[]> {
  const got: number[] = [];
  for await (const chunk of stream) {
    got.push(chunk.position);
    if (chunk.type === 'done') break;
  }
  return got;
}

test('a turn is started, streamed and cancelled', async () => {
  const { realtime } = await socketOf();
  const turn = await realtime.execute({ agentId: 'guide', goal: 'What is 6 * 7?' });
  expect([turn.turn, turn.sessionId?.startsWith('sess_')]).toEqual([1, true]);
  const chunks = await collect(turn);
  expect(chunks.at(-1)).toMatchObject({ type: 'done', status: 'success' });
  expect(chunks.map((chunk) => chunk.position)).toEqual(upTo(chunks.length));
  const context = { count: 100_000, pace: 200 };
  const slow = await realtime.execute({ agentId: 'paced', goal: 'n', context });
  const watch = await realtime.session(slow.sessionId ?? '', { resumeFrom: 0 });
  const iterator = slow[Symbol.asyncIterator]();
  await iterator.next();
  await slow.cancel();
  let last = (await iterator.next()).value;
  for (let next = await iterator.next(); !next.done; next = await iterator.next())
    last = next.value;
  expect(last).toMatchObject({ type: 'done', status: 'cancelled' });
  expect((await untilDone(watch)).at(-1)).toBe(last?.position);
});

test('turns come whole on a bad network', async () => {
  const proxy = await proxyTo();
  proxy.choose = (number) =>
    number % 3 === 2 ? 'refuse' : number > 40 ? 'pass' : 3000 + 400 * number;
  const states: ConnectionState[] = [];
  const { client, realtime } = await socketOf(
    { baseUrl: proxy.url },
    { bufferSize: 50, onState: (state) => states.push(state) },
  );
  const { sessionId } = await clientOf().sessions.create({
    agentId: 'paced',
    context: { count: 200 },
  });
  const watch = await realtime.session(sessionId, { resumeFrom: 0 });
  const turns = await Promise.all([
    realtime.execute({ agentId: 'paced', goal: 'a', context: { count: 150 } }),
    realtime.execute({ agentId: 'paced', goal: 'b', context: { count: 150 } }),
    realtime.execute({ sessionId, agentId: 'paced', goal: 'c' }),
  ]);
  const found = await Promise.all([...turns.map(positions), untilDone(watch)]);
  expect(found).toEqual([upTo(153), upTo(153), upTo(203), upTo(203)]);
  expect(new Set(turns.map((turn) => turn.sessionId)).size).toBe(3);
  expect((await client.sessions.get(sessionId)).turns).toBe(1);
  expect(proxy.connections).toBeGreaterThan(3);
  expect(states).toContain('reconnecting');
});

test('events of channels arrive beside chunks', async () => {
  const { realtime } = await socketOf();
  const subscription = await realtime.subscribe({
    channels: ['sessions', 'billing'],
    filters: { agent_id: 'silent' },
  });
  expect(subscription.cursor).toMatch(/^c_/);
  const turn = await realtime.execute({ agentId: 'silent', goal: 'x', context: { seconds: 0 } });
  await positions(turn);
  const seen: string[] = [];
  for await (const event of subscription) {
    seen.push(event.type);
    expect(event.data.session_id).toBe(turn.sessionId);
    if (event.type === 'billing.usage.recorded') break;
  }
  expect(seen[0]).toBe('session.created');
  expect(seen).toContain('session.completed');
});

test('a slow reader loses nothing and holds up nobody', async () => {
  const { client, realtime } = await socketOf({}, { bufferSize: 8 });
  const slow = await realtime.subscribe({ channels: 'app', events: 'app.slow.*' });
  const quick = await realtime.execute({ agentId: 'paced', goal: 'n', context: { count: 50 } });
  for (let n = 0; n < 40; n += 1) await client.events.publish('app.slow.x', { n });
  expect(await positions(quick)).toEqual(upTo(53));
  const seen: unknown[] = [];
  for await (const event of slow) if (seen.push(event.data.n) === 40) break;
  expect(seen).toEqual(Array.from({ length: 40 }, (_, n) => n));
});

test('what the server refuses is thrown, and the socket stays', async () => {
  const { realtime } = await socketOf();
  await expect(realtime.session('sess_none')).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
  await expect(realtime.execute({ agentId: 'none', goal: 'x' })).rejects.toMatchObject({
    code: 'AGENT_NOT_FOUND',
  });
  await expect(realtime.subscribe({ channels: [] })).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
  });
  const first = await realtime.subscribe({ channels: 'app' });
  await expect(realtime.subscribe({ channels: ['app'] })).rejects.toThrow('subscribed already');
  await first.close();
  await (await realtime.subscribe({ channels: 'app' })).close();
  const failing = await realtime.execute({ agentId: 'failing', goal: 'x' });
  await expect(positions(failing)).rejects.toMatchObject({ code: 'AGENT_FAILED' });
  expect(realtime.state).toBe('open');
});

test('a wrong credential ends it for all; closing ends it for those who read', async () => {
  const { realtime } = await socketOf({ apiKey: 'rg_live_wrong' });
  const [one, two] = await Promise.allSettled([
    realtime.subscribe({ channels: 'app' }),
    realtime.execute({ agentId: 'guide', goal: 'x' }),
  ]);
  expect([one, two]).toMatchObject([
    { reason: { code: 'UNAUTHENTICATED' } },
    { reason: { code: 'UNAUTHENTICATED' } },
  ]);
  expect(realtime.state).toBe('closed');
  const other = await socketOf();
  const subscription = await other.realtime.subscribe({ channels: 'app' });
  const reading = collect(subscription);
  await other.realtime.close();
  await expect(reading).rejects.toMatchObject({ code: 'CONNECTION_LOST', retryable: false });
});

test('a signal ends one stream; breaking out of the loop as well', async () => {
  const { realtime } = await socketOf();
  const control = new AbortController();
  const states: ConnectionState[] = [];
  const context = { count: 100, pace: 500 };
  const turn = await realtime.execute(
    { agentId: 'paced', goal: 'n', context },
    { signal: control.signal, onState: (state) => states.push(state) },
  );
  const reason = new Error('enough');
  const read = async () => {
    for await (const chunk of turn) if (chunk.position === 5) control.abort(reason);
  };
  await expect(read()).rejects.toBe(reason);
  expect(states.slice(-2)).toEqual(['open', 'closed']);
  const rest = await realtime.session(turn.sessionId ?? '', { resumeFrom: turn.position });
  expect((await untilDone(rest))[0]).toBe(turn.position + 1);
  expect(rest.state).toBe('closed');
});
