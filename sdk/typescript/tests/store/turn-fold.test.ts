import { expect, test } from 'vitest';
import type { Chunk, StepChunk } from '../../src/index.js';
import { TurnFold } from '../../src/store/turn-fold.js';
import { done, failure, step, text } from './chunks.js';

const call = { type: 'tool_call', position: 3, tool: 'sum', args: { a: 1 }, callId: 'c' } as const;
const result = {
  type: 'tool_result',
  position: 4,
  tool: 'sum',
  result: 7,
  callId: 'c',
  isError: false,
} as const;

function folded(...chunks: Chunk[]): TurnFold {
  const fold = new TurnFold();
  for (const chunk of chunks) {
    fold.apply(chunk);
  }
  return fold;
}

test('text adds up', () => {
  expect(folded(text(1, 'Once '), text(2, 'upon')).view().content).toBe('Once upon');
});

test('a tool call runs until its result comes', () => {
  const fold = folded(text(1, 'Well: '), call);
  const called = { callId: 'c', tool: 'sum', args: { a: 1 }, offset: 6 };
  expect(fold.view().toolCalls).toEqual([{ ...called, status: 'running' }]);
  fold.apply(result);
  expect(fold.view().toolCalls).toEqual([{ ...called, status: 'completed', result: 7 }]);
});

test('a result that is an error fails its call, and one without a call stands for itself', () => {
  const fold = folded({ ...result, isError: true });
  expect(fold.view().toolCalls).toEqual([
    { callId: 'c', tool: 'sum', args: {}, offset: 0, status: 'failed', result: 7 },
  ]);
});

test('a call without a result runs no longer than its turn, and its step says why it ended', () => {
  const cut = { ...step(3), status: 'completed', finishReason: 'cancelled' } as const;
  const fold = folded(step(1, 1), call, cut);
  expect(fold.view().toolCalls[0]?.status).toBe('running');
  const before = fold.view().toolCalls;
  fold.apply(done(4, 1, 'cancelled'));
  const [ended] = fold.view().toolCalls;
  expect(ended?.status).toBe('failed');
  expect(ended).not.toHaveProperty('result');
  expect(before[0]?.status).toBe('running');
  expect(fold.view().steps[0]).toMatchObject({ status: 'completed', finishReason: 'cancelled' });
});

test('a step is completed in place', () => {
  const fold = folded(step(1, 1), { ...step(2), status: 'completed', durationMs: 5 });
  expect(fold.view().steps).toEqual([
    { step: 1, name: 'answer', status: 'completed', progress: '', durationMs: 5 },
  ]);
});

test('what a step tells of its progress is put together, its words stand beside it', () => {
  const tell = (position: number, status: StepChunk['status'], detail: string) => ({
    ...step(position),
    status,
    detail,
  });
  const fold = folded(
    { ...step(1, 1), detail: 'with a model' },
    tell(2, 'progress', 'Two and '),
    tell(3, 'progress', 'two.'),
  );
  const shown = { step: 1, name: 'answer', progress: 'Two and two.', detail: 'with a model' };
  expect(fold.view().steps).toEqual([{ ...shown, status: 'started' }]);
  fold.apply({ ...step(4), status: 'completed' });
  expect(fold.view().steps).toEqual([{ ...shown, status: 'completed' }]);
});

test('an error is one of the SDK, and the end has a status and what it took', () => {
  const fold = folded(failure(1, 'RATE_LIMITED'), done(2, 1, 'failed'));
  expect(fold.view().error).toMatchObject({ name: 'RateLimited', code: 'RATE_LIMITED' });
  expect(fold.status).toBe('failed');
  expect(fold.view().usage?.outputTokens).toBe(2);
});

test('text of a sub-agent is no part of the answer, and what it does has its name', () => {
  const helper = { agentId: 'helper', parent: 'c' };
  const fold = folded(
    text(1, 'Mine. '),
    { ...text(2, 'Not mine.'), ...helper },
    { ...step(3), ...helper },
    { ...call, ...helper },
    text(5, 'Mine too.'),
  );
  expect(fold.view().content).toBe('Mine. Mine too.');
  expect(fold.view().steps).toMatchObject([helper]);
  expect(fold.view().toolCalls).toMatchObject([{ ...helper, offset: 6 }]);
  expect(fold.view().parts.map(({ type, agent_id }) => [type, agent_id])).toEqual([
    ['text', undefined],
    ['text', 'helper'],
    ['step', 'helper'],
    ['tool_call', 'helper'],
    ['text', undefined],
  ]);
});

test('nothing of a shown turn is left out for its size, and its unchanged parts stay the same', () => {
  const long = 'x'.repeat(1_200_000);
  const fold = folded(call, text(4, long));
  const before = fold.view();
  fold.apply(text(5, 'y'));
  fold.apply({ type: 'source', position: 6, url: 'https://example.com/' });
  const after = fold.view();
  expect(after.content).toHaveLength(1_200_001);
  expect([after.truncated, after.parts.length]).toEqual([false, 3]);
  expect(after.parts[0]).toBe(before.parts[0]);
  expect(before.content).toHaveLength(1_200_000);
});

test('data that is not kept is in no part', () => {
  const fold = folded(text(1, 'a'));
  const before = fold.view();
  fold.apply({ type: 'data', position: 1, name: 'p', data: 1, transient: true, turn: 1 });
  expect(fold.view()).toEqual(before);
});

test('a chunk of a newer server changes nothing', () => {
  const fold = folded(text(1, 'a'));
  const before = fold.view();
  fold.apply({ type: 'of_tomorrow', position: 2, content: 'hm' } as unknown as Chunk);
  expect(fold.view()).toEqual(before);
});

test('views never change, and what did not change stays the same object', () => {
  const fold = folded(call);
  const before = fold.view();
  expect(fold.view()).toBe(before);
  fold.apply(text(5, 'x'));
  const after = fold.view();
  expect(after).not.toBe(before);
  expect(before.content).toBe('');
  expect(after.toolCalls).toBe(before.toolCalls);
  fold.apply(result);
  expect(before.toolCalls[0]?.status).toBe('running');
});
