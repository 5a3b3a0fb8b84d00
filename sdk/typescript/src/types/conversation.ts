/** A session as a conversation: messages with parts, forks, and the turns that wait for others. */
import type { JsonObject, Page } from './base.js';
import type { Ask, InputChunk, TurnStatus, Usage } from './chunks.js';

/** What every part has; its fields are named as on the wire (PROTOCOL.md, section 4). */
interface PartBase {
  /** The sub-agent that made it. */
  readonly agent_id?: string;
  /** The `call_id` of the tool call that started the sub-agent. */
  readonly parent?: string;
}

/** Neighbouring pieces of one kind, joined. */
interface ContentPart extends PartBase {
  readonly type: 'text' | 'reasoning';
  readonly content: string;
}

/** A tool call, with its result once that has come. */
interface ToolCallPart extends PartBase {
  readonly type: 'tool_call';
  readonly tool: string;
  readonly args: JsonObject;
  readonly call_id: string;
  readonly result?: unknown;
  /** There with the result. */
  readonly is_error?: boolean;
}

interface StepPart extends PartBase {
  readonly type: 'step';
  readonly step: number;
  readonly name: string;
  readonly status: 'started' | 'completed';
  /** The details of its progress, joined. */
  readonly progress?: string;
  readonly detail?: string;
  readonly finish_reason?: string;
  readonly duration_ms?: number;
}

interface SourcePart extends PartBase {
  readonly type: 'source';
  readonly url: string;
  readonly title?: string;
}

interface FilePart extends PartBase {
  readonly type: 'file';
  readonly file_id: string;
  readonly name: string;
  readonly content_type: string;
  /** In bytes. */
  readonly size: number;
}

/** The newest value of its `name` and `id`. */
interface DataPart extends PartBase {
  readonly type: 'data';
  readonly name: string;
  readonly id?: string;
  readonly data: unknown;
}

/** What the user said to the turn while it was open. */
interface UserMessagePart extends PartBase {
  readonly type: 'user_message';
  readonly message_id: string;
  readonly content: string;
  readonly taken: boolean;
}

/** An ask, with its answer once that has come. */
interface InputRequiredPart extends PartBase {
  readonly type: 'input_required';
  readonly call_id: string;
  readonly kind: Ask['kind'];
  readonly status: 'open' | InputChunk['status'];
  readonly tool?: string;
  readonly args?: JsonObject;
  readonly message?: string;
  readonly schema?: JsonObject;
  readonly expires_at: string;
  readonly approved?: boolean;
  readonly payload?: unknown;
  readonly reason?: string;
}

interface ErrorPart extends PartBase {
  readonly type: 'error';
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly request_id?: string;
  readonly retry_after?: number;
}

/** A part of a message. A newer server may send types that are not listed here. */
export type MessagePart =
  | ContentPart
  | ToolCallPart
  | StepPart
  | SourcePart
  | FilePart
  | DataPart
  | UserMessagePart
  | InputRequiredPart
  | ErrorPart;

/** A goal of the user, or the agent's answer to it. */
export interface Message {
  readonly id: string;
  readonly role: 'user' | 'assistant';
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus | 'queued' | 'running' | 'waiting';
  readonly parts: readonly MessagePart[];
  readonly metadata?: JsonObject;
  readonly usage?: Usage | null;
  readonly truncated?: boolean | null;
  /** The turn that has regenerated it. */
  readonly replacedBy?: number | null;
  readonly createdAt: string;
  readonly position?: number;
}

/** Messages, the oldest first; `nextCursor` asks for older ones. */
export interface MessagePage extends Page<Message> {
  /** The last chunk that the messages show, to join from; null on older pages. */
  readonly position: number | null;
}

export interface MessagesParams {
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** A message to an open turn: `turn` is the turn that it is for. */
export interface PostedMessage {
  readonly sessionId: string;
  readonly turn: number;
  readonly messageId: string;
}

export interface ForkParams {
  /** The last turn that the fork begins with; else the last that has ended. */
  turn?: number | undefined;
  metadata?: JsonObject | undefined;
}

/** A turn that waits for others. */
export interface QueuedTurn {
  readonly turn: number;
  readonly goal: string;
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly metadata: JsonObject;
  readonly maxSteps: number;
  readonly timeoutSeconds: number;
  readonly queuedAt: string;
}

/** What a turn that waits shall have instead. */
export interface QueuedChanges {
  goal?: string | undefined;
  metadata?: JsonObject | undefined;
  model?: string | null | undefined;
  tools?: readonly string[] | null | undefined;
  maxSteps?: number | undefined;
  timeoutSeconds?: number | undefined;
}
