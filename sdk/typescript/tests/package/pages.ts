/** The code blocks of the documentation in JavaScript and TypeScript, and programs made of them. */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

/** What the name of a block's language may be. */
const ENDINGS = { javascript: 'ts', typescript: 'ts', tsx: 'tsx', vue: 'vue' } as const;
const BLOCK = /^```(\w*)( browser)?(?: until="([^"\n]*)")?\n(.*?)^```/gms;
const IMPORT = /^import (\{[^}]*\}) from ('[^']+');$/gm;

export interface Block {
  /** Its page and line, as a file's name. */
  readonly name: string;
  readonly ending: (typeof ENDINGS)[keyof typeof ENDINGS];
  readonly code: string;
  /** It runs for ever; it has worked once this was printed. */
  readonly until: string | undefined;
  /** Whether it runs in Node. */
  readonly runs: boolean;
}

/** The blocks of a page that are ours, in their order, with a reader's own `values` filled in. */
export async function blocksOf(path: string, values: Record<string, string>): Promise<Block[]> {
  const text = await readFile(path, 'utf8');
  return [...text.matchAll(BLOCK)].flatMap((found) => {
    const [, language = '', browser, until, pasted = ''] = found;
    const ending = ENDINGS[language as keyof typeof ENDINGS];
    if (ending === undefined) {
      return [];
    }
    const line = text.slice(0, found.index).split('\n').length + 1;
    const code = Object.entries(values).reduce((so, [from, to]) => so.replaceAll(from, to), pasted);
    const name = `${basename(path, '.md')}-${line}`;
    return [{ name, ending, code, until, runs: ending === 'ts' && !browser }];
  });
}

/**
 * The programs that run a page's blocks one after the other, each in the scope of those before it. What
 * runs for ever ends a program, so there is one for each of these and one for the others.
 */
export function programsOf(blocks: readonly Block[], prelude: string): Program[] {
  const running = blocks.filter(({ runs }) => runs);
  const ending = running.filter(({ until }) => until === undefined);
  const programs = running.flatMap((block, index) => {
    const before = running.slice(0, index).filter(({ until }) => until === undefined);
    const { name, until } = block;
    return until === undefined ? [] : [{ name, until, code: program([...before, block], prelude) }];
  });
  const [first] = ending;
  const rest = first && { name: first.name, until: undefined, code: program(ending, prelude) };
  return rest ? [...programs, rest] : programs;
}

export interface Program {
  readonly name: string;
  readonly code: string;
  readonly until: string | undefined;
}

function program(blocks: readonly Block[], prelude: string): string {
  // An import may stand only at the outermost level, and once for each name.
  const scopes = blocks.map(({ code }) => code.replace(IMPORT, 'const $1 = await import($2);'));
  const nested = [prelude, ...scopes].join('\n{\n');
  return `${nested}${'}'.repeat(scopes.length)}\nprocess.exit(0);\n`;
}
