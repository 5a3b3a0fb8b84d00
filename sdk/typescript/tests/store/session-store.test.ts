import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  ConnectionLost,
  InvalidRequest,
  NotFound,
  PositionExpired,
  SessionBusy,
} from '../../src/errors.js';
import type { SessionStore } from '../../src/store/index.js';
import { holdShared, sessionStore } from '../../src/store/index.js';
import { done, event, step, text, turn } from './chunks.js';
import { FakeClient, FakeSocket, settled } from './fake-client.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
  sessionStorage.clear();
});

const releases: (() => void)[] = [];

afterEach(async () => {
  for (const release of releases.splice(0)) {
    release();
  }
  await settled();
});

function shown(sessionId: string | null, options = {}): SessionStore {
  const store = sessionStore(client, sessionId, options);
  releases.push(store.hold());
  return store;
}

const brief = (store: SessionStore) =>
  store.getSnapshot().turns.map(({ goal, status, content }) => [goal, status, content]);

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
  client.goals = [event(1, 'session.started', { session_id: 's1', turn: 1, goal: 'theirs' })];
  const store = shown('s1');
  await settled();
  client.joins[0]?.say(...turn(1, 1, 'a'));
  await settled();
  await settled();
  expect(brief(store)).toEqual([['theirs', 'success', 'a']]);
});

test('a reload shows what was shown and goes on from there', async () => {
  const storage = 'session';
  const before = shown('s1', { storage });
  await settled();
  client.joins[0]?.say(...turn(1, 1, 'one'), step(4, 2), text(5, 'tw'));
  await settled();
  dispatchEvent(new Event('pagehide'));
  const after = shown('s1', { storage });
  expect(after.getSnapshot().turns).toEqual(before.getSnapshot().turns);
  expect(after.getSnapshot().isStreaming).toBe(true);
  await settled();
  expect(client.joins[1]?.params.resumeFrom).toBe(5);
  client.joins[1]?.say(text(6, 'o'));
  await settled();
  expect(after.getSnapshot().content).toBe('two');
});

test('a goal on its way while the page was left is sent again as the same turn', async () => {
  const storage = sessionStorage;
  const asked: unknown[] = [];
  client.answer = ({ idempotencyKey, goal, metadata }) => {
    asked.push({ idempotencyKey, goal, metadata });
    return new Promise(() => undefined);
  };
  const before = shown('s1', { storage });
  void before.send('hello', { metadata: { x: 1 } });
  await settled();
  const after = shown('s1', { storage });
  expect(brief(after)).toEqual([['hello', 'sending', '']]);
  await settled();
  expect(asked[1]).toEqual(asked[0]);
});

test('a goal that was refused before the reload is sent again as the same turn, too', async () => {
  const storage = 'session';
  const keys: unknown[] = [];
  client.answer = async ({ idempotencyKey, metadata }) => {
    keys.push([idempotencyKey, metadata]);
    throw new ConnectionLost('gone');
  };
  await shown('s1', { storage }).send('hello', { metadata: { x: 1 } });
  const after = shown('s1', { storage });
  await settled();
  expect(keys).toHaveLength(1);
  await after.retry();
  expect(keys[1]).toEqual(keys[0]);
});

test('a goal of the day before is not sent by itself, and by a retry as a new turn', async () => {
  const storage = 'session';
  client.answer = () => new Promise(() => undefined);
  const before = shown('s1', { storage });
  void before.send('hello');
  await settled();
  vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 24 * 3_600_000);
  const asked: unknown[] = [];
  client.answer = async ({ idempotencyKey }) => {
    asked.push(idempotencyKey);
    return { sessionId: 's1', turn: 1 };
  };
  const after = shown('s1', { storage });
  expect(after.getSnapshot()).toMatchObject({ isStreaming: false, status: 'failed' });
  const old = after.getSnapshot().turns[0]?.key;
  await after.retry();
  expect(asked).toHaveLength(1);
  expect(asked).not.toContain(old);
  expect(brief(after)).toEqual([['hello', 'queued', '']]);
  vi.restoreAllMocks();
});

test('a place that is damaged, of another version or too large is as none', async () => {
  const name = 'resonantgenesis:session:s1';
  for (const value of ['{', 'null', '{"version": 0, "turns": []}', '7']) {
    sessionStorage.setItem(name, value);
    const store = shown('s1', { storage: sessionStorage });
    expect(store.getSnapshot().turns).toEqual([]);
    expect(sessionStorage.getItem(name)).toBeNull();
  }
  const store = shown('s2', { storage: sessionStorage });
  await settled();
  client.joins.at(-1)?.say(step(1, 1), text(2, 'x'.repeat(300_000)), done(3, 1));
  await settled();
  expect(store.getSnapshot().content).toHaveLength(300_000);
  expect(sessionStorage.getItem('resonantgenesis:session:s2')).toBeNull();
});

