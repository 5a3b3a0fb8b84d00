import { inlinesOf } from './marks';

/** An answer as a page shows it: paragraphs, quotes and code. */
export interface Block {
  readonly kind: 'text' | 'quote' | 'code';
  readonly text: string;
}

/** A longer paragraph is cut, since a browser lays a growing paragraph out anew with every frame. */
const LONGEST = 3_000;

/** From its line on, whole or not, to the line that closes it or the end. */
const FENCED = /(^```[^`\n]*(?:\n[\s\S]*?(?:^```[ \t]*$|(?![\s\S]))|(?![\s\S])))/m;
/** The end of code that is whole, and of code that grows, where a fence may be on its way. */
const CODE_END = /(^|\n)(```[ \t]*)?$/;
const OPEN_CODE_END = /(^|\n)`{0,3}[ \t]*$/;
/** What may become a fence. */
const FENCE_BEGINS = /(?<=^|\n)`{1,2}$/;

/**
 * Cuts a text into blocks. While it grows, all of them but the last stay the same, and marks of
 * which it is not yet clear what they are stay out of the last.
 */
export function blocksOf(text: string, isGrowing = false): Block[] {
  const blocks: Block[] = [];
  const parts = text.split(FENCED);
  const last = parts.at(-1) === '' ? parts.length - 2 : parts.length - 1;
  for (const [index, part] of parts.entries()) {
    const isLast = isGrowing && index === last;
    if (index % 2 === 1) {
      const code = part.replace(/^.*\n?/, '');
      blocks.push({ kind: 'code', text: code.replace(isLast ? OPEN_CODE_END : CODE_END, '') });
    } else {
      blocks.push(...textBlocks(isLast ? part.replace(FENCE_BEGINS, '') : part, isLast));
    }
  }
  return blocks;
}

function textBlocks(text: string, isGrowing: boolean): Block[] {
  const paragraphs = text.split(/\n{2,}/).map((paragraph) => paragraph.replace(/^\n|\n$/g, ''));
  return paragraphs.flatMap((paragraph, index) => {
    if (paragraph.startsWith('>')) {
      const isLast = isGrowing && index === paragraphs.length - 1;
      return blocksOf(paragraph.replace(/^> ?/gm, ''), isLast).map(quoted);
    }
    return paragraph.trim() === '' ? [] : pieces(paragraph);
  });
}

function quoted(block: Block): Block {
  return block.kind === 'code' ? block : { kind: 'quote', text: block.text.replaceAll('\n', ' ') };
}

function pieces(paragraph: string): Block[] {
  const found: Block[] = [];
  let rest = paragraph;
  while (rest.length > LONGEST) {
    const end = endOfPiece(rest);
    found.push({ kind: 'text', text: rest.slice(0, end) });
    rest = rest.slice(end);
  }
  return [...found, { kind: 'text', text: rest }];
}

/** After the last space that no mark includes; if there is none, after the last one at all. */
function endOfPiece(text: string): number {
  let end = 0;
  let from = 0;
  for (const run of inlinesOf(text.slice(0, 2 * LONGEST), true)) {
    const space = text.lastIndexOf(' ', Math.min(run.end, LONGEST) - 1);
    if (run.kind === 'plain' && space >= from) {
      end = space + 1;
    }
    from = run.end;
  }
  return end || text.lastIndexOf(' ', LONGEST - 1) + 1 || LONGEST;
}

/** A tool's result in one line, and whole. */
export function shortJson(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

export function longJson(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? '');
}
