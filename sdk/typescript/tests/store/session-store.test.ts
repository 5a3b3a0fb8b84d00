/** A session as it is followed, sent to, cancelled and asked again. */
import { expect, test } from 'vitest';
import { ConnectionLost, InvalidRequest, PositionExpired, SessionBusy } from '../../src/errors.js';
import { sessionStore } from '../../src/store/index.js';
import { done, messages, step, text, turn } from './chunks.js';
import { settled } from './fake-client.js';
import { brief, client, shown } from './shown.js';

test('a session is followed from its start, merged, for as long as it is held', async () => {
  const store = sessionStore(client, 's1');
  expect(client.joins).toHaveLength(0);
  const release = store.hold();
  await settled();
  const [join] = client.joins;
  expect(join?.params).toMatchObject({ resumeFrom: 0, follow: true, compact: true });
  join?.say(...turn(1, 1, 'one'), step(4, 2), text(5, 'two'));
  await settled();
  expect(store.getSnapshot()).toMatchObject({
    sessionId: 's1',
    content: 'two',
    status: 'streaming',
    isStreaming: true,
    turn: 2,
    position: 5,
    connection: 'open',
  });
  release();
  await settled();
  expect(join?.closed).toBe(true);
});

test('held again, it goes on where it was', async () => {
  const store = sessionStore(client, 's1');
  const release = store.hold();
  await settled();
  client.joins[0]?.say(step(1, 1), text(2, 'one '));
  await settled();
  release();
  await settled();
  store.hold();
  await settled();
  expect(client.joins[1]?.params.resumeFrom).toBe(2);
  client.joins[1]?.say(text(3, 'two'));
  await settled();
  expect(store.getSnapshot().content).toBe('one two');
});

test('the first goal makes the session, which is then followed', async () => {
  const store = shown(null);
  const sent = store.send('hello', { agentId: 'a' });
  expect(brief(store)).toEqual([['hello', 'sending', '']]);
  expect(store.getSnapshot().isStreaming).toBe(true);
  await sent;
  expect(store.getSnapshot()).toMatchObject({ sessionId: 's1', turn: 1, status: 'queued' });
  expect(client.executes[0]?.closed).toBe(true);
  await settled();
  expect(client.joins[0]).toMatchObject({ sessionId: 's1', params: { resumeFrom: 0 } });
  client.joins[0]?.say(...turn(1, 1, 'hi'));
  await settled();
  expect(brief(store)).toEqual([['hello', 'success', 'hi']]);
});

test('goals are sent one after another, into one session', async () => {
  const store = shown(null);
  void store.send('one', { agentId: 'a', metadata: { x: 1 } });
  await store.send('two', { agentId: 'a' });
  expect(client.executes.map(({ params }) => params)).toMatchObject([
    { goal: 'one', agentId: 'a', metadata: { x: 1 }, ifBusy: 'enqueue' },
    { goal: 'two', sessionId: 's1', agentId: undefined },
  ]);
});

test('a goal that is refused has the error, and a retry sends it again under its key', async () => {
  const store = shown('s1');
  const keys: unknown[] = [];
  client.answer = async ({ idempotencyKey, metadata }) => {
    keys.push([idempotencyKey, metadata]);
    throw new SessionBusy('busy');
  };
  await store.send('hello', { metadata: { x: 1 } });
  expect(store.getSnapshot()).toMatchObject({ isStreaming: false, error: { message: 'busy' } });
  client.answer = async ({ idempotencyKey, metadata }) => {
    keys.push([idempotencyKey, metadata]);
    return { sessionId: 's1', turn: 1 };
  };
  await store.retry({ metadata: { y: 2 } });
  expect(keys[1]).toEqual(keys[0]);
  expect(brief(store)).toEqual([['hello', 'queued', '']]);
});

test('a retry asks again what failed or was cancelled, and nothing else', async () => {
  const store = shown('s1');
  await store.send('hello');
  await settled();
  await store.retry();
  client.joins[0]?.say(step(1, 1), done(2, 1, 'failed'));
  await settled();
  await store.retry();
  client.joins[0]?.say(...turn(2, 3, 'ok'));
  await settled();
  await store.retry();
  expect(client.executes.map(({ params }) => params.goal)).toEqual(['hello', 'hello']);
  expect(brief(store)).toEqual([
    ['hello', 'failed', ''],
    ['hello', 'success', 'ok'],
  ]);
});

test('a lost connection is an error until a retry or the network goes on', async () => {
  const store = shown('s1');
  await settled();
  client.joins[0]?.say(step(1, 1), text(2, 'a'));
  client.joins[0]?.fail(new ConnectionLost('gone'));
  await settled();
  expect(store.getSnapshot()).toMatchObject({ isStreaming: false, error: { message: 'gone' } });
  await store.retry();
  expect(store.getSnapshot()).toMatchObject({ isStreaming: true, error: null });
  await settled();
  client.joins[1]?.fail(new ConnectionLost('gone again'));
  await settled();
  dispatchEvent(new Event('online'));
  await settled();
  expect(client.joins[2]?.params.resumeFrom).toBe(2);
});

test('cancelling names the session and withdraws what is not taken yet', async () => {
  const store = shown('s1');
  client.answer = () => new Promise(() => undefined);
  const sent = store.send('hello');
  await settled();
  await store.cancel();
  await sent;
  expect(client.cancels).toEqual([{ idempotencyKey: expect.any(String) }, 's1']);
  expect(brief(store)).toEqual([['hello', 'cancelled', '']]);

  // Its key may name a cancelled turn by now.
  client.answer = async () => ({ sessionId: 's1', turn: 2 });
  await store.retry();
  const [withdrawn] = client.cancels as { idempotencyKey: string }[];
  expect(client.executes[0]?.params.idempotencyKey).not.toBe(withdrawn?.idempotencyKey);
  expect(brief(store)).toEqual([['hello', 'queued', '']]);
});

test('what is no longer in the log is forgotten, and the rest read from where it begins', async () => {
  const store = shown('s1');
  await settled();
  client.joins[0]?.say(...turn(1, 1, 'old'));
  client.joins[0]?.fail(new PositionExpired('trimmed', { details: { earliest: 41 } }));
  await settled();
  expect(client.joins[1]?.params.resumeFrom).toBe(40);
  client.joins[1]?.say(...turn(7, 41, 'new'));
  await settled();
  expect(store.getSnapshot()).toMatchObject({ error: null, content: 'new' });
  expect(store.getSnapshot().turns).toHaveLength(1);
  client.joins[1]?.fail(new ConnectionLost('gone'));
  await settled();
  await store.retry();
  await settled();
  expect(client.joins[2]?.params.resumeFrom).toBe(43);
});

test('a request that is wrong either way is tried once more and then an error', async () => {
  const store = shown('s1');
  await settled();
  client.joins[0]?.fail(new InvalidRequest('no'));
  await settled();
  client.joins[1]?.fail(new InvalidRequest('no'));
  await settled();
  expect(client.joins).toHaveLength(2);
  expect(store.getSnapshot().error?.message).toBe('no');
});

test('goals that others sent are looked up', async () => {
  const store = shown('s1');
  await settled();
  client.pages = [messages(1, 'theirs')];
  client.joins[0]?.say(...turn(1, 1, 'a'));
  await settled();
  await settled();
  expect(brief(store)).toEqual([['theirs', 'success', 'a']]);
});
