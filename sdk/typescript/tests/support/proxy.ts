/** A TCP proxy that does to a server's answers what bad networks and boxes on the way do. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, Socket } from 'node:net';

/**
 * What becomes of a connection: `pass` leaves it alone; a number cuts it after so many bytes of the
 * answer; `stall` lets nothing more through after the answer's head; `refuse` closes it at once;
 * `buffer` holds an event stream back until its end.
 */
export type Treatment = 'pass' | 'refuse' | 'stall' | 'buffer' | number;

export class EvilProxy {
  /** The treatment of each new connection, in the order in which they come. */
  choose: (connection: number) => Treatment = () => 'pass';
  connections = 0;
  readonly #upstream: () => number;
  readonly #open = new Set<Socket>();
  readonly #server: Server;

  constructor(upstream: () => number) {
    this.#upstream = upstream;
    this.#server = createServer((client) => this.#accept(client));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  /** Cuts what is open now. */
  cut(): void {
    for (const socket of this.#open) socket.resetAndDestroy();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    const how = this.choose(this.connections++);
    this.#keep(client);
    if (how === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    const upstream = new Socket();
    this.#keep(upstream);
    upstream.connect(this.#upstream(), '127.0.0.1');
    client.on('data', (data) => upstream.write(data));
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    downward(how, upstream, client);
  }

  #keep(socket: Socket): void {
    this.#open.add(socket);
    // What breaks is what this is for.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#open.delete(socket));
  }
}

export async function startProxy(upstream: () => number): Promise<EvilProxy> {
  return new EvilProxy(upstream).start();
}

function downward(how: Treatment, upstream: Socket, client: Socket): void {
  let left = typeof how === 'number' ? how : Number.POSITIVE_INFINITY;
  upstream.on('data', (data) => {
    // An answer's head comes by itself, or first in its piece.
    const streams = how === 'stall' && data.includes('content-type: text/event-stream');
    if (streams) left = data.indexOf('\r\n\r\n') + 4;
    const part = data.subarray(0, left);
    left -= part.length;
    client.write(part);
    if (left <= 0 && how !== 'stall') client.resetAndDestroy();
  });
}
