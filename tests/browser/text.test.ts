/** What the chat examples make of an answer, and of one that grows. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { inlinesOf } from '../../examples/shared/marks';
import { blocksOf } from '../../examples/shared/text';

const runs = (text: string, isGrowing = false) =>
  inlinesOf(text, isGrowing).map((run) => [run.kind, run.text]);

/** What a reader sees of a text, as the pages show it. */
function visible(text: string, isGrowing: boolean): string {
  const blocks = blocksOf(text, isGrowing);
  const shown = blocks.map((block, index) => {
    const isLast = isGrowing && index === blocks.length - 1;
    const inlines = block.kind === 'code' ? [block] : inlinesOf(block.text, isLast);
    return inlines.map((run) => run.text).join('');
  });
  return shown.join('');
}

/** What is seen of each beginning of a text, in its order, and of the whole at last. */
function growth(text: string): string[] {
  const seen = Array.from(text, (_, index) => visible(text.slice(0, index + 1), true));
  return [...seen, visible(text, false)];
}

/** Nothing that was seen goes away or changes. */
function expectGrowth(seen: readonly string[]): void {
  for (const [index, after] of seen.entries()) {
    const before = seen[index - 1] ?? '';
    expect(after.slice(0, before.length)).toBe(before);
  }
}

test('code within a quote stays code', () => {
  const text =
    'See:\n\n> Resume it.\n>\n> ```bash\n> curl -N \\\n>   "http://x"\n> ```\n> Then\n> go on.\n\nEnd';
  expect(blocksOf(text)).toEqual([
    { kind: 'text', text: 'See:' },
    { kind: 'quote', text: 'Resume it.' },
    { kind: 'code', text: 'curl -N \\\n  "http://x"' },
    { kind: 'quote', text: 'Then go on.' },
    { kind: 'text', text: 'End' },
  ]);
});

test('what looks like a quote within code is code', () => {
  expect(blocksOf('```\n> a\n\n> b\n```\n')).toEqual([{ kind: 'code', text: '> a\n\n> b' }]);
});

test('marks are seen, also over the end of a line', () => {
  expect(runs('a `b` *c\nd* **e*f**')).toEqual([
    ['plain', 'a '],
    ['code', 'b'],
    ['plain', ' '],
    ['em', 'c\nd'],
    ['plain', ' '],
    ['strong', 'e*f'],
  ]);
  expect(runs('``a`b`` 重**点**')).toEqual([
    ['code', 'a`b'],
    ['plain', ' 重'],
    ['strong', '点'],
  ]);
});

test('stars that mean themselves are left alone', () => {
  for (const text of ['2 * 3 * 4', '2*3*4', '2**3**4', '* a\n* b', '*.ts, *.js', '****', '\\*a*']) {
    expect(runs(text)).toEqual([['plain', text]]);
  }
});

test('an open mark holds for what follows, until the end says that it was none', () => {
  expect(runs('a **b', true)).toEqual([
    ['plain', 'a '],
    ['strong', 'b'],
  ]);
  expect(runs('a **b')).toEqual([['plain', 'a **b']]);
  expect(runs('a `b*', true)).toEqual([
    ['plain', 'a '],
    ['code', 'b'],
  ]);
  expect(runs('6 *', true)).toEqual([['plain', '6 ']]);
  expect(runs('6 *')).toEqual([['plain', '6 *']]);
});

test('a fence is code from its first line on, and never seen itself', () => {
  const text = { kind: 'text', text: 'a' };
  expect(blocksOf('a\n``', true)).toEqual([text]);
  expect(blocksOf('a\n```j', true)).toEqual([text, { kind: 'code', text: '' }]);
  for (const typed of ['b', 'b\n', 'b\n``', 'b\n```']) {
    const typing = `a\n\`\`\`js\n${typed}`;
    expect(blocksOf(typing, true)).toEqual([text, { kind: 'code', text: 'b' }]);
  }
});

test('a long paragraph is cut where no mark is open', () => {
  const words = 'word '.repeat(598);
  const text = `${words}*${'long '.repeat(10)}end* ${words}`;
  const [first, second] = blocksOf(text);
  expect(first).toEqual({ kind: 'text', text: words });
  expect(inlinesOf(second?.text ?? '')[0]?.kind).toBe('em');
  const steps = [2_980, 2_995, 3_000, 3_001, 3_020, 3_050, 5_999, 6_001];
  expectGrowth([...steps.map((end) => visible(text.slice(0, end), true)), visible(text, false)]);
  expect(blocksOf('x'.repeat(7_000)).map((block) => block.text.length)).toEqual([3000, 3000, 1000]);
});

// -- what grows -----------------------------------------------------------------------------------

const word = fc.constantFrom(
  'a',
  'to',
  'x1',
  '重',
  'ö.',
  '(b)',
  'C:',
  '2*3',
  '17 * 23',
  '- -',
  '>',
);
const words = fc.array(word, { minLength: 1, maxLength: 4 }).map((all) => all.join(' '));
const begun = words.map((text) => `w ${text} w`);
const marked = fc.oneof(
  words,
  words,
  begun.map((text) => `\`${text}\``),
  begun.map((text) => `\`\`${text}\`x\`\``),
  begun.map((text) => `*${text}*`),
  begun.map((text) => `**${text}**`),
);
const gap = fc.constantFrom(' ', ' ', ' ', '\n');
const line = fc.array(fc.tuple(marked, gap), { minLength: 1, maxLength: 5 }).map((all) =>
  all
    .map((both) => both.join(''))
    .join('')
    .trim(),
);
const code = fc
  .array(fc.constantFrom('a = 1', '', '> b', '``', '`c` *d', '  e', '```f'), { maxLength: 4 })
  .map((lines) => ['```js', ...lines, '```'].join('\n'));
const plainBlock = fc.oneof(line, line, code);
const block = fc.oneof(
  plainBlock,
  fc.array(plainBlock, { minLength: 1, maxLength: 2 }).map((blocks) => {
    const lines = blocks.join('\n\n').split('\n');
    return lines.map((one) => `> ${one}`.trimEnd()).join('\n');
  }),
);
const answer = fc
  .array(fc.tuple(block, fc.constantFrom('\n\n', '\n\n\n')), { maxLength: 4 })
  .map((all) => all.map((both) => both.join('')).join(''));

test('of a text whose marks are all closed, nothing that was seen ever changes', () => {
  fc.assert(
    fc.property(answer, (text) => expectGrowth(growth(text))),
    { numRuns: 300 },
  );
});

test('of any text, nothing but marks and spaces ever comes or goes', () => {
  const characters = fc.constantFrom(...'ab. *`>\n'.split(''), '\n', '```', '\n```', '**', '\n\n');
  const any = fc.array(characters, { maxLength: 40 }).map((all) => all.join(''));
  fc.assert(
    fc.property(any, (text) =>
      expectGrowth(growth(text).map((seen) => seen.replace(/[`*\s]/g, ''))),
    ),
    { numRuns: 2_000 },
  );
});
