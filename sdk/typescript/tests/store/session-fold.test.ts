import { expect, test } from 'vitest';
import { SessionFold } from '../../src/store/session-fold.js';
import { answered, asking, done, messages, step, text, turn } from './chunks.js';

function folded(...chunks: Parameters<SessionFold['apply']>[0][]): SessionFold {
  const fold = new SessionFold();
  for (const chunk of chunks) {
    fold.apply(chunk);
  }
  return fold;
}

const brief = (fold: SessionFold) =>
  fold.view().map(({ turn: number, goal, status, content }) => [number, goal, status, content]);

test('chunks go to their turns', () => {
  const fold = folded(...turn(1, 1, 'a', 'b'), step(5, 2), text(6, 'c'));
  expect(brief(fold)).toEqual([
    [1, null, 'success', 'ab'],
    [2, null, 'streaming', 'c'],
  ]);
  expect(fold.position).toBe(6);
  expect(fold.isActive).toBe(true);
});

test('a chunk that was taken before is not taken again', () => {
  const chunks = turn(1, 1, 'a', 'b');
  expect(brief(folded(...chunks, ...chunks))).toEqual([[1, null, 'success', 'ab']]);
});

test('turns that did not change stay the same objects', () => {
  const fold = folded(...turn(1, 1, 'a'), step(4, 2));
  const before = fold.view();
  expect(fold.view()).toBe(before);
  fold.apply(text(5, 'b'));
  const after = fold.view();
  expect(after[0]).toBe(before[0]);
  expect(after[1]).not.toBe(before[1]);
});

test('a goal is shown while it is sent, waits, runs and is over, under one key', () => {
  const fold = folded(...turn(1, 1, 'a'));
  fold.send('k', 'why?');
  expect(brief(fold)[1]).toEqual([null, 'why?', 'sending', '']);
  fold.taken('k', 2);
  expect(brief(fold)[1]).toEqual([2, 'why?', 'queued', '']);
  fold.apply(step(4, 2));
  expect(brief(fold)[1]).toEqual([2, 'why?', 'streaming', '']);
  fold.apply(done(5, 2));
  expect(brief(fold)[1]).toEqual([2, 'why?', 'success', '']);
  expect(fold.view()[1]?.key).toBe('k');
});

test('chunks may come before the answer to their goal', () => {
  const fold = new SessionFold();
  fold.send('k', 'why?');
  fold.apply(step(1, 1));
  fold.apply(text(2, 'so'));
  expect(brief(fold)).toEqual([[1, 'why?', 'streaming', 'so']]);
  fold.taken('k', 1);
  expect(brief(fold)).toEqual([[1, 'why?', 'streaming', 'so']]);
  fold.apply(done(3, 1));
  fold.taken('k', 1);
  expect(brief(fold)).toEqual([[1, 'why?', 'success', 'so']]);
});

test('and may be of somebody else’s turn, which the answer settles', () => {
  const fold = new SessionFold();
  fold.send('k', 'mine');
  fold.apply(step(1, 1));
  fold.taken('k', 2);
  expect(brief(fold)).toEqual([
    [1, null, 'streaming', ''],
    [2, 'mine', 'queued', ''],
  ]);
  expect(fold.view()[1]?.key).toBe('k');
  expect(fold.goalless()).toEqual([1]);
});

test('a turn that is known by its chunks gets the goal of the answer that comes late', () => {
  const fold = folded(step(1, 1));
  fold.send('k', 'mine');
  fold.taken('k', 1);
  expect(brief(fold)).toEqual([[1, 'mine', 'streaming', '']]);
});

test('a goal that was not taken stays, with its error or as cancelled', () => {
  const fold = new SessionFold();
  fold.send('k', 'one');
  fold.send('l', 'two');
  fold.dropped('k', new Error('full'));
  fold.dropped('l', null);
  expect(brief(fold)).toEqual([
    [null, 'one', 'failed', ''],
    [null, 'two', 'cancelled', ''],
  ]);
  expect(fold.view()[0]?.error?.message).toBe('full');
  expect(fold.isActive).toBe(false);
  fold.send('k', 'one');
  expect(fold.view()[0]).toMatchObject({ status: 'sending', error: null });
});

