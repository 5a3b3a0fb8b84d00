/** What the chat examples make of an answer. */
import { expect, test } from 'vitest';
import { blocksOf } from '../../examples/shared/text';

test('code within a quote stays code', () => {
  const text =
    'See:\n\n> Resume it.\n>\n> ```bash\n> curl -N \\\n>   "http://x"\n> ```\n> Then\n> go on.\n\nEnd';
  expect(blocksOf(text)).toEqual([
    { kind: 'text', text: 'See:' },
    { kind: 'quote', text: 'Resume it.' },
    { kind: 'code', text: 'curl -N \\\n  "http://x"' },
    { kind: 'quote', text: expect.stringContaining('Then go on.') },
    { kind: 'text', text: 'End' },
  ]);
});

test('what looks like a quote within code is code', () => {
  expect(blocksOf('```\n> a\n\n> b\n```\n')).toEqual([{ kind: 'code', text: '> a\n\n> b' }]);
});
