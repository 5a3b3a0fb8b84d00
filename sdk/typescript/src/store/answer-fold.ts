/**
 * The answer of a turn as one message with parts, folded from the turn's chunks: the rules of
 * `GET /v1/sessions/{id}/messages` (PROTOCOL.md, section 4; `protocol/messages.yaml`). No I/O.
 */

import { snake } from '../core/messages.js';
import type { JsonObject, Message, MessagePart, Usage } from '../types.js';

/** How much a message holds: parts, characters of their content, and of the progress of one step. */
interface Bounds {
  readonly parts: number;
  readonly chars: number;
  readonly progress: number;
}

/** Those of the server's messages. */
const OF_MESSAGES: Bounds = { parts: 5_000, chars: 1_000_000, progress: 20_000 };
/** For the shown turn, of which nothing is left out. */
export const UNBOUNDED: Bounds = { parts: Infinity, chars: Infinity, progress: Infinity };

type Part = JsonObject & { type: string };
/** The part of a message that follows from chunks. */
export interface FoldedAnswer extends Pick<Message, 'status' | 'parts'> {
  readonly usage?: Usage;
  readonly truncated?: boolean;
}

/** What a fold goes on from: its own message, or one of a page. */
export type Begun = Pick<Message, 'status' | 'parts' | 'usage' | 'truncated'>;

/** Where a chunk stands; on a socket each has its session. */
const DROPPED = new Set(['type', 'position', 'from', 'transient', 'session_id']);
/** Chunks between a `waiting` and the moment at which the turn goes on. */
const WHILE_WAITING = new Set(['waiting', 'input', 'input_required', 'user_message']);
const COPIED = new Set(['tool_call', 'source', 'file', 'user_message', 'error']);
/** Fields of an update that always have room. */
const SHORT = ['status', 'is_error', 'approved', 'duration_ms'];

/**
 * Takes a turn's chunks in order. It can stop at any chunk and go on from its own message, so a
 * client adds the chunks of a stream to the newest message of a page. Chunks of unknown types change
 * nothing.
 */
export class AnswerFold {
  #status: Message['status'];
  #usage: Usage | undefined;
  #truncated: boolean;
  readonly #bounds: Bounds;
  /** A part that changes is replaced. */
  readonly #parts: Part[] = [];
  #size = 0;
  // The indices of parts that later chunks change.
  readonly #calls = new Map<string, number[]>();
  readonly #callIds = new Set<string>();
  readonly #asked = new Map<string, number>();
  readonly #steps = new Map<number, number>();
  readonly #data = new Map<string, number>();

  /** Begins a turn, or goes on from a message. */
  constructor(message: Begun = { status: 'running', parts: [] }, bounds: Bounds = OF_MESSAGES) {
    this.#bounds = bounds;
    this.#status = message.status;
    this.#usage = message.usage ?? undefined;
    this.#truncated = message.truncated ?? false;
    for (const part of message.parts) this.#push(part as unknown as Part);
  }

  get status(): Message['status'] {
    return this.#status;
  }

