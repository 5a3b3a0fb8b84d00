/** A growing text in blocks, so that a page renders only what has changed. */

/** Characters of a block; a longer one is cut, and is no Markdown any more. */
const LONGEST = 8_000;
const FENCE = /^ {0,3}(```|~~~)/;
const LIST = /^ {0,3}([-*+]|\d+[.)]) /;

export interface Block {
  readonly kind: 'markdown' | 'code' | 'plain';
  readonly text: string;
}

/**
 * The blocks of a Markdown text: paragraphs, lists, tables, listings. A block that is too long to be
 * parsed with every piece that comes is shown as it is.
 */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  let begin = 0;
  let fence: string | null = null;
  let isList = false;
  let isBlank = false;
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at) + 1 || text.length;
    const line = text.slice(at, Math.min(end, at + 80));
    const opened = FENCE.exec(line)?.[1];
    const goesOn = fence !== null || line.startsWith(' ') || (isList && LIST.test(line));
    if (isBlank && !goesOn && line.trim()) {
      blocks.push(...cut(text.slice(begin, at)));
      begin = at;
      isList = false;
    }
    if (at === begin) isList = LIST.test(line);
    if (opened !== undefined && (fence === null || fence === opened)) {
      fence = fence === null ? opened : null;
    }
    isBlank = line.trim() === '';
    at = end;
  }
  if (begin < text.length) blocks.push(...cut(text.slice(begin)));
  return blocks;
}

/** A block, or the pieces of one that is too long. */
function cut(text: string): Block[] {
  if (text.length <= LONGEST) return [{ kind: 'markdown', text }];
  const isCode = FENCE.test(text);
  const pieces: Block[] = [];
  for (let at = 0; at < text.length; ) {
    const separator = isCode ? '\n' : ' ';
    const last = text.lastIndexOf(separator, at + LONGEST) + 1;
    const end = at + LONGEST >= text.length ? text.length : last > at ? last : at + LONGEST;
    pieces.push({ kind: isCode ? 'code' : 'plain', text: text.slice(at, end) });
    at = end;
  }
  return pieces;
}
