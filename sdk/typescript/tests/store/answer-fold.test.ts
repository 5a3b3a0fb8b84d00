// @vitest-environment node
/** The fold of chunks into a message, by the cases of `protocol/messages.yaml`. */
import { expect, test } from 'vitest';
import { camel } from '../../src/core/messages.js';
import { AnswerFold, type FoldedAnswer } from '../../src/store/answer-fold.js';
import { TurnFold } from '../../src/store/turn-fold.js';
import type { Chunk, JsonObject } from '../../src/types.js';
import { loadCases } from '../support/cases.js';

const { cases } = loadCases('messages.yaml');

function folded(chunks: readonly object[], message?: FoldedAnswer): FoldedAnswer {
  const fold = new AnswerFold(message);
  for (const chunk of chunks) fold.add(chunk);
  return fold.message;
}

test.each(cases)('$name', ({ chunks, message }) => {
  for (let cut = 0; cut <= chunks.length; cut += 1) {
    const first = folded(chunks.slice(0, cut));
    const kept = JSON.stringify(first);
    expect(folded(chunks.slice(cut), JSON.parse(kept))).toEqual(message);
    expect(JSON.stringify(first)).toBe(kept);
  }
});

test.each(cases)('$name, with the names of this SDK', ({ chunks, message }) => {
  const { parts } = folded(chunks.map((chunk: JsonObject) => camel<Chunk>(chunk)));
  expect(parts).toEqual(message.parts);
});

test.each(cases)('$name, in the turn that a page shows', ({ chunks, message }) => {
  const fold = new TurnFold();
  for (const chunk of chunks) fold.apply(camel<Chunk>(chunk));
  expect(fold.view()).toMatchObject({ parts: message.parts, truncated: false });
});

test.each(cases)('$name, over a socket, where each chunk has its session', (one) => {
  const sent = one.chunks.map((chunk: JsonObject) => ({ session_id: 's', ...chunk }));
  expect(folded(sent)).toEqual(one.message);
});

test('what comes beyond the bounds is left out', () => {
  const text = 'x'.repeat(600_000);
  const message = folded([
    { type: 'text', content: text, position: 1 },
    { type: 'text', content: text, position: 2 },
    { type: 'source', url: 'https://example.com/', position: 3 },
  ]);
  expect(message.truncated).toBe(true);
  expect(message.parts).toEqual([{ type: 'text', content: 'x'.repeat(1_000_000) }]);
});
