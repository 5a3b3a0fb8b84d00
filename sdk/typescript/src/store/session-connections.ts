import type { AgentStream, ConnectionState, RealtimeSessionParams } from '../types.js';
import type { SocketClient, StreamClient } from './stream-client.js';

/** A session's chunks, over a connection of their own. Throws StreamError. */
export function followByHttp(
  client: StreamClient,
  sessionId: string,
  params: RealtimeSessionParams,
): Promise<AgentStream> {
  return client.sessions.join(sessionId, { ...params, follow: true });
}

/** A session's chunks, over the socket that a client's sessions share. */
export async function followBySocket(
  client: StreamClient,
  sessionId: string,
  params: RealtimeSessionParams,
): Promise<AgentStream> {
  const [socket, release] = await takeSocket(client);
  const onState = (state: ConnectionState): void => {
    params.onState?.(state);
    if (state === 'closed') void release();
  };
  try {
    return await socket.session(sessionId, { ...params, onState });
  } catch (error) {
    await release();
    throw error;
  }
}

interface Shared {
  readonly socket: Promise<SocketClient>;
  holders: number;
}

/** The shared socket of each client, while it shows a session. */
const shared = new WeakMap<StreamClient, Shared>();

/**
 * The shared socket and a function that releases it. The last release closes the socket. Releasing
 * twice is harmless. Throws StreamError.
 */
async function takeSocket(
  client: StreamClient,
): Promise<readonly [socket: SocketClient, release: () => Promise<void>]> {
  const known = shared.get(client);
  // Hold the socket before the first await, so that no other holder closes it.
  const mine = known ?? start(client);
  const release = hold(client, mine);
  const socket = await mine.socket;
  if (known === undefined || socket.state !== 'closed') return [socket, release];
  // The socket has no retries left and never reconnects.
  await release();
  const next = shared.get(client);
  const other = next === undefined || next === mine ? start(client) : next;
  const releaseOther = hold(client, other);
  return [await other.socket, releaseOther];
}

function start(client: StreamClient): Shared {
  const made = { socket: client.realtime(), holders: 0 };
  shared.set(client, made);
  made.socket.catch(() => shared.delete(client));
  return made;
}

function hold(client: StreamClient, mine: Shared): () => Promise<void> {
  let isHeld = true;
  mine.holders += 1;
  return async () => {
    mine.holders -= isHeld ? 1 : 0;
    const wasLast = isHeld && mine.holders === 0;
    isHeld = false;
    if (wasLast) {
      if (shared.get(client) === mine) shared.delete(client);
      await (await mine.socket).close();
    }
  };
}
