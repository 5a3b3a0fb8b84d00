import { camel } from '../core/messages.js';
import { makeError } from '../errors.js';
import type { Ask, Chunk, JsonObject, Message, MessagePart, TurnStatus } from '../types.js';
import { AnswerFold, type Begun, UNBOUNDED } from './answer-fold.js';
import type { StepSnapshot, ToolCallSnapshot, TurnContent } from './snapshots.js';
import { NO_CONTENT } from './snapshots.js';

/** What of a part is shown beside `parts`; made once for each part, since parts never change. */
type Shown = ToolCallSnapshot | StepSnapshot | Ask | Error;

/**
 * One turn's output, made from its chunks: the parts of its message, and what a page shows of them.
 *
 * Each chunk costs the same, however long the turn is. Every engine keeps a growing string as a rope
 * and joins it on the first read. Lists are made on a read, which happens once a frame.
 */
export class TurnFold {
  readonly #answer: AnswerFold;
  #failure: Error | null;
  #view = NO_CONTENT;
  #changed = true;
  #shown = new WeakMap<MessagePart, Shown>();

  /** Begins a turn, or goes on from its message, with the error that its reading had. */
  constructor(message?: Begun, failure: Error | null = null) {
    this.#answer = new AnswerFold(message, UNBOUNDED);
    this.#failure = failure;
  }

  /** How the turn ended; null while it has not. */
  get status(): TurnStatus | null {
    const { status } = this.#answer;
    return isEnd(status) ? status : null;
  }

  /** Whether the turn goes on only when somebody has answered. */
  get isWaiting(): boolean {
    return this.view().waiting.length > 0;
  }

  /** The same object until something changes, and the same lists until they do. */
  view(): TurnContent {
    if (this.#changed) this.#view = this.#made();
    this.#changed = false;
    return this.#view;
  }

  apply(chunk: Chunk): void {
    this.#answer.add(chunk);
    // The end changes what calls and asks without an answer are.
    if (chunk.type === 'done') this.#shown = new WeakMap();
    this.#changed = true;
  }

  /** Sets the error that ends the reading, or clears it with null. */
  fail(error: Error | null): void {
    this.#failure = error;
    this.#changed = true;
  }

  #made(): TurnContent {
    const { parts, usage, truncated = false } = this.#answer.message;
    const before = this.#view;
    let content = '';
    const toolCalls: ToolCallSnapshot[] = [];
    const steps: StepSnapshot[] = [];
    const waiting: Ask[] = [];
    let error: Error | null = null;
    for (const part of parts) {
      if (part.type === 'text') content += part.agent_id === undefined ? part.content : '';
      else if (part.type === 'tool_call')
        toolCalls.push(this.#once(part, () => this.#call(part, content.length)));
      else if (part.type === 'step') steps.push(this.#once(part, () => stepOf(part)));
      else if (part.type === 'input_required' && part.status === 'open' && this.status === null)
        waiting.push(this.#once(part, () => askOf(part)));
      else if (part.type === 'error') error = this.#once(part, () => errorOf(part));
    }
    return {
      content,
      parts,
      truncated,
      toolCalls: same(before.toolCalls, toolCalls),
      steps: same(before.steps, steps),
      waiting: same(before.waiting, waiting),
      error: this.#failure ?? error,
      usage: usage ?? null,
    };
  }

  #once<S extends Shown>(part: MessagePart, make: () => S): S {
    const known = this.#shown.get(part) as S | undefined;
    const shown = known ?? make();
    if (known === undefined) this.#shown.set(part, shown);
    return shown;
  }

  #call(part: MessagePart & { type: 'tool_call' }, offset: number): ToolCallSnapshot {
    const { tool, args, call_id: callId, is_error: isError } = part;
    const open = this.status === null ? 'running' : 'failed';
    return {
      callId,
      tool,
      args,
      status: isError === undefined ? open : isError ? 'failed' : 'completed',
      ...('result' in part && { result: part.result }),
      offset,
      ...author(part),
    };
  }
}

function isEnd(status: Message['status']): status is TurnStatus {
  return !['queued', 'running', 'waiting'].includes(status);
}

function stepOf(part: MessagePart & { type: 'step' }): StepSnapshot {
  const { type, agent_id, parent, ...fields } = part;
  return { ...camel<StepSnapshot>({ progress: '', ...fields }), ...author(part) };
}

function askOf(part: MessagePart & { type: 'input_required' }): Ask {
  const { type, status, agent_id, parent, ...fields } = part;
  return camel(fields);
}

function errorOf({ type, ...part }: MessagePart & { type: 'error' }): Error {
  const { code, message, ...fields } = camel<{ code: string; message: string } & JsonObject>(part);
  return makeError(code, message, fields);
}

function author({ agent_id: agentId, parent }: MessagePart): { agentId?: string; parent?: string } {
  return { ...(agentId !== undefined && { agentId }), ...(parent !== undefined && { parent }) };
}

/** The list before, if it has the same elements. */
function same<T>(before: readonly T[], list: readonly T[]): readonly T[] {
  const isSame = before.length === list.length && list.every((each, at) => each === before[at]);
  return isSame ? before : list;
}
