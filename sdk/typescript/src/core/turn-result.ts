/** The result of an execute that is no success in time; loaded on demand. No I/O. */
import { InternalError } from '../errors.js';
import type {
  Ask,
  Chunk,
  DoneChunk,
  ErrorInfo,
  JoinParams,
  TurnResult,
  WaitingChunk,
} from '../types.js';
import { errorFromChunk, snake } from './messages.js';

/** What a turn took, until its end says it. */
const NOT_COUNTED = {
  steps: 0,
  usage: { inputTokens: 0, outputTokens: 0, steps: 0, durationMs: 0 },
} as const;

/**
 * The result, from the chunks of the turn if it had not ended. Throws the error of a turn that failed
 * unless `raiseOnError` is false, and the StreamError of the chunks.
 */
export async function outcomeOf(
  answered: TurnResult,
  sessions: { join(sessionId: string, params: JoinParams): Promise<AsyncIterable<Chunk>> },
  {
    signal,
    raiseOnError = true,
  }: { signal?: AbortSignal | undefined; raiseOnError?: boolean | undefined },
): Promise<TurnResult> {
  let result = answered;
  if (/^(running|queued)$/.test(answered.status)) {
    const params = { turn: answered.turn, compact: true, raiseOnError: false, signal };
    result = await resultOf(await sessions.join(answered.sessionId, params));
  } else if (answered.status === 'waiting') result = { ...NOT_COUNTED, ...answered };
  if (raiseOnError && /^(failed|timeout)$/.test(result.status)) {
    const code = result.status === 'timeout' ? 'TIMEOUT' : 'AGENT_FAILED';
    const { sessionId, position } = result;
    throw errorFromChunk({ code, ...snake(result.error ?? {}) }, { sessionId, position });
  }
  return result;
}

/** Reads all chunks of a turn. Throws InternalError if they hold neither its end nor a stop. */
async function resultOf(chunks: AsyncIterable<Chunk>): Promise<TurnResult> {
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