  /**
   * `status` and `parts`, and `usage` and `truncated` where there is something to say. A part that has
   * not changed is the same object as before.
   */
  get message(): FoldedAnswer {
    return {
      status: this.#status,
      parts: [...this.#parts] as unknown as MessagePart[],
      ...(this.#usage && { usage: this.#usage }),
      ...(this.#truncated && { truncated: true }),
    };
  }

  /** Adds the next chunk, with its fields named as on the wire or as this SDK names them. */
  add(given: object): void {
    const chunk = snake(given);
    const type = String(chunk.type);
    if (this.#status === 'waiting' && !WHILE_WAITING.has(type)) this.#status = 'running';
    if (type === 'text' || type === 'reasoning') this.#text(type, chunk);
    else if (COPIED.has(type)) this.#new(type, chunk);
    else if (type === 'tool_result') this.#answered(chunk);
    else if (type === 'step') this.#step(chunk);
    else if (type === 'data') this.#named(chunk);
    else if (type === 'input_required') this.#new(type, chunk, { status: 'open' });
    else if (type === 'input') this.#input(chunk);
    else if (type === 'waiting') this.#status = 'waiting';
    else if (type === 'done') {
      this.#status = chunk.status as Message['status'];
      this.#usage = chunk.usage as Usage;
    }
  }

  #text(type: string, chunk: JsonObject): void {
    const content = String(chunk.content ?? '');
    const last = this.#parts.at(-1);
    const begun = last?.type === type && sameAuthor(last, chunk) ? last : undefined;
    if (!begun && (!content || !this.#hasRoom())) return;
    const room = this.#truncated ? 0 : this.#bounds.chars - this.#size;
    if (content.length > room) this.#truncated = true;
    if (room <= 0) return;
    const kept = content.slice(0, room);
    if (begun) {
      this.#parts[this.#parts.length - 1] = { ...begun, content: `${begun.content}${kept}` };
      this.#size += kept.length;
    } else {
      this.#push({ type, content: kept, ...author(chunk) });
    }
  }

  /** A part with the fields of the chunk, unless the message is full. */
  #new(type: string, chunk: JsonObject, more: JsonObject = {}): void {
    if (!this.#hasRoom()) return;
    const part = { type, ...fieldsOf(chunk), ...more };
    if (this.#size + this.#sizeOf(part) > this.#bounds.chars) this.#truncated = true;
    else this.#push(part);
  }

  #hasRoom(): boolean {
    this.#truncated ||= this.#parts.length >= this.#bounds.parts;
    return !this.#truncated;
  }

  /** Adds a part, and notes where later chunks find it. */
  #push(part: Part): void {
    const index = this.#parts.push(part) - 1;
    this.#size += this.#sizeOf(part);
    const callId = String(part.call_id);
    if (part.type === 'tool_call') {
      this.#callIds.add(callId);
      if (part.is_error === undefined) {
        this.#calls.set(callId, [...(this.#calls.get(callId) ?? []), index]);
      }
    } else if (part.type === 'input_required' && part.status === 'open') {
      this.#asked.set(callId, index);
    } else if (part.type === 'step' && part.status !== 'completed') {
      this.#steps.set(Number(part.step), index);
    } else if (part.type === 'data' && part.id) {
      this.#data.set(JSON.stringify([part.name, part.id]), index);
    }
  }

  #answered(chunk: JsonObject): void {
    const callId = String(chunk.call_id);
    const call = this.#calls.get(callId)?.shift();
    if (call !== undefined)
      this.#update(call, { result: chunk.result, is_error: chunk.is_error === true });
    else if (!this.#callIds.has(callId)) this.#new('tool_call', chunk, { args: {} });
  }

  #step(chunk: JsonObject): void {
    const number = Number(chunk.step);
    const index = this.#steps.get(number);
    if (index === undefined) {
      if (chunk.status !== 'started') return;
      const { turn, agent_id, ...others } = chunk;
      // The first step of a turn names the turn and its own agent.
      this.#new('step', turn === undefined ? chunk : others);
    } else if (chunk.status === 'progress') {
      const { progress } = this.#bounds;
      const shown = String(this.#parts[index]?.progress ?? '');
      if (shown.length >= progress) return;
      this.#update(index, { progress: `${shown}${chunk.detail ?? ''}`.slice(0, progress) });
    } else {
      if (chunk.status === 'completed') this.#steps.delete(number);
      const names = ['status', 'duration_ms', 'detail', 'finish_reason'];
      this.#update(index, picked(chunk, names));
    }
  }

  #named(chunk: JsonObject): void {
    if (chunk.transient) return;
    const index = chunk.id ? this.#data.get(JSON.stringify([chunk.name, chunk.id])) : undefined;
    if (index !== undefined) this.#update(index, { data: chunk.data });
    else this.#new('data', chunk);
  }

  #input(chunk: JsonObject): void {
    const index = this.#asked.get(String(chunk.call_id));
    if (index === undefined) return;
    this.#asked.delete(String(chunk.call_id));
    this.#update(index, { ...fieldsOf(chunk), status: chunk.status ?? 'answered' });
  }

  /** Adds to a part; fields for which there is no room are left out. */
  #update(index: number, fields: JsonObject): void {
    const part = this.#parts[index];
    if (!part) return;
    let changed = { ...part, ...fields };
    const before = this.#sizeOf(part);
    if (this.#size + this.#sizeOf(changed) - before > this.#bounds.chars) {
      this.#truncated = true;
      changed = { ...part, ...picked(fields, SHORT) };
    }
    this.#parts[index] = changed;
    this.#size += this.#sizeOf(changed) - before;
  }

  /** About the characters of a part's content. */
  #sizeOf(part: Part): number {
    if (this.#bounds === UNBOUNDED) return 0;
    const isText = part.type === 'text' || part.type === 'reasoning';
    return isText ? String(part.content).length : JSON.stringify(part).length;
  }
}

function fieldsOf(chunk: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(chunk).filter(([name]) => !DROPPED.has(name)));
}

function picked(fields: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(
    names.flatMap((name) => (name in fields ? [[name, fields[name]]] : [])),
  );
}

function author(chunk: JsonObject): JsonObject {
  return picked(chunk, ['agent_id', 'parent']);
}

function sameAuthor(part: Part, chunk: JsonObject): boolean {
  return part.agent_id === chunk.agent_id && part.parent === chunk.parent;
}
