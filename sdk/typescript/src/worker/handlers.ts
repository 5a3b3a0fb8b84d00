/** Handlers of every form, run as one, and the wire form of what they yield. */
import { asObject, camel, isObject, snake } from '../core/messages.js';
import type { ClientTool, JsonObject } from '../types.js';
import type { Answer, Handler, PastStep, PastTurn, Turn } from './values.js';

/** Characters of a text in one chunk. */
const PIECE = 16 * 1024;
/** Nesting of a chunk's JSON, at most. */
const DEPTH = 100;
const KINDS = 'text reasoning tool_call tool_result step source file data usage ask keep'.split(
  ' ',
);

/** The turn that the server sent; fields of a newer server are in `raw`. */
export function turnOf(raw: JsonObject, signal: AbortSignal): Omit<Turn, 'ask' | 'approve'> {
  const { clientTools, answers, history, soFar, ...fields } = camel<JsonObject>(raw);
  return {
    subject: null,
    model: null,
    tools: null,
    instructions: null,
    kept: null,
    ...fields,
    context: asObject(fields.context),
    metadata: asObject(fields.metadata),
    maxSteps: fields.maxSteps || 10,
    history: objects(history).map(pastTurn),
    soFar: objects(soFar).map(pastStep),
    clientTools: objects(clientTools) as unknown as ClientTool[],
    answers: Object.fromEntries(
      Object.entries(asObject(answers)).map(([id, answer]) => [id, answerOf(asObject(answer))]),
    ),
    signal,
    raw,
  } as unknown as Omit<Turn, 'ask' | 'approve'>;
}

function objects(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function pastTurn(raw: JsonObject): PastTurn {
  return { ...camel<PastTurn>({ left: [], ...raw }), steps: objects(raw.steps).map(pastStep) };
}

function pastStep(raw: JsonObject): PastStep {
  return { text: String(raw.text), calls: objects(raw.calls).map((call) => camel(call)) };
}

function answerOf(raw: JsonObject): Answer {
  const answer = camel<Answer>(raw);
  return { ...answer, ok: answer.status === 'answered' && answer.approved !== false };
}

/** What the handler yields or returns for a turn. */
export async function* itemsOf(handler: Handler, turn: Turn): AsyncGenerator<unknown, void> {
  const made: unknown = await handler(turn);
  if (isIterable(made)) yield* made;
  else if (made !== undefined) yield made;
}

function isIterable(value: unknown): value is AsyncIterable<unknown> | Iterable<unknown> {
  if (typeof value !== 'object' || value === null) return false;
  return Symbol.asyncIterator in value || Symbol.iterator in value;
}

/**
 * The chunks of what a handler yielded, each as JSON: several for a long text, none for an empty one.
 * Throws TypeError for a value that is no chunk.
 */
export function encoded(value: unknown): string[] {
  if (typeof value === 'string') return pieces(value).map(textOf);
  const chunk = snake(asObject(value));
  if (!KINDS.includes(String(chunk.type))) {
    const shown = (JSON.stringify(value) ?? String(value)).slice(0, 100);
    throw new TypeError(`a handler yields text, or an object of a type of ${KINDS}; not ${shown}`);
  }
  if (chunk.type === 'text' && !chunk.agent_id && !chunk.parent) {
    return encoded(String(chunk.content));
  }
  checkDepth(chunk, DEPTH);
  return [textOf(chunk)];
}

function pieces(text: string): string[] {
  const found: string[] = [];
  for (let start = 0; start < text.length; ) {
    const end = start + PIECE;
    // Never between the halves of a surrogate pair.
    const isCut = end < text.length && /[\ud800-\udbff]/.test(text[end - 1] ?? '');
    found.push(text.slice(start, isCut ? end - 1 : end));
    start = isCut ? end - 1 : end;
  }
  return found;
}

/** The value as JSON. A half of a surrogate pair, which no UTF-8 has, becomes U+FFFD. */
function textOf(value: unknown): string {
  return JSON.stringify(value).replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) =>
    found === '\\\\' ? found : '\ufffd',
  );
}

/** Throws TypeError, also for an object that contains itself. */
function checkDepth(value: unknown, left: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (left === 0) throw new TypeError(`a chunk nests deeper than ${DEPTH}`);
  for (const inner of Object.values(value)) checkDepth(inner, left - 1);
}
