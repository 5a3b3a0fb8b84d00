import { expect, test, vi } from 'vitest';
import { ConnectionLost, NotFound, SessionBusy } from '../../src/errors.js';
import { AgentStreamStore, IDLE } from '../../src/store/index.js';
import { answered, asking, data, done, failure, step, text, turn } from './chunks.js';
import { FakeClient, settled } from './fake-client.js';

function started() {
  const client = new FakeClient();
  const store = new AgentStreamStore();
  const task = { client, agentId: 'a', goal: 'g' };
  const over = store.execute(task);
  return { client, store, task, over };
}

test('it is idle, then connecting, then streaming, then over with all of it', async () => {
  const store = new AgentStreamStore();
  expect(store.getSnapshot()).toBe(IDLE);
  const client = new FakeClient();
  const heard = vi.fn();
  store.subscribe(heard);
  const over = store.execute({ client, agentId: 'a', goal: 'g', context: { x: 1 } });
  expect(store.getSnapshot()).toMatchObject({ status: 'connecting', isStreaming: true, goal: 'g' });
  expect(heard).toHaveBeenCalledTimes(1);
  await settled();
  const [stream] = client.executes;
  expect(stream?.params).toMatchObject({ agentId: 'a', goal: 'g', context: { x: 1 } });
  expect(stream?.params.idempotencyKey).toMatch(/^[0-9a-f]{32}$/);
  stream?.say(...turn(1, 1, 'Hello ', 'world'));
  await over;
  expect(store.getSnapshot()).toMatchObject({
    status: 'success',
    isStreaming: false,
    content: 'Hello world',
    error: null,
    sessionId: 's1',
    turn: 1,
    position: 4,
    connection: 'closed',
  });
});

test('a failed turn has its error, and is not streaming', async () => {
  const { client, store, over } = started();
  await settled();
  client.executes[0]?.say(step(1, 1), text(2, 'so'), failure(3), done(4, 1, 'failed'));
  await over;
  const { status, isStreaming, content, error } = store.getSnapshot();
  expect({ status, isStreaming, content }).toEqual({
    status: 'failed',
    isStreaming: false,
    content: 'so',
  });
  expect(error).toMatchObject({ code: 'AGENT_FAILED' });
});

test('a refusal is an error, and a retry asks again under the same key', async () => {
  const client = new FakeClient();
  client.answer = async () => {
    throw new SessionBusy('busy');
  };
  const keys: unknown[] = [];
  const ask = client.sessions.executeStream;
  client.sessions.executeStream = (params, controls) => {
    keys.push(params.idempotencyKey);
    return ask(params, controls);
  };
  const store = new AgentStreamStore();
  await store.execute({ client, agentId: 'a', goal: 'g' });
  expect(store.getSnapshot()).toMatchObject({ status: 'failed', error: { code: 'SESSION_BUSY' } });
  client.answer = async () => ({ sessionId: 's1', turn: 1 });
  const over = store.retry();
  expect(store.getSnapshot()).toMatchObject({ status: 'connecting', error: null });
  await settled();
  client.executes[0]?.say(...turn(1, 1, 'yes'));
  await over;
  expect(store.getSnapshot().content).toBe('yes');
  expect(keys[1]).toBe(keys[0]);
});

test('a turn that broke off goes on where it was', async () => {
  const { client, store, over } = started();
  await settled();
  client.executes[0]?.say(step(1, 1), text(2, 'one '));
  client.executes[0]?.fail(new ConnectionLost('gone'));
  await over;
  expect(store.getSnapshot()).toMatchObject({ status: 'failed', content: 'one ' });
  const again = store.retry();
  await settled();
  expect(client.joins[0]).toMatchObject({ sessionId: 's1', params: { turn: 1, resumeFrom: 2 } });
  client.joins[0]?.say(text(3, 'two'), done(4, 1));
  await again;
  expect(store.getSnapshot()).toMatchObject({ status: 'success', content: 'one two', error: null });
  expect(client.executes).toHaveLength(1);
});

test('a retry of a turn that has ended is a new turn, even of a key that was given', async () => {
  const client = new FakeClient();
  const store = new AgentStreamStore();
  const over = store.execute({ client, agentId: 'a', goal: 'g', idempotencyKey: 'mine' });
  await settled();
  client.executes[0]?.say(step(1, 1), done(2, 1, 'timeout'));
  await over;
  void store.retry();
  await settled();
  expect(client.executes.map(({ params }) => params.idempotencyKey)[0]).toBe('mine');
  expect(client.executes[1]?.params.idempotencyKey).not.toBe('mine');
});

test('while it streams a retry changes nothing', async () => {
  const { client, store } = started();
  await settled();
  void store.retry();
  await settled();
  expect(client.executes).toHaveLength(1);
  expect(client.joins).toHaveLength(0);
});

