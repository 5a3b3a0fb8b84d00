/** Chunks as the SDK hands them on. */
import type { Chunk, Message, MessagePart, PlatformEvent, TurnStatus } from '../../src/index.js';

export const step = (
  position: number,
  turn?: number,
  status: 'started' | 'completed' = 'started',
) =>
  ({
    type: 'step',
    position,
    step: 1,
    name: 'answer',
    status,
    ...(turn === undefined ? {} : { turn, sessionId: 's1', agentId: 'a' }),
  }) satisfies Chunk;

export const text = (position: number, content: string) =>
  ({ type: 'text', position, content }) satisfies Chunk;

export const failure = (position: number, code = 'AGENT_FAILED') =>
  ({ type: 'error', position, code, message: `it was ${code}`, retryable: false }) satisfies Chunk;

export const done = (position: number, turn: number, status: TurnStatus = 'success') =>
  ({
    type: 'done',
    position,
    sessionId: 's1',
    turn,
    status,
    output: '',
    usage: { inputTokens: 1, outputTokens: 2, steps: 1, durationMs: 3 },
  }) satisfies Chunk;

/** A whole turn: its step, its words, its end, beginning at `position`. */
export function turn(number: number, position: number, ...words: string[]): Chunk[] {
  const texts = words.map((word, index) => text(position + 1 + index, word));
  return [step(position, number), ...texts, done(position + 1 + words.length, number)];
}

export function event(number: number, type: string, data: Record<string, unknown>): PlatformEvent {
  return {
    id: `evt_${number}`,
    type,
    channel: 'sessions',
    createdAt: '2026-01-01T00:00:00.000000Z',
    cursor: `c_${number}`,
    data,
    metadata: {},
  };
}

/** The messages of a turn: its goal, and its answer if it has `parts`. */
export function messages(
  turn: number,
  goal: string,
  parts?: readonly MessagePart[],
  more: Partial<Message> = {},
): Message[] {
  const createdAt = '2026-01-01T00:00:00.000000Z';
  const base = { sessionId: 's1', turn, status: 'success', createdAt, ...more } as const;
  const asked: Message = {
    ...base,
    id: `${turn}.goal`,
    role: 'user',
    parts: [{ type: 'text', content: goal }],
  };
  return parts ? [asked, { ...base, id: `${turn}`, role: 'assistant', parts }] : [asked];
}

/** What a turn says where it asks for leave to call a tool: two chunks. */
export function asking(position: number, turn: number, callId = 'c'): Chunk[] {
  const expiresAt = '2026-12-01T00:00:00Z';
  return [
    { type: 'input_required', position, callId, kind: 'approval', tool: 't', args: {}, expiresAt },
    { type: 'waiting', position: position + 1, sessionId: 's1', turn, calls: [callId] },
  ];
}

export const answered = (position: number, callId = 'c') =>
  ({ type: 'input', position, callId, status: 'answered', approved: true }) satisfies Chunk;

export const data = (position: number, value: unknown, transient = false) =>
  ({
    type: 'data',
    position,
    name: 'progress',
    data: value,
    ...(transient && { transient }),
  }) satisfies Chunk;
