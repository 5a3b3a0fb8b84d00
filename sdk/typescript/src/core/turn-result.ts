/** The result of a turn from its chunks, for an execute that takes longer than its answer. No I/O. */
import { InternalError } from '../errors.js';
import type { Ask, Chunk, DoneChunk, ErrorInfo, TurnResult, WaitingChunk } from '../types.js';

/** What a turn took, until its end says it. */
export const NOT_COUNTED = {
  steps: 0,
  usage: { inputTokens: 0, outputTokens: 0, steps: 0, durationMs: 0 },
} as const;

/** Reads all chunks of a turn. Throws InternalError if they hold neither its end nor a stop. */
export async function resultOf(chunks: AsyncIterable<Chunk>): Promise<TurnResult> {
  const asks = new Map<string, Ask>();
  let output = '';
  let error: ErrorInfo | undefined;
  let last: WaitingChunk | DoneChunk | undefined;
  for await (const chunk of chunks) {
    if (chunk.type === 'text' && chunk.agentId === undefined) {
      output += chunk.content;
    } else if (chunk.type === 'input_required') {
      const { type, position, ...ask } = chunk;
      asks.set(chunk.callId, ask);
    } else if (chunk.type === 'input') {
      asks.delete(chunk.callId);
    } else if (chunk.type === 'error') {
      const { type, position, ...told } = chunk;
      error = told;
    } else if (chunk.type === 'waiting' || chunk.type === 'done') {
      last = chunk;
    }
  }
  if (last?.type === 'done') {
    const { type, ...done } = last;
    return { ...done, steps: done.usage.steps, ...(error && { error }) };
  }
  if (!last) {
    throw new InternalError('the log does not hold the end of the turn', { retryable: false });
  }
  const { sessionId, turn, position } = last;
  const waiting = [...asks.values()];
  return { sessionId, turn, position, output, ...NOT_COUNTED, status: 'waiting', waiting };
}
