/** A session as its messages show it, joined to its stream; and what changes its turns. */
import { expect, test } from 'vitest';
import { Conflict, ConnectionLost } from '../../src/errors.js';
import type { MessagePart } from '../../src/index.js';
import { done, messages, step, text, turn } from './chunks.js';
import { settled } from './fake-client.js';
import { brief, client, shown } from './shown.js';

const said = (content: string): MessagePart[] => [{ type: 'text', content }];
const RUNNING = { status: 'running' } as const;

test('the newest messages are shown at once, and the stream goes on behind them', async () => {
  client.pages = [[...messages(1, 'one', said('a')), ...messages(2, 'two', said('b'), RUNNING)]];
  client.position = 7;
  const store = shown('s1');
  await settled();
  expect(brief(store)).toEqual([
    ['one', 'success', 'a'],
    ['two', 'streaming', 'b'],
  ]);
  expect(store.getSnapshot()).toMatchObject({ position: 7, isStreaming: true });
  expect(client.joins.map(({ params }) => params.resumeFrom)).toEqual([7]);
  client.joins[0]?.say(text(8, 'c'), done(9, 2), ...turn(3, 10, 'd'));
  await settled();
  expect(brief(store)).toMatchObject([
    ['one', 'success', 'a'],
    ['two', 'success', 'bc'],
    [null, 'success', 'd'],
  ]);
});

test('older messages come page by page, before those that are there', async () => {
  client.pages = [
    messages(5, 'five', said('e')),
    [...messages(3, 'three', said('c')), ...messages(4, 'four', said('d'))],
    messages(2, 'two', said('b')),
  ];
  const store = shown('s1');
  await settled();
  expect(brief(store).map(([goal]) => goal)).toEqual(['two', 'three', 'four', 'five']);
  expect(client.looked.map(({ cursor }) => cursor)).toEqual([undefined, '1', '2']);
  expect(client.joins).toHaveLength(1);
});

test('what could not be loaded is an error, and a retry loads it', async () => {
  const { messages: real } = client.sessions;
  let isLost = true;
  Object.assign(client.sessions, {
    messages: async (...args: Parameters<typeof real>) => {
      if (isLost) throw new ConnectionLost('gone');
      return real(...args);
    },
  });
  client.pages = [messages(1, 'one', said('a'))];
  const store = shown('s1');
  await settled();
  expect(store.getSnapshot()).toMatchObject({ error: { message: 'gone' }, turns: [] });
  isLost = false;
  await store.retry();
  await settled();
  expect(brief(store)).toEqual([['one', 'success', 'a']]);
  expect(store.getSnapshot().error).toBeNull();
});

test('messages that leave something out are not shown: the log has all', async () => {
  client.pages = [messages(1, 'one', said('a'), { truncated: true })];
  client.position = 7;
  const store = shown('s1');
  await settled();
  expect(client.joins[0]?.params.resumeFrom).toBe(0);
  client.joins[0]?.say(...turn(1, 1, 'all'));
  await settled();
  await settled();
  expect(brief(store)).toEqual([['one', 'success', 'all']]);
});

test('messages of a turn have all that its chunks would have shown', async () => {
  const expiresAt = '2026-12-01T00:00:00Z';
  const asked = { call_id: 'c', kind: 'approval', tool: 't', args: {}, expires_at: expiresAt };
  const call = { type: 'tool_call', tool: 't', args: {}, call_id: 'c' } as const;
  const parts: MessagePart[] = [
    { type: 'step', step: 1, name: 'answer', status: 'started', progress: 'Hm' },
    ...said('Well: '),
    call,
    { type: 'input_required', ...asked, status: 'open' } as MessagePart,
  ];
  client.pages = [messages(1, 'pay', parts, { status: 'waiting' })];
  client.position = 5;
  const store = shown('s1');
  await settled();
  expect(store.getSnapshot()).toMatchObject({
    status: 'waiting',
    content: 'Well: ',
    parts,
    toolCalls: [{ callId: 'c', status: 'running', offset: 6 }],
    steps: [{ step: 1, name: 'answer', status: 'started', progress: 'Hm' }],
    waiting: [{ callId: 'c', kind: 'approval', tool: 't', args: {}, expiresAt }],
  });
  client.joins[0]?.say(
    { type: 'input', position: 6, callId: 'c', status: 'answered', approved: true },
    {
      type: 'tool_result',
      position: 7,
      tool: 't',
      result: 1,
      callId: 'c',
      isError: false,
    },
  );
  await settled();
  expect(store.getSnapshot()).toMatchObject({
    status: 'streaming',
    waiting: [],
    toolCalls: [{ callId: 'c', status: 'completed', result: 1, offset: 6 }],
  });
});

