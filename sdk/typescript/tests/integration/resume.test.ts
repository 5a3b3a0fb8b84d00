/** Streams over networks that break, hold back, and lose answers. */
import type { ConnectionState } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, collect, proxyTo, upTo } from '../support/clients.js';

test('a stream goes on over every cut, each chunk once', async () => {
  const proxy = await proxyTo();
  proxy.choose = (number) => (number < 6 ? 900 + 300 * number : 'pass');
  const client = clientOf({ baseUrl: proxy.url });
  const states: ConnectionState[] = [];
  const stream = await client.sessions.executeStream(
    { agentId: 'paced', goal: 'n', context: { count: 120 } },
    { onState: (state) => states.push(state) },
  );
  const chunks = await collect(stream);
  expect(chunks.map((chunk) => chunk.position)).toEqual(upTo(123));
  expect(chunks.at(-1)).toMatchObject({ type: 'done', status: 'success', turn: 1 });
  expect(proxy.connections).toBeGreaterThan(3);
  expect(states.slice(0, 4)).toEqual(['connecting', 'open', 'reconnecting', 'open']);
  expect([states.at(-1), stream.state, stream.position]).toEqual(['closed', 'closed', 123]);
});

test('an execute whose answer is lost starts one turn', async () => {
  const proxy = await proxyTo();
  // The head of the answer has not come when the connection is cut.
  proxy.choose = (number) => (number === 0 ? 40 : 'pass');
  const client = clientOf({ baseUrl: proxy.url });
  const session = await clientOf().sessions.create({ agentId: 'paced' });
  const chunks = await collect(
    await client.sessions.executeStream({ sessionId: session.sessionId, goal: 'once' }),
  );
  expect(chunks.at(-1)).toMatchObject({ type: 'done', turn: 1 });
  expect((await session.refresh()).turns).toBe(1);
  expect(proxy.connections).toBeGreaterThan(1);
});

test('behind something that collects streams it is polled', async () => {
  const proxy = await proxyTo();
  proxy.choose = () => 'stall';
  const client = clientOf({ baseUrl: proxy.url });
  const states: ConnectionState[] = [];
  const stream = await client.sessions.executeStream(
    { agentId: 'paced', goal: 'n', context: { count: 30 } },
    { onState: (state) => states.push(state) },
  );
  const chunks = await collect(stream);
  expect(chunks.map((chunk) => chunk.position)).toEqual(upTo(33));
  expect(states).toContain('polling');
});

test('leaving the loop ends the connection, not the turn; joining goes on from there', async () => {
  const client = clientOf();
  const stream = await client.sessions.executeStream({
    agentId: 'paced',
    goal: 'n',
    context: { count: 40, pace: 400 },
  });
  for await (const chunk of stream) if (chunk.position === 10) break;
  expect(stream.state).toBe('closed');
  const rest = await client.sessions.join(stream.sessionId ?? '', { resumeFrom: stream.position });
  expect((await collect(rest)).map((chunk) => chunk.position)).toEqual(upTo(43, 11));
});

test('cancel ends the turn, and the stream with it', async () => {
  const client = clientOf();
  const stream = await client.sessions.executeStream({
    agentId: 'paced',
    goal: 'n',
    context: { count: 100_000, pace: 200 },
  });
  const types: string[] = [];
  for await (const chunk of stream) {
    types.push(chunk.type);
    if (types.length === 3) await stream.cancel();
    if (chunk.type === 'done') expect(chunk.status).toBe('cancelled');
  }
  expect(types.at(-1)).toBe('done');
});

test('a signal ends the connection with its reason, not the turn', async () => {
  const client = clientOf();
  const control = new AbortController();
  const stream = await client.sessions.executeStream(
    { agentId: 'paced', goal: 'n', context: { count: 100_000, pace: 200 } },
    { signal: control.signal },
  );
  const reason = new Error('enough');
  const read = async () => {
    for await (const chunk of stream) if (chunk.position === 5) control.abort(reason);
  };
  await expect(read()).rejects.toBe(reason);
  const session = await client.sessions.get(stream.sessionId ?? '');
  expect(session.status).toBe('running');
  await session.cancel();
});

test('a stream of the platform has the same chunks', async () => {
  const client = clientOf();
  const stream = await client.sessions.executeStream({
    agentId: 'paced',
    goal: 'n',
    context: { count: 10 },
  });
  const reader = stream.toReadableStream().getReader();
  const got: number[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    got.push(value.position);
  }
  expect(got).toEqual(upTo(13));
  expect(() => stream[Symbol.asyncIterator]()).toThrow('a stream can be iterated once');
});
