/** A run of text within a block. */
export interface Inline {
  readonly kind: 'plain' | 'code' | 'em' | 'strong';
  readonly text: string;
  /** Where it ends in the block, its mark included; UTF-16 units. */
  readonly end: number;
}

const MARKS = /`+|\*+/g;

/**
 * The runs of a block: `code`, *emphasis*, **strong**, over the ends of lines too.
 *
 * While it grows, an open mark holds for all that follows it, so that nothing turns into something
 * else when the mark is closed; and marks at the very end are left out, since only what comes next
 * tells what they are. Once it has ended, a mark that was never closed is a character like others.
 */
export function inlinesOf(block: string, isGrowing = false): Inline[] {
  const text = isGrowing ? block.replace(/[`*]+$/, '') : block;
  const marks = [...text.matchAll(MARKS)];
  const unclosed = new Set<string>();
  const runs: Inline[] = [];
  let from = 0;
  const push = (kind: Inline['kind'], begin: number, close: number, end: number) => {
    if (close > begin) {
      runs.push({ kind, text: text.slice(begin, close), end });
    }
    from = end;
  };
  for (const [at, { 0: mark, index }] of marks.entries()) {
    if (index < from || unclosed.has(mark) || !opens(text, mark, index)) {
      continue;
    }
    const close = closeOf(text, marks, at);
    if (close === undefined && !isGrowing) {
      // Nor is any later one like it, so that no text is looked through again and again.
      unclosed.add(mark);
      continue;
    }
    push('plain', from, index, index);
    const end = close === undefined ? text.length : close + mark.length;
    push(kindOf(mark), index + mark.length, close ?? text.length, end);
  }
  push('plain', from, text.length, text.length);
  return runs;
}

function kindOf(mark: string): Inline['kind'] {
  if (mark.startsWith('`')) {
    return 'code';
  }
  return mark.length === 1 ? 'em' : 'strong';
}

/** Whether a mark can open here: 2 * 3, 2*3 and *.txt have stars that mean themselves. */
function opens(text: string, mark: string, index: number): boolean {
  const [before, after] = [text[index - 1] ?? ' ', text[index + mark.length] ?? ' '];
  return (
    mark.startsWith('`') ||
    (mark.length <= 3 && /[^\w\\]/.test(before) && /[^\s.,:;!?)\]}/|]/.test(after))
  );
}

/** Where the mark is that closes this one; undefined if there is none. */
function closeOf(text: string, marks: RegExpExecArray[], at: number): number | undefined {
  const mark = marks[at]?.[0] ?? '';
  for (let next = at + 1; next < marks.length; next += 1) {
    const found = marks[next];
    if (found?.[0] === mark && (mark.startsWith('`') || /\S/.test(text[found.index - 1] ?? ' '))) {
      return found.index;
    }
  }
  return undefined;
}