test('a refusal leaves a turn that was taken for it alone', () => {
  const fold = new SessionFold();
  fold.send('k', 'mine');
  fold.apply(step(1, 1));
  fold.dropped('k', new Error('busy'));
  expect(brief(fold)).toEqual([
    [1, null, 'streaming', ''],
    [null, 'mine', 'failed', ''],
  ]);
});

test('a turn cancelled while it waited has only its end', () => {
  const fold = folded(...turn(1, 1, 'a'));
  fold.send('k', 'never mind');
  fold.taken('k', 2);
  fold.apply(done(4, 2, 'cancelled'));
  expect(brief(fold)[1]).toEqual([2, 'never mind', 'cancelled', '']);
});

test('turns stand in the order of their numbers, those without one last', () => {
  const fold = new SessionFold();
  fold.send('k', 'late');
  fold.taken('k', 3);
  fold.send('l', 'later');
  fold.taken('l', 2);
  fold.send('m', 'on its way');
  expect(fold.view().map(({ turn: number }) => number)).toEqual([2, 3, null]);
});

test('goals can be learnt, and those that are known stay', () => {
  const fold = folded(...turn(1, 1, 'a'), ...turn(2, 4, 'b'));
  fold.learn(messages(1, 'first'), 's1');
  fold.learn(messages(1, 'other'), 's1');
  expect(brief(fold).map(([, goal]) => goal)).toEqual(['first', null]);
  expect(fold.goalless()).toEqual([2]);
});

test('it goes on from what it showed', () => {
  const fold = folded(...turn(1, 1, 'a'), step(4, 2), text(5, 'b'));
  fold.send('k', 'next');
  const again = new SessionFold(fold.view(), fold.position);
  expect(again.view()).toEqual(fold.view());
  again.apply(text(5, 'b'));
  again.apply(text(6, 'c'));
  expect(brief(again)).toEqual([
    [1, null, 'success', 'a'],
    [2, null, 'streaming', 'bc'],
    [null, 'next', 'sending', ''],
  ]);
  expect(again.unsent().map(({ key }) => key)).toEqual(['k']);
});

test('it shows five hundred turns at most', () => {
  const fold = new SessionFold();
  for (let number = 1; number <= 501; number += 1) {
    for (const chunk of turn(number, number * 3, 'x')) {
      fold.apply(chunk);
    }
  }
  expect(fold.view()).toHaveLength(500);
  expect(fold.view()[0]?.turn).toBe(2);
});

test('a turn that asks waits, and goes on in its place once all is answered', () => {
  const asks = [...asking(3, 1).slice(0, 1), ...asking(4, 1, 'd').slice(0, 1)];
  const fold = folded(step(1, 1), text(2, 'a'), ...asks);
  fold.apply({ type: 'waiting', position: 5, sessionId: 's1', turn: 1, calls: ['c', 'd'] });
  expect(brief(fold)).toEqual([[1, null, 'waiting', 'a']]);
  expect(fold.view()[0]?.waiting).toMatchObject([
    { callId: 'c', kind: 'approval' },
    { callId: 'd' },
  ]);
  expect([fold.isActive, fold.asking('d'), fold.asking('e')]).toEqual([true, 1, undefined]);
  const kept = new SessionFold(fold.view(), fold.position);
  for (const one of [fold, kept]) {
    one.apply(answered(6, 'd'));
    expect(brief(one)[0]?.[2]).toBe('waiting');
    one.apply(answered(7, 'c'));
    expect([brief(one)[0]?.[2], one.view()[0]?.waiting]).toEqual(['streaming', []]);
    one.apply(text(8, 'b'));
    one.apply(done(9, 1));
    expect(brief(one)).toEqual([[1, null, 'success', 'ab']]);
  }
});
