/** A client, a server, and a network that hands over what it is told to. */
import { ChunkConsumer, type Consumer, EventConsumer } from '../../src/core/realtime/consumers.js';
import { SocketMachine } from '../../src/core/realtime/socket-machine.js';
import type { Chunk, PlatformEvent } from '../../src/types.js';
import { ModelServer, ModelSocket } from './model-server.js';

export class World {
  now = 0;
  readonly server = new ModelServer();
  readonly state: SocketMachine;
  readonly got = new Map<Consumer<unknown>, unknown[]>();
  socket: ModelSocket | undefined;

  constructor(retries = 100_000) {
    const backoff = { base: 0.1, cap: 0.1 };
    this.state = new SocketMachine({ maxRetries: retries, backoff, random: () => 0.5 });
  }

  connect(): ModelSocket {
    if (!this.socket) {
      this.socket = new ModelSocket(this.server);
      this.state.socketOpened();
    }
    return this.socket;
  }

  /** The link breaks; so many texts of the client's still arrive, no answer does. */
  cut(reaching = 0): void {
    if (!this.socket) return;
    this.send(reaching);
    this.socket = undefined;
    this.state.socketClosed();
  }

  send(most = 1000): void {
    for (let count = 0; count < most && this.socket; count += 1) {
      const text = this.state.requests.outbox.shift();
      if (text === undefined) return;
      this.socket.receive(text);
    }
  }

  deliver(most = 1000): void {
    for (let count = 0; count < most; count += 1) {
      const text = this.socket?.out.shift();
      if (text === undefined) return;
      this.state.receive(text, this.now);
    }
  }

  /** Everything said so far is heard and answered. */
  exchange(): void {
    this.connect();
    this.send();
    this.deliver();
  }

  start<F extends Consumer<unknown>>(consumer: F): F {
    this.got.set(consumer, []);
    this.state.start(consumer);
    return consumer;
  }

  consume(consumer: Consumer<unknown>, most = 1000): void {
    for (let count = 0; count < most && consumer.waiting; count += 1) {
      this.got.get(consumer)?.push(consumer.take());
      this.state.taken(consumer);
    }
  }

  /** Without further trouble, until nothing happens any more. */
  settle(): void {
    for (let quiet = 0; quiet < 3; ) {
      this.now += 10;
      this.state.requests.sendDue(this.now);
      const before = this.#measure();
      for (const id of this.server.sessions.keys()) this.server.grow(id);
      this.exchange();
      const moved = this.connect().pump(10);
      this.deliver();
      for (const consumer of this.got.keys()) this.consume(consumer);
      quiet = moved || before !== this.#measure() ? 0 : quiet + 1;
    }
  }

  positions(consumer: ChunkConsumer): number[] {
    return (this.got.get(consumer) as Chunk[]).map((chunk) => chunk.position);
  }

  ids(consumer: EventConsumer): string[] {
    return (this.got.get(consumer) as PlatformEvent[]).map((event) => event.id);
  }

  #measure(): string {
    const logs = [...this.server.sessions.values()].map((log) => log.chunks.length);
    const got = [...this.got.values()].map((items) => items.length);
    return JSON.stringify([logs, got, this.connect().received.length]);
  }
}

export function eventsFeed(
  channels: string[],
  {
    since,
    most = 1000,
    earliest = false,
  }: { since?: string; most?: number; earliest?: boolean } = {},
): EventConsumer {
  return new EventConsumer(channels, {}, since, earliest, most);
}

export function turnFeed(
  session?: string,
  { most = 1000, key }: { most?: number; key?: string } = {},
) {
  const body = { agent_id: 'a', goal: 'g', ...(session && { session_id: session }) };
  return new ChunkConsumer({ body, key, raiseOnError: false }, most);
}

export function watchFeed(sessionId: string, resumeFrom?: number, most = 1000): ChunkConsumer {
  return new ChunkConsumer({ sessionId, resumeFrom, raiseOnError: false }, most);
}
