import type { AgentStream, ConnectionState, RealtimeSessionParams } from '../types.js';
import { takeSocket } from './session-connections.js';
import type { StreamClient } from './stream-client.js';

/** A session's chunks for as long as they are read, over a connection of their own. Throws StreamError. */
export function followByHttp(
  client: StreamClient,
  sessionId: string,
  params: RealtimeSessionParams,
): Promise<AgentStream> {
  return client.sessions.join(sessionId, { ...params, follow: true });
}

/** The same, over the socket that a client's sessions share. */
export async function followBySocket(
  client: StreamClient,
  sessionId: string,
  params: RealtimeSessionParams,
): Promise<AgentStream> {
  const [socket, release] = await takeSocket(client);
  const onState = (state: ConnectionState): void => {
    params.onState?.(state);
    if (state === 'closed') {
      void release();
    }
  };
  try {
    return await socket.session(sessionId, { ...params, onState });
  } catch (error) {
    await release();
    throw error;
  }
}
