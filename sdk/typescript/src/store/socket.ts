import type { SocketClient, StreamClient } from './client.js';

interface Shared {
  socket: Promise<SocketClient>;
  holders: number;
}

/** One socket for all sessions that are shown over one, for as long as any is. */
const shared = new WeakMap<StreamClient, Shared>();

/** The socket, and what gives it back, which closes it after the last one. Throws StreamError. */
export async function takeSocket(
  client: StreamClient,
): Promise<readonly [socket: SocketClient, release: () => Promise<void>]> {
  let known = shared.get(client);
  // One that has spent its retries never comes back.
  if (known === undefined || (await known.socket).state === 'closed') {
    known = { socket: client.realtime(), holders: 0 };
    shared.set(client, known);
    known.socket.catch(() => shared.delete(client));
  }
  const mine = known;
  mine.holders += 1;
  const release = async (): Promise<void> => {
    mine.holders -= 1;
    if (mine.holders === 0) {
      if (shared.get(client) === mine) {
        shared.delete(client);
      }
      await (await mine.socket).close();
    }
  };
  return [await mine.socket, release];
}
