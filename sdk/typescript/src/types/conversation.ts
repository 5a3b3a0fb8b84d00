/** A session as a conversation: messages with parts, forks, and the turns that wait for others. */
import type { JsonObject, Page } from './base.js';
import type { TurnStatus, Usage } from './chunks.js';

/**
 * A part of a message: `type` is text, reasoning, tool_call, step, source, file, data, user_message,
 * input_required or error. Its other fields are named as on the wire (PROTOCOL.md, section 4).
 */
export interface MessagePart {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A goal of the user, or the agent's answer to it. */
export interface Message {
  readonly id: string;
  readonly role: 'user' | 'assistant';
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus | 'queued' | 'running' | 'waiting';
  readonly parts: readonly MessagePart[];
  readonly metadata?: JsonObject;
  readonly usage?: Usage;
  readonly truncated?: boolean;
  /** The turn that has regenerated it. */
  readonly replacedBy?: number;
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
