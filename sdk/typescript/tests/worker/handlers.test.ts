/** What handlers yield, and the turn that they get. */
import { expect, test } from 'vitest';
import { HandlerAsks } from '../../src/worker/asks.js';
import { encoded, itemsOf, turnOf } from '../../src/worker/handlers.js';
import type { Handler } from '../../src/worker/index.js';

const RAW = { goal: 'x', session_id: 's', turn: 1, agent_id: 'a' };
const turn = new HandlerAsks(RAW).turn(turnOf(RAW, new AbortController().signal));

async function made(handler: Handler): Promise<unknown[]> {
  const items: unknown[] = [];
  for await (const item of itemsOf(handler, turn)) items.push(item);
  return items;
}

test('a handler has many forms', async () => {
  const forms: Handler[] = [
    async function* () {
      yield 'a';
      yield 'b';
    },
    function* () {
      yield 'a';
      yield 'b';
    },
    async () => ['a', 'b'],
    () => ['a', 'b'],
  ];
  for (const form of forms) expect(await made(form)).toEqual(['a', 'b']);
  expect(await made(() => 'text')).toEqual(['text']);
  expect(await made(async () => ({ type: 'text', content: 'c' }))).toEqual([
    { type: 'text', content: 'c' },
  ]);
  expect(await made(async () => undefined)).toEqual([]);
});

test('chunks have the wire’s names, and their values keep their own', () => {
  expect(
    encoded({ type: 'tool_result', tool: 't', result: { someKey: 1 }, callId: 'c', isError: true }),
  ).toEqual([
    '{"type":"tool_result","tool":"t","result":{"someKey":1},"call_id":"c","is_error":true}',
  ]);
  expect(encoded({ type: 'text', content: 'plain' })).toEqual(['"plain"']);
  expect(encoded({ type: 'text', content: 'x', agentId: 'sub' })).toEqual([
    '{"type":"text","content":"x","agent_id":"sub"}',
  ]);
  expect(encoded('')).toEqual([]);
});

test('a long text comes in pieces, none of which parts a character', () => {
  const text = `x${'🙂'.repeat(20_000)}`;
  const pieces = encoded(text);
  expect(pieces.length).toBe(3);
  expect(pieces.map((piece) => JSON.parse(piece)).join('')).toBe(text);
  for (const piece of pieces) expect(piece).not.toMatch(/\\ud|\ufffd/);
});

test('half of a character, which no UTF-8 has, is replaced; what only looks like one stays', () => {
  expect(encoded('a\ud800b')).toEqual(['"a\ufffdb"']);
  expect(JSON.parse(encoded('\\ud800 \\\\ud801')[0] ?? '')).toBe('\\ud800 \\\\ud801');
});

test('what is no chunk is refused, and named', () => {
  for (const bad of [1, null, undefined, true, { type: 'done' }, {}]) {
    expect(() => encoded(bad)).toThrow(TypeError);
  }
  expect(() => encoded({ type: 'nonsense' })).toThrow('not {"type":"nonsense"}');
  const endless: Record<string, unknown> = {};
  endless.self = endless;
  expect(() => encoded({ type: 'data', name: 'd', data: endless })).toThrow(TypeError);
});

test('a turn has what the server sent, and all that may be missing', () => {
  const { signal } = new AbortController();
  expect(turnOf(RAW, signal)).toMatchObject({
    goal: 'x',
    sessionId: 's',
    context: {},
    metadata: {},
    history: [],
    subject: null,
    maxSteps: 10,
    answers: {},
    kept: null,
    raw: RAW,
  });
  const call = { tool: 't', args: { some_key: 1 }, result: 'r', is_error: true };
  const steps = [{ text: 'b', calls: [call] }];
  const rich = turnOf(
    {
      ...RAW,
      context: { some_key: { inner_key: 1 } },
      history: [{ goal: 'g', output: 'o', status: 'success', steps }],
      so_far: steps,
      answers: {
        yes: { call_id: 'yes', status: 'answered', approved: true, payload: null, reason: '' },
        no: { call_id: 'no', status: 'answered', approved: false, payload: null, reason: 'r' },
        late: { call_id: 'late', status: 'expired', approved: null, payload: null, reason: '' },
      },
    },
    signal,
  );
  expect(rich.context).toEqual({ some_key: { inner_key: 1 } });
  const past = { tool: 't', args: { some_key: 1 }, result: 'r', isError: true };
  expect(rich.history).toEqual([
    { goal: 'g', output: 'o', status: 'success', left: [], steps: [{ text: 'b', calls: [past] }] },
  ]);
  expect(rich.soFar).toEqual([{ text: 'b', calls: [past] }]);
  const { yes, no, late } = rich.answers;
  expect([yes?.ok, no?.ok, late?.ok]).toEqual([true, false, false]);
  expect(yes?.callId).toBe('yes');
});
