/** Which connections sessions take, share and give back. */
import { expect, test, vi } from 'vitest';
import { ConnectionLost, NotFound } from '../../src/errors.js';
import { holdShared, sessionStore } from '../../src/store/index.js';
import { done, step, text, turn } from './chunks.js';
import { FakeClient, FakeSocket, settled } from './fake-client.js';
import { client, shown } from './shown.js';

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
