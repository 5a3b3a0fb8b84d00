/** Sessions and turns on a socket: a session's chunks come once, whoever reads them here. */
import { ConnectionLost, PositionExpired, type StreamError } from '../../errors.js';
import type { JsonObject } from '../../types.js';
import { asCount, asText } from '../messages.js';
import { positionOf } from '../sequence.js';
import type { ChunkFeed } from './consumers.js';
import type { Ask, Asks } from './pending-requests.js';
import { type NewRetries, Topic } from './subscription.js';

/** Of so many of a session's newest turns it is known where they begin. */
const KNOWN_TURNS = 4;

/** One session. */
export class SessionTopic extends Topic {
  readonly sessionId: string;
  feeds: ChunkFeed[] = [];
  #last = 0;
  #epoch: string | undefined;
  /** The places before its newest turns, as far as they were seen. */
  readonly #begun = new Map<number, number>([[1, 0]]);

  constructor(sessionId: string, asks: Asks, newRetries: NewRetries) {
    super([`session:${sessionId}`], asks, newRetries);
    this.sessionId = sessionId;
  }

  /** From the place of whoever has least; the others drop what they know. */
  protected message(): JsonObject {
    const reading = this.feeds.filter((feed) => !feed.parked);
    const known = reading.flatMap(({ place }) => (place === undefined ? [] : [place]));
    return {
      type: 'subscribe',
      channels: this.channels,
      ...(known.length > 0 && { resume_from: Math.min(...known) }),
      ...(reading.length > 0 && reading.every((feed) => feed.compact) && { compact: true }),
    };
  }

  protected subscribed(answer: JsonObject): void {
    const epoch = asText(answer.epoch);
    if (epoch && this.#epoch && epoch !== this.#epoch) {
      throw new PositionExpired(
        "the server's store was replaced, positions from before mean nothing",
        { details: { epoch }, sessionId: this.sessionId },
      );
    }
    this.#epoch = epoch ?? this.#epoch;
    for (const feed of this.feeds) feed.placed(asCount(answer.position) ?? 0);
  }

