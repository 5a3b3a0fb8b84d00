import { makeError } from '../errors.js';
import type { Ask, Chunk, StepChunk, ToolResultChunk, TurnStatus, Usage } from '../types.js';
import type { StepSnapshot, ToolCallSnapshot, TurnContent } from './snapshots.js';
import { NO_CONTENT } from './snapshots.js';

/**
 * One turn's output, made from its chunks.
 *
 * Each chunk costs the same, however long the turn is. Every engine keeps a growing string as a rope
 * and joins it on the first read. Lists are copied on a read. Both happen once a frame.
 */
export class TurnFold {
  /** How the turn ended; null while it has not. */
  status: TurnStatus | null;
  #content: string;
  #error: Error | null;
  #usage: Usage | null;
  readonly #calls: ToolCallSnapshot[];
  readonly #steps: StepSnapshot[];
  /** Copied when it changes: there are few, and seldom. */
  #waiting: readonly Ask[];
  #view: TurnContent;
  #changed = false;
  #callsChanged = false;
  #stepsChanged = false;

  constructor(start: TurnContent = NO_CONTENT, status: TurnStatus | null = null) {
    this.status = status;
    this.#content = start.content;
    this.#error = start.error;
    this.#usage = start.usage;
    this.#calls = [...start.toolCalls];
    this.#steps = [...start.steps];
    this.#waiting = start.waiting;
    this.#view = start;
  }

  /** Whether the turn goes on only when somebody has answered. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** The same object until something changes, and the same lists until they do. */
  view(): TurnContent {
    if (this.#changed) {
      this.#view = {
        content: this.#content,
        toolCalls: this.#callsChanged ? [...this.#calls] : this.#view.toolCalls,
        steps: this.#stepsChanged ? [...this.#steps] : this.#view.steps,
        waiting: this.#waiting,
        error: this.#error,
        usage: this.#usage,
      };
      this.#changed = this.#callsChanged = this.#stepsChanged = false;
    }
    return this.#view;
  }

  apply(chunk: Chunk): void {
    this.#changed = true;
    switch (chunk.type) {
      case 'text':
        this.#content += chunk.content;
        break;
      case 'tool_call': {
        const { callId, tool, args } = chunk;
        this.#calls.push({ callId, tool, args, status: 'running', offset: this.#content.length });
        this.#callsChanged = true;
        break;
      }
      case 'tool_result':
        this.#answer(chunk);
        break;
      case 'step':
        this.#step(chunk);
        break;
      case 'input_required': {
        const { type, position, ...ask } = chunk;
        this.#waiting = [...this.#waiting, ask];
        break;
      }
      case 'input':
        this.#waiting = this.#waiting.filter(({ callId }) => callId !== chunk.callId);
        break;
      case 'error':
        this.#error = makeError(chunk.code, chunk.message, chunk);
        break;
      case 'done':
        this.status = chunk.status;
        this.#usage = chunk.usage;
        this.#waiting = NO_CONTENT.waiting;
        this.#endCalls();
        break;
    }
  }

  /** Sets the error that ends the reading, or clears it with null. */
  fail(error: Error | null): void {
    this.#error = error;
    this.#changed = true;
  }

  #answer({ callId, tool, result, isError }: ToolResultChunk): void {
    const known = this.#calls.findIndex((call) => call.callId === callId);
    const index = known < 0 ? this.#calls.length : known;
    const call = this.#calls[index] ?? { callId, tool, args: {}, offset: this.#content.length };
    this.#calls[index] = { ...call, status: isError ? 'failed' : 'completed', result };
    this.#callsChanged = true;
  }

  /** Tool calls without a result fail when the turn ends. */
  #endCalls(): void {
    for (const [index, call] of this.#calls.entries()) {
      if (call.status !== 'running') continue;
      this.#calls[index] = { ...call, status: 'failed' };
      this.#callsChanged = true;
    }
  }

  #step(chunk: StepChunk): void {
    const { step, name, durationMs, finishReason } = chunk;
    const known = this.#steps.findIndex((other) => other.step === step);
    const index = known < 0 ? this.#steps.length : known;
    const before = this.#steps[index];
    const isProgress = chunk.status === 'progress';
    this.#steps[index] = {
      ...before,
      step,
      name,
      status: chunk.status === 'completed' ? 'completed' : 'started',
      progress: (before?.progress ?? '') + ((isProgress && chunk.detail) || ''),
      ...(!isProgress && chunk.detail !== undefined && { detail: chunk.detail }),
      ...(finishReason !== undefined && { finishReason }),
      ...(durationMs !== undefined && { durationMs }),
    };
    this.#stepsChanged = true;
  }
}
