/** A client, a server, and a network that hands over what it is told to. */
import { ChunkFeed, EventFeed, type Feed } from '../../src/core/realtime/consumers.js';
import { RealtimeState } from '../../src/core/realtime/socket-machine.js';
import { Retries } from '../../src/core/retry.js';
import type { Chunk, PlatformEvent } from '../../src/types.js';
import { ModelServer, ModelSocket } from './model-server.js';

export class World {
  now = 0;
  readonly server = new ModelServer();
  readonly state: RealtimeState;
  readonly got = new Map<Feed<unknown>, unknown[]>();
  socket: ModelSocket | undefined;

  constructor(retries = 100_000) {
    const backoff = { base: 0.1, cap: 0.1 };
    this.state = new RealtimeState(() => new Retries(retries, backoff, () => 0.5));
  }

  connect(): ModelSocket {
    if (!this.socket) {
      this.socket = new ModelSocket(this.server);
      this.state.linkUp();
    }
    return this.socket;
  }

  /** The link breaks; so many texts of the client's still arrive, no answer does. */
  cut(reaching = 0): void {
    if (!this.socket) return;
    this.send(reaching);
    this.socket = undefined;
    this.state.linkDown();
  }

  send(most = 1000): void {
    for (let count = 0; count < most && this.socket; count += 1) {
      const text = this.state.asks.outbox.shift();
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

  start<F extends Feed<unknown>>(feed: F): F {
    this.got.set(feed, []);
    this.state.start(feed);
    return feed;
  }

  consume(feed: Feed<unknown>, most = 1000): void {
    for (let count = 0; count < most && feed.waiting; count += 1) {
      this.got.get(feed)?.push(feed.take());
      this.state.taken(feed);
    }
  }

  /** Without further trouble, until nothing happens any more. */
  settle(): void {
    for (let quiet = 0; quiet < 3; ) {
      this.now += 10;
      this.state.asks.tick(this.now);
      const before = this.#measure();
      for (const id of this.server.sessions.keys()) this.server.grow(id);
      this.exchange();
      const moved = this.connect().pump(10);
      this.deliver();
      for (const feed of this.got.keys()) this.consume(feed);
      quiet = moved || before !== this.#measure() ? 0 : quiet + 1;
    }
  }

  positions(feed: ChunkFeed): number[] {
    return (this.got.get(feed) as Chunk[]).map((chunk) => chunk.position);
  }

  ids(feed: EventFeed): string[] {
    return (this.got.get(feed) as PlatformEvent[]).map((event) => event.id);
  }

  #measure(): string {
    const logs = [...this.server.sessions.values()].map((log) => log.chunks.length);
    const got = [...this.got.values()].map((items) => items.length);
    return JSON.stringify([logs, got, this.connect().heard.length]);
  }
}

export function eventsFeed(
  channels: string[],
  {
    since,
    most = 1000,
    earliest = false,
  }: { since?: string; most?: number; earliest?: boolean } = {},
): EventFeed {
  return new EventFeed(channels, {}, since, earliest, most);
}

export function turnFeed(
  session?: string,
  { most = 1000, key }: { most?: number; key?: string } = {},
) {
  const body = { agent_id: 'a', goal: 'g', ...(session && { session_id: session }) };
  return new ChunkFeed({ body, key, raiseOnError: false }, most);
}

export function watchFeed(sessionId: string, resumeFrom?: number, most = 1000): ChunkFeed {
  return new ChunkFeed({ sessionId, resumeFrom, raiseOnError: false }, most);
}