  /**
   * A turn of this session was started for `feed`; `followed`: the server does not begin with it,
   * but goes on from where its subscription has got.
   */
  join(feed: ChunkFeed, turn: number, followed: boolean): void {
    const begin = this.#begun.get(turn);
    const newest = Math.max(...this.#begun.keys(), ...this.feeds.map((one) => one.turn ?? 0));
    if (begin === undefined && followed && (turn < newest || feed.ownKey)) {
      // Followed from behind the turn's beginning, which only the log knows: it is looked for from
      // the last one before it that is known.
      const before = [...this.#begun].filter(([known]) => known < turn);
      feed.seekFrom = Math.max(0, ...before.map(([, place]) => place));
    }
    feed.started(this.sessionId, turn, begin);
    this.feeds.push(feed);
    const passed = begin !== undefined && begin < this.#last;
    if (feed.seekFrom !== undefined || (followed && passed)) this.ask();
  }

  /** A chunk has come. */
  chunk(raw: JsonObject, size: number, now: number): void {
    const position = positionOf(raw);
    if (!position) return;
    this.came();
    this.#note(raw, position);
    const whole = this.feeds.map((feed) => feed.offer(raw, position, size));
    this.feeds = this.feeds.filter((feed) => !feed.over);
    if (!this.asking && whole.includes(false)) {
      const { sessionId } = this;
      this.broken(new ConnectionLost(`chunks before ${position} are missing`, { sessionId }), now);
    }
  }

  #note(raw: JsonObject, position: number): void {
    this.#last = Math.max(this.#last, position);
    const turn = asCount(raw.turn);
    if (turn === undefined) return;
    if (raw.type === 'done') this.#begun.set(turn + 1, position);
    else if (raw.type === 'step' && !this.#begun.has(turn)) this.#begun.set(turn, position - 1);
    if (this.#begun.size > KNOWN_TURNS) this.#begun.delete(Math.min(...this.#begun.keys()));
  }
}

/** All of them, and the turns that are about to start. */
export class Turns {
  readonly #asks: Asks;
  readonly #newRetries: NewRetries;
  readonly #topics = new Map<string, SessionTopic>();
  readonly #starting = new Map<ChunkFeed, Ask>();

  constructor(asks: Asks, newRetries: NewRetries) {
    this.#asks = asks;
    this.#newRetries = newRetries;
  }

  /** Reads a session, from the feed's place. */
  watch(feed: ChunkFeed, sessionId: string): void {
    const topic = this.#topic(sessionId);
    topic.feeds.push(feed);
    topic.ask();
  }

  /** Starts a turn, once, and reads it. */
  execute(feed: ChunkFeed): void {
    const ask = this.#asks.ask({
      message: () => feed.executeMessage(),
      answered: (answer) => this.#started(feed, answer),
      failed: (error) => this.#refused(feed, error),
      retries: this.#newRetries(),
    });
    // Refused without being sent, it is over already.
    if (!feed.over) this.#starting.set(feed, ask);
  }

  /** Its reader is gone; a turn goes on. */
  leave(feed: ChunkFeed): void {
    const ask = this.#starting.get(feed);
    if (ask) this.#asks.withdraw(ask);
    this.#starting.delete(feed);
    for (const topic of [...this.#topics.values()]) {
      if (!topic.feeds.includes(feed)) continue;
      topic.feeds = topic.feeds.filter((one) => one !== feed);
      this.#tidy(topic);
    }
  }

  /** Its reader has made room. */
  resume(feed: ChunkFeed): void {
    feed.parked = false;
    this.#topics.get(feed.sessionId ?? '')?.ask();
  }

  /** A chunk has come. */
  chunk(sessionId: string, raw: JsonObject, size: number, now: number): void {
    const topic = this.#topics.get(sessionId);
    if (!topic) return;
    topic.chunk(raw, size, now);
    topic.park();
    this.#tidy(topic);
  }

  /** The sessions of these channels. */
  named(channels: readonly string[]): SessionTopic[] {
    return [...this.#topics.values()].filter(({ channels: [own = ''] }) => channels.includes(own));
  }

  /**
   * A new socket: turns of which nothing has come are asked for by their keys again, since nobody
   * knows where they begin; the rest from their places.
   */
  linkUp(): void {
    for (const topic of [...this.#topics.values()]) {
      const again = topic.feeds.filter((feed) => feed.starting);
      topic.feeds = topic.feeds.filter((feed) => !feed.starting);
      for (const feed of again) this.execute(feed);
      if (topic.feeds.length) topic.ensure();
      else this.#forget(topic);
    }
  }

  /** There will be no more sockets. */
  fail(error: StreamError): void {
    const reading = [...this.#topics.values()].flatMap((topic) => topic.feeds);
    for (const feed of [...reading, ...this.#starting.keys()]) feed.end(error);
  }

  #topic(sessionId: string): SessionTopic {
    let topic = this.#topics.get(sessionId);
    if (!topic) {
      topic = new SessionTopic(sessionId, this.#asks, this.#newRetries);
      this.#topics.set(sessionId, topic);
    }
    return topic;
  }

  #started(feed: ChunkFeed, answer: JsonObject): void {
    this.#starting.delete(feed);
    const sessionId = asText(answer.session_id);
    const turn = asCount(answer.turn);
    if (!sessionId || !turn) {
      feed.end(new ConnectionLost('the server does not name the turn that it started'));
      return;
    }
    const followed = this.#topics.has(sessionId);
    this.#topic(sessionId).join(feed, turn, followed);
  }

  #refused(feed: ChunkFeed, error: StreamError): void {
    this.#starting.delete(feed);
    feed.end(error);
    const topic = this.#topics.get(asText(feed.body?.session_id) ?? '');
    if (topic) this.#tidy(topic);
  }

  /**
   * Without readers the subscription goes; but not while a turn of the session is about to start,
   * which the server would tell over it.
   */
  #tidy(topic: SessionTopic): void {
    const starting = [...this.#starting.keys()];
    const due = starting.some((feed) => feed.body?.session_id === topic.sessionId);
    if (topic.feeds.length || due) return;
    this.#forget(topic);
    topic.unsubscribe();
  }

  #forget(topic: SessionTopic): void {
    topic.withdraw();
    this.#topics.delete(topic.sessionId);
  }
}
