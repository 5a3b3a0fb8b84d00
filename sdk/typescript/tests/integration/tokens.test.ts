/** Client tokens: what they may do, and what happens when they end. */
import { AuthenticationError } from '@resonantgenesis/sdk';
import { expect, onTestFinished, test } from 'vitest';
import { clientOf, collect, upTo } from '../support/clients.js';

const owner = () => clientOf();

function freshTokens(ttlSeconds: number) {
  const { tokens } = owner();
  const made: string[] = [];
  const getToken = async () => {
    const { token } = await tokens.create({
      scopes: ['sessions:read', 'sessions:write', 'events:read'],
      subject: 'ann',
      ttlSeconds,
    });
    made.push(token);
    return token;
  };
  return { getToken, made };
}

test('a token sees its subject only', async () => {
  const token = await owner().tokens.create({
    scopes: ['sessions:read', 'sessions:write'],
    subject: 'ann',
  });
  expect(token).toMatchObject({ subject: 'ann', sessionId: null, scopes: expect.any(Array) });
  const ann = clientOf({ token: token.token });
  const mine = await ann.sessions.create({ agentId: 'guide' });
  expect(mine.subject).toBe('ann');
  const bobs = await owner().sessions.create({ agentId: 'guide', subject: 'bob' });
  await expect(ann.sessions.get(bobs.sessionId)).rejects.toMatchObject({
    code: 'SESSION_NOT_FOUND',
  });
  await expect(ann.events.publish('app.x')).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

test('the nodes are for the bootstrap key alone', async () => {
  const { data } = await owner().nodes.list();
  expect(data).toEqual([
    expect.objectContaining({
      id: expect.stringMatching(/^node_/),
      startedAt: expect.any(String),
      lastSeenSeconds: 0,
      runningTurns: expect.any(Number),
      openStreams: expect.any(Number),
    }),
  ]);
  const { token } = await owner().tokens.create({ scopes: ['sessions:read'] });
  await expect(clientOf({ token }).nodes.list()).rejects.toMatchObject({ code: 'FORBIDDEN' });
});

test('a token is asked for once, and again when it is refused', async () => {
  const { getToken, made } = freshTokens(3600);
  const bad = ['rg_expired', ''];
  const client = clientOf({ getToken: async () => bad.shift() || getToken() });
  const all = await Promise.all([client.sessions.list(), client.sessions.list()]);
  expect(all).toHaveLength(2);
  await client.sessions.list();
  expect(made).toHaveLength(1);
});

test('a stream outlives its token, where there is another one', async () => {
  const { getToken, made } = freshTokens(2);
  const client = clientOf({ getToken });
  const context = { count: 60, pace: 20 };
  const stream = await client.sessions.executeStream({ agentId: 'paced', goal: 'n', context });
  expect((await collect(stream)).map((chunk) => chunk.position)).toEqual(upTo(63));
  expect(made.length).toBeGreaterThan(1);
});

test('and ends with it, where there is none', async () => {
  const { getToken } = freshTokens(3);
  const client = clientOf({ token: await getToken() });
  const context = { count: 200, pace: 20 };
  const stream = await client.sessions.executeStream({ agentId: 'paced', goal: 'n', context });
  await expect(collect(stream)).rejects.toBeInstanceOf(AuthenticationError);
  expect(stream.position).toBeGreaterThan(1);
  await owner().sessions.cancel(stream.sessionId ?? '');
});

test('a socket has a fresh token before the old one ends, or ends with it', async () => {
  const { getToken, made } = freshTokens(4);
  const lasting = await clientOf({ getToken }).realtime();
  onTestFinished(() => lasting.close());
  const stays = await lasting.subscribe({ channels: 'sessions' });
  const doomed = await clientOf({ token: await getToken() }).realtime();
  const ends = await doomed.subscribe({ channels: 'sessions' });
  await expect(collect(ends)).rejects.toBeInstanceOf(AuthenticationError);
  // The other socket's first token was older than that one.
  await expect.poll(() => made.length, { timeout: 20_000 }).toBeGreaterThan(2);
  await owner().sessions.create({ agentId: 'guide', subject: 'ann' });
  for await (const event of stays) {
    expect(event.type).toBe('session.created');
    break;
  }
});

test('a getToken that fails is a lost connection, and may pass', async () => {
  const { getToken } = freshTokens(3600);
  let failures = 2;
  const flaky = async () => {
    if (failures-- > 0) throw new Error('the login is down');
    return getToken();
  };
  await expect(clientOf({ getToken: flaky }).sessions.list()).resolves.toBeDefined();
  const broken = clientOf({ getToken: () => Promise.reject(new Error('down')), maxRetries: 1 });
  await expect(broken.sessions.list()).rejects.toMatchObject({
    code: 'CONNECTION_LOST',
    message: expect.stringContaining('getToken failed'),
  });
});