test('showing the same task again starts nothing, another one takes its place', async () => {
  const client = new FakeClient();
  const store = new AgentStreamStore();
  const task = { client, agentId: 'a', goal: 'g' };
  store.show(task);
  store.show({ ...task });
  await settled();
  expect(client.executes).toHaveLength(1);
  store.show({ ...task, goal: 'other' });
  await settled();
  expect(client.executes[0]?.closed).toBe(true);
  client.executes[0]?.say(text(1, 'old'));
  client.executes[1]?.say(step(1, 2), text(2, 'new'));
  await settled();
  expect(store.getSnapshot()).toMatchObject({ goal: 'other', content: 'new' });
  store.clear();
  expect(store.getSnapshot()).toBe(IDLE);
  expect(client.executes[1]?.closed).toBe(true);
});

test('held again after it was let go, it goes on where it was', async () => {
  const client = new FakeClient();
  const store = new AgentStreamStore();
  const task = { client, agentId: 'a', goal: 'g' };
  store.show(task);
  const release = store.hold();
  await settled();
  client.executes[0]?.say(step(1, 1), text(2, 'one '));
  await settled();
  release();
  store.hold()();
  expect(client.executes[0]?.closed).toBe(false);
  await settled();
  expect(client.executes[0]?.closed).toBe(true);
  expect(client.cancels).toEqual([]);
  store.show(task);
  store.hold();
  await settled();
  client.joins[0]?.say(text(3, 'two'));
  await settled();
  expect(store.getSnapshot().content).toBe('one two');
});

test('cancelling names the turn, and its end comes from the log', async () => {
  const { client, store, over } = started();
  await settled();
  client.executes[0]?.say(step(1, 1), text(2, 'half'));
  await settled();
  await store.cancel();
  expect(client.cancels).toEqual([['s1', { turn: 1 }]]);
  expect(store.getSnapshot().isStreaming).toBe(true);
  client.executes[0]?.say(done(3, 1, 'cancelled'));
  await over;
  expect(store.getSnapshot()).toMatchObject({ status: 'cancelled', content: 'half', error: null });
  await store.cancel();
  expect(client.cancels).toHaveLength(1);
});

test('cancelling before the server has answered ends it here, and there by its key', async () => {
  const client = new FakeClient();
  client.answer = () => new Promise(() => undefined);
  const store = new AgentStreamStore();
  client.cancelled = async () => {
    throw new NotFound('no turn has this key');
  };
  const over = store.execute({ client, agentId: 'a', goal: 'g', idempotencyKey: 'k' });
  await store.cancel();
  await over;
  expect(store.getSnapshot()).toMatchObject({ status: 'cancelled', isStreaming: false });
  expect(client.cancels).toEqual([{ idempotencyKey: 'k' }]);
});

test('a cancel that did not get through rejects', async () => {
  const { client, store } = started();
  await settled();
  client.cancelled = async () => {
    throw new ConnectionLost('gone');
  };
  await expect(store.cancel()).rejects.toThrow('gone');
});

test('it shows how the connection is', async () => {
  const { client, store } = started();
  await settled();
  expect(store.getSnapshot().connection).toBe('open');
  client.executes[0]?.to('offline');
  expect(store.getSnapshot().connection).toBe('offline');
});

test('a turn that asks is followed, and goes on in its place, whoever answers', async () => {
  const { client, store, over } = started();
  await settled();
  client.executes[0]?.say(step(1, 1), text(2, 'a'), ...asking(3, 1));
  await settled();
  expect(store.getSnapshot()).toMatchObject({ status: 'waiting', isStreaming: true, content: 'a' });
  expect(store.getSnapshot().waiting).toMatchObject([{ callId: 'c', tool: 't' }]);
  expect(client.joins[0]?.params).toMatchObject({ turn: 1, resumeFrom: 4, follow: true });
  await store.answer('c', { approved: true });
  expect(client.inputs).toEqual([['s1', 'c', { turn: 1, approved: true }]]);
  client.joins[0]?.say(
    answered(5),
    ...asking(6, 1, 'd'),
    answered(8, 'd'),
    text(9, 'b'),
    done(10, 1),
  );
  await over;
  expect(store.getSnapshot()).toMatchObject({ status: 'success', content: 'ab', waiting: [] });
  expect(client.joins).toHaveLength(1);
});

test('a turn that waits is not read on once it was let go', async () => {
  const { client, store, over } = started();
  const release = store.hold();
  await settled();
  client.executes[0]?.say(step(1, 1), ...asking(2, 1));
  await settled();
  release();
  await settled();
  await over;
  expect(store.getSnapshot().status).toBe('waiting');
  await store.answer('c', { approved: false });
  expect(client.joins.map(({ closed }) => closed)).toEqual([true]);
});

test('listeners hear of data as it comes, also of what no state keeps', async () => {
  const { client, store, over } = started();
  const heard: unknown[] = [];
  const stop = store.onData((chunk) => heard.push(chunk.data));
  store.onData(() => heard.push('other'));
  await settled();
  client.executes[0]?.say(step(1, 1), data(1, 10, true), data(2, 20));
  await settled();
  expect(heard).toEqual([10, 'other', 20, 'other']);
  stop();
  client.executes[0]?.say(data(3, 30), done(4, 1));
  await over;
  expect(heard).toEqual([10, 'other', 20, 'other', 'other']);
  expect(store.getSnapshot().parts).toMatchObject([{ step: 1 }, { data: 20 }, { data: 30 }]);
});
