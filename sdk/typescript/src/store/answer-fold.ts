/**
 * The answer of a turn as one message with parts, folded from the turn's chunks: the rules of
 * `GET /v1/sessions/{id}/messages` (PROTOCOL.md, section 4; `protocol/messages.yaml`). No I/O.
 */

import { snake } from '../core/messages.js';
import type { JsonObject, Message, MessagePart } from '../types.js';

/** Parts of one message, characters of their content, and of the progress of one step. */
const MAX_PARTS = 5_000;
const MAX_CHARS = 1_000_000;
const MAX_PROGRESS = 20_000;

type Part = JsonObject & { type: string };
/** The part of a message that follows from chunks. */
export type FoldedAnswer = Pick<Message, 'status' | 'parts'> &
  Partial<Pick<Message, 'usage' | 'truncated'>>;

const DROPPED = new Set(['type', 'position', 'from', 'transient']);
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
  #usage: Message['usage'];
  #truncated: boolean;
  readonly #parts: Part[] = [];
  #size = 0;
  readonly #calls = new Map<string, Part[]>();
  readonly #callIds = new Set<string>();
  readonly #asked = new Map<string, Part>();
  readonly #steps = new Map<number, Part>();
  readonly #data = new Map<string, Part>();

  /** Begins a turn, or goes on from a message. */
  constructor(message: FoldedAnswer = { status: 'running', parts: [] }) {
    this.#status = message.status;
    this.#usage = message.usage;
    this.#truncated = message.truncated ?? false;
    for (const part of message.parts) this.#push({ ...part });
  }

  /** `status` and `parts`, and `usage` and `truncated` where there is something to say. */
  get message(): FoldedAnswer {
    return {
      status: this.#status,
      parts: this.#parts.map((part) => ({ ...part })),
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
      this.#usage = chunk.usage as Message['usage'];
    }
  }

  #text(type: string, chunk: JsonObject): void {
    const content = String(chunk.content ?? '');
    let last = this.#parts.at(-1);
    if (last?.type !== type || !sameAuthor(last, chunk)) {
      if (!content || !this.#hasRoom()) return;
      if (this.#size >= MAX_CHARS) {
        this.#truncated = true;
        return;
      }
      last = { type, content: '', ...author(chunk) };
      this.#push(last);
    }
    const room = this.#truncated ? 0 : MAX_CHARS - this.#size;
    if (content.length > room) this.#truncated = true;
    const kept = content.slice(0, room);
    last.content = `${last.content}${kept}`;
    this.#size += kept.length;
  }

  /** A part with the fields of the chunk, unless the message is full. */
  #new(type: string, chunk: JsonObject, more: JsonObject = {}): void {
    if (!this.#hasRoom()) return;
    const part = { type, ...fieldsOf(chunk), ...more };
    if (this.#size + sizeOf(part) > MAX_CHARS) this.#truncated = true;
    else this.#push(part);
  }

  #hasRoom(): boolean {
    this.#truncated ||= this.#parts.length >= MAX_PARTS;
    return !this.#truncated;
  }

  /** Adds a part, and notes where later chunks find it. */
  #push(part: Part): void {
    this.#parts.push(part);
    this.#size += sizeOf(part);
    const callId = String(part.call_id);
    if (part.type === 'tool_call') {
      this.#callIds.add(callId);
      if (part.is_error === undefined) {
        this.#calls.set(callId, [...(this.#calls.get(callId) ?? []), part]);
      }
    } else if (part.type === 'input_required' && part.status === 'open') {
      this.#asked.set(callId, part);
    } else if (part.type === 'step' && part.status !== 'completed') {
      this.#steps.set(Number(part.step), part);
    } else if (part.type === 'data' && part.id) {
      this.#data.set(JSON.stringify([part.name, part.id]), part);
    }
  }

  #answered(chunk: JsonObject): void {
    const callId = String(chunk.call_id);
    const call = this.#calls.get(callId)?.shift();
    if (call) this.#update(call, { result: chunk.result, is_error: chunk.is_error === true });
    else if (!this.#callIds.has(callId)) this.#new('tool_call', chunk, { args: {} });
  }

  #step(chunk: JsonObject): void {
    const number = Number(chunk.step);
    const part = this.#steps.get(number);
    if (!part) {
      if (chunk.status !== 'started') return;
      const { session_id: first, turn, agent_id, ...others } = chunk;
      // The first step of a turn names the turn's own agent.
      this.#new('step', first === undefined ? chunk : others);
    } else if (chunk.status === 'progress') {
      const shown = String(part.progress ?? '');
      if (shown.length >= MAX_PROGRESS) return;
      const joined = `${shown}${chunk.detail ?? ''}`.slice(0, MAX_PROGRESS);
      this.#update(part, { progress: joined });
    } else {
      if (chunk.status === 'completed') this.#steps.delete(number);
      const names = ['status', 'duration_ms', 'detail', 'finish_reason'];
      this.#update(part, picked(chunk, names));
    }
  }

  #named(chunk: JsonObject): void {
    if (chunk.transient) return;
    const part = chunk.id ? this.#data.get(JSON.stringify([chunk.name, chunk.id])) : undefined;
    if (part) this.#update(part, { data: chunk.data });
    else this.#new('data', chunk);
  }

  #input(chunk: JsonObject): void {
    const part = this.#asked.get(String(chunk.call_id));
    if (!part) return;
    this.#asked.delete(String(chunk.call_id));
    this.#update(part, { ...fieldsOf(chunk), status: chunk.status ?? 'answered' });
  }

  /** Adds to a part; fields for which there is no room are left out. */
  #update(part: Part, fields: JsonObject): void {
    const before = sizeOf(part);
    let fitting = fields;
    if (this.#size + sizeOf({ ...part, ...fields }) - before > MAX_CHARS) {
      this.#truncated = true;
      fitting = picked(fields, SHORT);
    }
    Object.assign(part, fitting);
    this.#size += sizeOf(part) - before;
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

function sameAuthor(part: MessagePart, chunk: JsonObject): boolean {
  return part.agent_id === chunk.agent_id && part.parent === chunk.parent;
}

/** About the characters of a part's content. */
function sizeOf(part: MessagePart): number {
  const isText = part.type === 'text' || part.type === 'reasoning';
  return isText ? String(part.content).length : JSON.stringify(part).length;
}