test('a storage that the browser denies, or that is full, is as none', async () => {
  const deny = () => {
    throw new DOMException('no', 'SecurityError');
  };
  const denied = vi.spyOn(globalThis, 'sessionStorage', 'get').mockImplementation(deny);
  const store = shown('s1', { storage: 'session' });
  await store.send('hello');
  expect(brief(store)).toEqual([['hello', 'queued', '']]);
  denied.mockRestore();
  const full = { getItem: () => null, setItem: deny, removeItem: vi.fn() };
  await shown('s2', { storage: full }).send('hello');
  expect(full.removeItem).toHaveBeenCalledWith('resonantgenesis:session:s2');
});

test('an error survives the reload', async () => {
  const storage = sessionStorage;
  const before = shown('s1', { storage });
  client.answer = async () => {
    throw new SessionBusy('busy');
  };
  await before.send('hello');
  const after = shown('s1', { storage });
  expect(after.getSnapshot().error).toMatchObject({ code: 'SESSION_BUSY', message: 'busy' });
});

test('a tab that nobody sees keeps its connection only while an answer is on its way', async () => {
  const see = (state: 'hidden' | 'visible') => {
    vi.spyOn(document, 'visibilityState', 'get').mockReturnValue(state);
    document.dispatchEvent(new Event('visibilitychange'));
  };
  const store = shown('s1');
  await settled();
  client.joins[0]?.say(step(1, 1), text(2, 'one '));
  await settled();
  see('hidden');
  expect(client.joins[0]?.closed).toBe(false);
  client.joins[0]?.say(done(3, 1));
  await settled();
  expect(client.joins[0]?.closed).toBe(true);
  see('visible');
  await settled();
  expect(client.joins[1]?.params.resumeFrom).toBe(3);
  see('hidden');
  expect(client.joins[1]?.closed).toBe(true);
  expect(store.getSnapshot()).toMatchObject({ content: 'one ', error: null });
  vi.restoreAllMocks();
});

test('sessions shown over a socket share one, which is closed after the last of them', async () => {
  const options = { transport: 'websocket' } as const;
  const one = sessionStore(client, 's1', options);
  const other = sessionStore(client, 's2', options);
  const releases = [one.hold(), other.hold()];
  await settled();
  expect(client.sockets).toHaveLength(1);
  const [socket] = client.sockets;
  expect(socket?.sessions.map(({ sessionId }) => sessionId)).toEqual(['s1', 's2']);
  expect(socket?.sessions[0]?.params).toMatchObject({ resumeFrom: 0, compact: true });
  socket?.sessions[0]?.say(...turn(1, 1, 'hi'));
  await settled();
  expect(one.getSnapshot().content).toBe('hi');
  releases[0]?.();
  await settled();
  expect(socket?.state).toBe('open');
  releases[1]?.();
  await settled();
  expect(socket?.state).toBe('closed');
});

test('a socket that has given up is replaced by another', async () => {
  const store = shown('s1', { transport: 'websocket' });
  shown('s2', { transport: 'websocket' });
  await settled();
  const [socket] = client.sockets;
  if (socket !== undefined) {
    socket.state = 'closed';
  }
  socket?.sessions[0]?.fail(new ConnectionLost('gone'));
  await settled();
  expect(store.getSnapshot().error?.message).toBe('gone');
  await store.retry();
  await settled();
  expect(client.sockets[1]?.sessions).toHaveLength(1);
});

test('a socket on which a session cannot be read is given back', async () => {
  const socket = new FakeSocket();
  socket.session = async () => {
    throw new NotFound('no such session');
  };
  client.realtime = async () => socket;
  const store = shown('s1', { transport: 'websocket' });
  await settled();
  expect(store.getSnapshot().error?.message).toBe('no such session');
  expect(socket.state).toBe('closed');
});

test('who shows the same session shares its store while it is held', async () => {
  const one = sessionStore(client, 's1');
  const other = sessionStore(client, 's1');
  const release = holdShared(one);
  expect(holdShared(other)).toBe(one);
  expect(sessionStore(client, 's1')).toBe(one);
  expect(sessionStore(new FakeClient(), 's1')).not.toBe(one);
  (release as () => void)();
  await settled();
  expect(sessionStore(client, 's1')).not.toBe(one);
});
