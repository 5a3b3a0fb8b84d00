/** An answer as a page shows it: paragraphs, quotes and code. */
export interface Block {
  readonly kind: 'text' | 'quote' | 'code';
  readonly text: string;
}

/** A run of text within a block. */
export interface Inline {
  readonly kind: 'plain' | 'code' | 'em' | 'strong';
  readonly text: string;
}

/** A longer paragraph is cut, since a browser lays a growing paragraph out anew with every frame. */
const LONGEST = 3_000;

/** Cuts a text that grows: all its blocks but the last stay the same. */
export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const parts = text.split(/(^```.*\n[\s\S]*?(?:^```\s*$|(?![\s\S])))/m);
  for (const [index, part] of parts.entries()) {
    if (index % 2 === 1) {
      blocks.push({ kind: 'code', text: part.replace(/^```.*\n/, '').replace(/\n?```\s*$/, '') });
      continue;
    }
    for (const paragraph of part.split(/\n{2,}/)) {
      if (paragraph.startsWith('>')) {
        blocks.push(...blocksOf(paragraph.replace(/^> ?/gm, '')).map(quoted));
      } else if (paragraph.trim() !== '') {
        blocks.push(...pieces(paragraph).map((piece) => ({ kind: 'text', text: piece }) as const));
      }
    }
  }
  return blocks;
}

function quoted(block: Block): Block {
  return block.kind === 'code' ? block : { kind: 'quote', text: block.text.replaceAll('\n', ' ') };
}

function pieces(paragraph: string): string[] {
  const found: string[] = [];
  let rest = paragraph;
  while (rest.length > LONGEST) {
    const space = rest.lastIndexOf(' ', LONGEST);
    const end = space > 0 ? space + 1 : LONGEST;
    found.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  return [...found, rest];
}

const MARKS = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\n]+\*)/;

/** The runs of a block: `code`, *emphasis*, **strong**. */
export function inlinesOf(text: string): Inline[] {
  const runs = text.split(MARKS).filter((run) => run !== '');
  return runs.map((run) => {
    if (!MARKS.test(run)) {
      return { kind: 'plain', text: run };
    }
    if (run.startsWith('`')) {
      return { kind: 'code', text: run.slice(1, -1) };
    }
    return run.startsWith('**')
      ? { kind: 'strong', text: run.slice(2, -2) }
      : { kind: 'em', text: run.slice(1, -1) };
  });
}

/** A tool's result in one line, and whole. */
export function shortJson(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length > 120 ? `${text.slice(0, 119)}…` : text;
}

export function longJson(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? '');
}
