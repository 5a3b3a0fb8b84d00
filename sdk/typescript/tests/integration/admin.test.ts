/** Those who run a server, at the real one. */
import { NotFound } from '@resonantgenesis/sdk';
import { Admin, SCOPES } from '@resonantgenesis/sdk/admin';
import { expect, inject, test } from 'vitest';
import { clientOf } from '../support/clients.js';
import { KEY } from '../support/server.js';

const adminOf = (apiKey = KEY) => new Admin({ apiKey, baseUrl: inject('serverUrl') });

test('a key: made, listed, used, revoked', async () => {
  const { keys } = adminOf();
  const made = await keys.create({ name: 'ci', scopes: ['keys:read'], expiresIn: 60 });
  expect(made).toMatchObject({ name: 'ci', scopes: ['keys:read'], revokedAt: null });
  expect(Date.parse(made.expiresAt ?? '') - Date.parse(made.createdAt)).toBeLessThan(61_000);
  const theirs = adminOf(made.key).keys;
  expect(await theirs.get(made.id)).toEqual({ ...made, key: undefined });
  expect((await theirs.list({ limit: 1 })).data[0]?.id).toBe(made.id);
  await expect(theirs.create({ name: 'more', scopes: ['*'] })).rejects.toMatchObject({
    code: 'FORBIDDEN',
  });
  await keys.revoke(made.id);
  expect((await keys.get(made.id)).revokedAt).not.toBeNull();
  await expect(theirs.list()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
});

test('the scopes are those of the API', async () => {
  const described = await (await fetch(`${inject('serverUrl')}/openapi.json`)).json();
  const { scopes } = described.components.schemas.NewKey.properties;
  expect([...SCOPES].sort()).toEqual([...scopes.items.enum].sort());
});

test('an organization: made, renamed, disabled, with another key, deleted', async () => {
  const { organizations } = adminOf();
  const made = await organizations.create({ name: 'Acme', keyName: 'one' });
  expect(made).toMatchObject({ name: 'Acme', disabledAt: null, key: { name: 'one' } });
  expect(made.key).toHaveProperty('createdAt');
  const found = await organizations.createKey(made.id, { name: 'two', scopes: ['keys:read'] });
  expect((await adminOf(found.key).keys.list()).data.map((key) => key.name)).toEqual([
    'two',
    'one',
  ]);
  const changed = await organizations.update(made.id, { name: 'Other', disabled: true });
  expect(changed.disabledAt).not.toBeNull();
  expect(await organizations.get(made.id)).toEqual(changed);
  expect((await organizations.list({ limit: 500 })).data).toContainEqual(changed);
  while ((await organizations.delete(made.id)).hasMore);
  await expect(organizations.get(made.id)).rejects.toBeInstanceOf(NotFound);
});

test('usage, workers, nodes, metrics and tools are told', async () => {
  const { usage, workers, nodes, metrics, tools } = adminOf();
  const subject = crypto.randomUUID();
  await clientOf().sessions.execute({ agentId: 'guide', goal: 'count to 2', subject });
  await expect
    .poll(() => usage.report({ groupBy: 'agent', subject, from: new Date(Date.now() - 60_000) }))
    .toMatchObject({
      data: [{ agentId: 'guide', turns: 1 }],
      totals: { turns: 1, totalTokens: expect.any(Number) },
      groupBy: 'agent',
      budget: null,
      hasMore: false,
    });
  expect([...(await workers.list())]).toEqual(expect.any(Array));
  const [node] = await nodes.list();
  const live = await metrics.read('server');
  expect(live.waitingTurns).toEqual(expect.any(Number));
  expect(live.data[0]).toMatchObject({ node: node?.id, openTurns: { queued: 0 } });
  expect(live.data[0]?.endedTurns.success).toBeGreaterThan(0);
  expect(live.data[0]?.firstChunk.counts.at(-1)).toBeGreaterThan(0);
  expect((await metrics.read()).data[0]?.chunks).toBeGreaterThan(0);
  const [tool] = [...(await tools.list())].filter(({ name }) => name === 'calculator');
  expect(tool).toMatchObject({ source: 'built-in', needsApproval: false, problem: null });
});

test('a log is read with times, and a subject is erased', async () => {
  const { logs, subjects } = adminOf();
  const { sessions } = clientOf();
  const subject = crypto.randomUUID();
  const turn = await sessions.execute({ agentId: 'guide', goal: 'count to 2', subject });
  const first = await logs.read(turn.sessionId, { limit: 2 });
  expect(first.events.map(({ position }) => position)).toEqual([1, 2]);
  expect(first.events[0]).toMatchObject({ type: 'step', agent_id: 'guide' });
  expect(Date.parse(first.events[0]?.at ?? '')).toBeGreaterThan(Date.now() - 60_000);
  const rest = await logs.read(turn.sessionId, { after: first.position, wait: 1 });
  expect(rest).toMatchObject({ done: true, status: 'completed', position: turn.position });
  expect(await subjects.delete(subject)).toMatchObject({ sessions: 1, hasMore: false });
  await expect(sessions.get(turn.sessionId)).rejects.toBeInstanceOf(NotFound);
});
