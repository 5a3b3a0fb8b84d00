import { InternalError, NotFound } from '../errors.js';
import type { ExecuteStreamParams, StreamControls } from '../types.js';
import type { StreamClient } from './stream-client.js';

/** Where a turn is that the server has taken. */
export interface AcceptedTurn {
  readonly sessionId: string;
  readonly turn: number;
}

/**
 * Has the server take a turn, and leaves it running there: its chunks are for others to read.
 *
 * Throws the StreamError of a refusal, and the reason of the signal when that aborts.
 */
export async function beginTurn(
  client: StreamClient,
  params: ExecuteStreamParams,
  controls: StreamControls,
): Promise<AcceptedTurn> {
  const stream = await client.sessions.executeStream(params, controls);
  const { sessionId, turn } = stream;
  await stream.close();
  if (sessionId === undefined || turn === undefined) {
    throw new InternalError('the server has not named the turn');
  }
  return { sessionId, turn };
}

/** Cancels the turn of a key, if there is one. */
export async function cancelByKey(client: StreamClient, idempotencyKey: string): Promise<void> {
  try {
    await client.sessions.cancel({ idempotencyKey });
  } catch (error) {
    if (!(error instanceof NotFound)) {
      throw error;
    }
    // The server has never heard of it, and now never will.
  }
}