test('a fork begins with the turns of the original', async () => {
  const original = { sessionId: 's0', replacedBy: 2 };
  client.pages = [
    [...messages(1, 'theirs', said('a'), original), ...messages(1, 'mine', said('b'))],
  ];
  client.position = 3;
  const store = shown('s1', { storage: 'session' });
  await settled();
  const turns = [
    { goal: 'theirs', turn: 1, content: 'a', inheritedFrom: 's0', replacedBy: 2 },
    { goal: 'mine', turn: 1, content: 'b' },
  ];
  expect(store.getSnapshot().turns).toMatchObject(turns);
  client.joins[0]?.say(...turn(2, 4, 'c'));
  await settled();
  expect(store.getSnapshot().turns).toMatchObject([...turns, { turn: 2, content: 'c' }]);
  dispatchEvent(new Event('pagehide'));
  const again = shown('s1', { storage: 'session' });
  expect(again.getSnapshot().turns).toEqual(store.getSnapshot().turns);
});

test('the last turn is regenerated in its place, and stays as the one that was replaced', async () => {
  client.pages = [[...messages(1, 'one', said('a')), ...messages(2, 'two', said('b'))]];
  client.position = 6;
  client.answer = async () => ({ sessionId: 's1', turn: 3 });
  const store = shown('s1');
  await settled();
  await store.regenerate({ metadata: { x: 1 } });
  expect(client.executes[0]?.params).toMatchObject({
    sessionId: 's1',
    goal: '',
    replaceTurn: 2,
    ifBusy: 'interrupt',
    metadata: { x: 1 },
  });
  client.joins[0]?.say(...turn(3, 7, 'better'));
  await settled();
  expect(store.getSnapshot().turns).toMatchObject([
    { turn: 1, goal: 'one' },
    { turn: 2, goal: 'two', replacedBy: 3 },
    { turn: 3, goal: 'two', content: 'better' },
  ]);
  await store.send('another', { replaceTurn: 3 });
  expect(client.executes[1]?.params).toMatchObject({ goal: 'another', replaceTurn: 3 });
});

test('a regeneration that is refused replaces nothing', async () => {
  client.pages = [messages(1, 'one', said('a'))];
  client.position = 3;
  const store = shown('s1');
  await settled();
  client.answer = async () => {
    throw new Conflict('no');
  };
  await store.regenerate();
  expect(store.getSnapshot().turns[0]).not.toHaveProperty('replacedBy');
  expect(store.getSnapshot().turns[1]).toMatchObject({ goal: 'one', status: 'failed' });
});

test('turns that others replace are learnt', async () => {
  client.pages = [messages(1, 'one', said('a'))];
  client.position = 3;
  const store = shown('s1');
  await settled();
  client.pages = [
    [...messages(1, 'one', said('a'), { replacedBy: 2 }), ...messages(2, 'one', said('b'))],
  ];
  client.joins[0]?.say(step(4, 2));
  await settled();
  await settled();
  expect(store.getSnapshot().turns).toMatchObject([
    { goal: 'one', replacedBy: 2 },
    { goal: 'one', status: 'streaming' },
  ]);
});

test('turns that wait are listed, changed and removed', async () => {
  client.pages = [
    [
      ...messages(1, 'one', said('a'), RUNNING),
      ...messages(2, 'two', undefined, { status: 'queued' }),
      ...messages(3, 'three', undefined, { status: 'queued' }),
    ],
  ];
  client.position = 2;
  const store = shown('s1');
  await settled();
  const queued = () => brief(store).filter(([, status]) => status === 'queued');
  expect(queued().map(([goal]) => goal)).toEqual(['two', 'three']);
  await store.editQueued(2, { goal: 'second' });
  await store.removeQueued(3);
  expect(client.said).toEqual([
    ['edit', 's1', 2, { goal: 'second' }],
    ['remove', 's1', 3],
  ]);
  expect(queued().map(([goal]) => goal)).toEqual(['second']);
});

test('steering and forking name the session', async () => {
  const store = shown('s1');
  await store.steer('shorter');
  expect(await store.fork({ turn: 1 })).toMatchObject({ sessionId: 's2' });
  expect(client.said).toEqual([
    ['s1', 'shorter'],
    ['fork', 's1', { turn: 1 }],
  ]);
  await expect(shown(null).steer('nobody hears it')).rejects.toThrow('there is no session yet');
});
