/** What of a session outlives the page that showed it. */
import { expect, test, vi } from 'vitest';
import { ConnectionLost, SessionBusy } from '../../src/errors.js';
import { done, step, text, turn } from './chunks.js';
import { settled } from './fake-client.js';
import { brief, client, shown } from './shown.js';

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
