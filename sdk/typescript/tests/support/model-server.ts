/**
 * The server's half of a socket (PROTOCOL.md, section 6) as plain objects.
 *
 * `ModelServer` holds the logs; a `ModelSocket` takes the client's texts and has the server's ready
 * in `out`. Nothing is sent by itself: `pump` moves a subscription on, so that a test decides what
 * has arrived when a link is cut.
 */
import type { JsonObject } from '../../src/types.js';

/** A session: its chunks, and its turns with the goals they are for. */
export class Log {
  readonly chunks: JsonObject[] = [];
  readonly goals: unknown[] = [];

  get dones(): number {
    return this.chunks.filter((chunk) => chunk.type === 'done').length;
  }

  /** The place before a turn's first chunk, as far as it is known. */
  begin(turn: number): number {
    const ends = this.chunks.filter((chunk) => chunk.type === 'done').map((one) => one.position);
    return turn === 1 ? 0 : ((ends[turn - 2] as number | undefined) ?? this.chunks.length);
  }
}

/** What is durable: events, sessions, keys. */
export class ModelServer {
  readonly events: JsonObject[] = [];
  readonly sessions = new Map<string, Log>();
  readonly keys = new Map<unknown, [string, number]>();
  epoch = 'e1';
  earliest = 0;
  busy = 0;
  executes = 0;

  publish(channel: string): void {
    const number = this.events.length + 1;
    const cursor = `c_${number}`;
    this.events.push({ id: `evt_${number}`, type: `${channel}.x`, channel, data: {}, cursor });
  }

  session(id: string): Log {
    const log = this.sessions.get(id) ?? new Log();
    this.sessions.set(id, log);
    return log;
  }

  /** The next chunk of the session's running turn; each has a step, two texts, a done. */
  grow(id: string): void {
    const log = this.session(id);
    const turn = log.dones + 1;
    if (turn > log.goals.length) return;
    const kinds: JsonObject[] = [
      { type: 'step', step: 1, turn, status: 'started' },
      { type: 'text', content: `${turn}a` },
      { type: 'text', content: `${turn}b` },
      { type: 'done', turn, status: 'success' },
    ];
    const kind = kinds[log.chunks.length - log.begin(turn)];
    log.chunks.push({ ...kind, position: log.chunks.length + 1, session_id: id });
  }

  /** The turn of an execute, made at most once for its key. */
  beginTurn({ idempotency_key: key, session_id: named, goal }: JsonObject): [string, number] {
    const known = this.keys.get(key);
    if (known) return known;
    this.executes += 1;
    const id = (named as string | undefined) ?? `sess_${this.sessions.size + 1}`;
    const made: [string, number] = [id, this.session(id).goals.push(goal)];
    this.keys.set(key, made);
    return made;
  }

  /** A session `sess_1` with so many turns that are over. */
  withTurns(count: number): void {
    for (let turn = 0; turn < count; turn += 1) {
      this.beginTurn({ idempotency_key: `k${turn}`, session_id: 'sess_1', goal: 'g' });
      for (let chunk = 0; chunk < 4; chunk += 1) this.grow('sess_1');
    }
    this.executes = 0;
  }
}

interface Sub {
  channels: string[];
  after: number;
  /** Over with that turn's done. */
  until?: number;
  /** Silent before that turn. */
  skip?: number;
}

/** One connection. */
export class ModelSocket {
  readonly out: string[] = [];
  readonly received: JsonObject[] = [];
  readonly #server: ModelServer;
  #subs: Sub[] = [];

  constructor(server: ModelServer) {
    this.#server = server;
  }

  receive(text: string): void {
    const message = JSON.parse(text);
    this.received.push(message);
    this.#say({ ...this.#answer(message), ...(message.id && { id: message.id }) });
  }

