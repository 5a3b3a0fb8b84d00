/** The language-neutral cases of `protocol/`. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

// biome-ignore lint/suspicious/noExplicitAny: what a case holds, its test knows.
export type Case = Record<string, any> & { name: string };

export interface CaseFile {
  cases: Case[];
  codes: Record<string, { family: string; retryable: boolean; status: number | null }>;
}

export function loadCases(file: string): CaseFile {
  const cases = parse(
    readFileSync(new URL(`../../../../protocol/${file}`, import.meta.url), 'utf8'),
  );
  const names = cases.cases.map((one: Case) => one.name);
  if (new Set(names).size !== names.length) throw new Error(`${file}: a name comes twice`);
  return cases;
}