  /** Sends up to `most` entries of every subscription; how many there were. */
  pump(most = 1): number {
    let sent = 0;
    for (let round = 0; round < most; round += 1) {
      for (const sub of [...this.#subs]) if (this.#step(sub)) sent += 1;
    }
    return sent;
  }

  /** The server ends a subscription by itself. */
  end(channel: string, code: string, more: JsonObject = {}): void {
    this.#leave([channel]);
    this.#say({ type: 'error', code, details: { channels: [channel] }, ...more });
  }

  /** Tells quiet subscriptions where they are. */
  cursors(): void {
    for (const { channels, after } of this.#subs) {
      if (!isSession(channels) && after === this.#server.events.length) {
        this.#say({ type: 'cursor', cursor: `c_${after}`, channels });
      }
    }
  }

  #answer(message: JsonObject): JsonObject {
    const channels = (message.channels ?? []) as string[];
    switch (message.type) {
      case 'subscribe':
        return isSession(channels)
          ? this.#subscribeSession(channels, message)
          : this.#subscribe(channels, message);
      case 'unsubscribe':
        this.#leave(channels);
        return { type: 'unsubscribed', channels };
      case 'execute':
        return this.#execute(message);
      case 'cancel':
        return { type: 'cancelled', session_id: message.session_id, turn: 1 };
      default:
        return { type: 'pong' };
    }
  }

  #subscribe(channels: string[], { since }: JsonObject): JsonObject {
    const { events, earliest } = this.#server;
    const after = since === undefined ? events.length : Number(String(since).slice(2));
    if (after < earliest) {
      return { type: 'error', code: 'POSITION_EXPIRED', details: { earliest: `c_${earliest}` } };
    }
    this.#leave(channels);
    this.#subs.push({ channels: [...channels], after });
    return { type: 'subscribed', channels, cursor: `c_${after}` };
  }

  #subscribeSession(channels: string[], { resume_from: place }: JsonObject): JsonObject {
    const log = this.#server.sessions.get(idOf(channels));
    if (!log) return { type: 'error', code: 'SESSION_NOT_FOUND', message: 'no such session' };
    const standing = this.#subs.find((sub) => sub.channels[0] === channels[0])?.after;
    const after = (place as number) ?? standing ?? log.begin(Math.max(log.goals.length, 1));
    this.#leave(channels);
    this.#subs.push({ channels: [...channels], after });
    return { type: 'subscribed', channels, position: after, epoch: this.#server.epoch };
  }

  #execute(message: JsonObject): JsonObject {
    if (this.#server.busy) {
      this.#server.busy -= 1;
      return { type: 'error', code: 'RATE_LIMITED', message: 'm', retry_after: 0.5 };
    }
    const [id, turn] = this.#server.beginTurn(message);
    const channels = [`session:${id}`];
    const standing = this.#subs.find((sub) => sub.channels[0] === channels[0]);
    if (!standing) {
      const after = this.#server.session(id).begin(turn);
      this.#subs.push({ channels, after, until: turn, skip: turn });
    } else if (standing.until !== undefined) {
      standing.until = Math.max(standing.until, turn);
    }
    return { type: 'started', session_id: id, turn };
  }

  #step(sub: Sub): boolean {
    return isSession(sub.channels) ? this.#stepSession(sub) : this.#stepEvents(sub);
  }

  #stepSession(sub: Sub): boolean {
    const { chunks } = this.#server.session(idOf(sub.channels));
    const chunk = chunks[sub.after];
    if (!chunk) return false;
    const turn = 1 + chunks.slice(0, sub.after).filter((one) => one.type === 'done').length;
    sub.after += 1;
    if (turn >= (sub.skip ?? 0)) this.#say(chunk);
    if (sub.until !== undefined && chunk.type === 'done' && turn >= sub.until) {
      this.#leave([...sub.channels]);
    }
    return true;
  }

  #stepEvents(sub: Sub): boolean {
    const event = this.#server.events[sub.after];
    if (!event) return false;
    sub.after += 1;
    if (sub.channels.includes(event.channel as string)) {
      this.#say({ type: 'event', channel: event.channel, event });
    }
    return true;
  }

  #say(payload: JsonObject): void {
    this.out.push(JSON.stringify(payload));
  }

  #leave(channels: readonly string[]): void {
    for (const sub of this.#subs) {
      sub.channels = sub.channels.filter((name) => !channels.includes(name));
    }
    this.#subs = this.#subs.filter((sub) => sub.channels.length);
  }
}

function isSession([first = '']: readonly string[]): boolean {
  return first.startsWith('session:');
}

function idOf([first = '']: readonly string[]): string {
  return first.slice('session:'.length);
}
