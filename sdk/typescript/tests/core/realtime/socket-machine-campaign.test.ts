/** Whatever happens to the link, everybody gets everything once. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ChunkConsumer,
  type Consumer,
  EventConsumer,
} from '../../../src/core/realtime/consumers.js';
import { eventsFeed, turnFeed, World, watchFeed } from '../../support/realtime-world.js';

const step = (name: string, least: number, most: number) =>
  fc.tuple(fc.constant(name), fc.integer({ min: least, max: most }));

const STEPS = fc.array(
  fc.oneof(
    step('publish', 0, 2),
    step('pump', 1, 3),
    step('send', 1, 4),
    step('deliver', 1, 5),
    step('cut', 0, 3),
    step('connect', 0, 0),
    step('consume', 0, 9),
    step('grow', 0, 0),
    step('busy', 0, 0),
    step('tick', 0, 0),
    step('cursors', 0, 0),
    step('execute', 0, 1),
    step('watch', 0, 1),
    step('leave', 0, 9),
  ),
  { maxLength: 60 },
);

/** Takes the steps; knows what everybody must have got in the end. */
class Campaign extends World {
  readonly #begins = new Map<Consumer<unknown>, string>();
  readonly #left = new Set<Consumer<unknown>>();

  constructor() {
    super();
    this.server.withTurns(1);
    const all = [
      eventsFeed(['app'], { since: 'c_0', most: 3 }),
      eventsFeed(['teams', 'system'], { most: 3 }),
    ];
    for (const consumer of all) {
      consumer.wake = () => {
        if (!this.#begins.has(consumer)) this.#begins.set(consumer, consumer.cursor ?? '');
      };
      this.start(consumer);
    }
  }

  step(name: string, number: number): void {
    const consumers = [...this.got.keys()];
    const chosen = consumers[number % consumers.length] as Consumer<unknown>;
    if (name === 'publish') this.server.publish(['app', 'teams', 'system'][number] ?? 'app');
    if (name === 'pump') this.socket?.pump(number);
    if (name === 'cursors') this.socket?.cursors();
    if (name === 'send') this.send(number);
    if (name === 'deliver') this.deliver(number);
    if (name === 'cut') this.cut(number);
    if (name === 'connect') this.connect();
    if (name === 'consume') this.consume(chosen, 2);
    if (name === 'grow') for (const id of this.server.sessions.keys()) this.server.grow(id);
    if (name === 'busy') this.server.busy += 1;
    if (name === 'tick') {
      this.now += 1;
      this.state.requests.sendDue(this.now);
    }
    if (consumers.length < 12) {
      if (name === 'execute') this.start(turnFeed(number ? 'sess_1' : undefined, { most: 3 }));
      if (name === 'watch') this.start(watchFeed('sess_1', number ? 0 : undefined, 3));
    }
    if (name === 'leave' && number >= 2) {
      this.#left.add(chosen);
      this.state.leave(chosen);
    }
  }

  check(): void {
    const all = [...this.got.keys()];
    const turns = all
      .filter((consumer) => consumer instanceof ChunkConsumer)
      .filter((consumer) => consumer.body);
    expect(this.server.executes).toBeLessThanOrEqual(turns.length);
    for (const consumer of all.filter((one) => !this.#left.has(one))) {
      expect(consumer.error).toBeUndefined();
      if (consumer instanceof EventConsumer) this.#checkEvents(consumer);
      else if (consumer instanceof ChunkConsumer) this.#checkChunks(consumer);
    }
    const stayed = turns.filter((consumer) => !this.#left.has(consumer));
    const started = new Set(stayed.map((consumer) => `${consumer.sessionId} ${consumer.turn}`));
    expect(started.size).toBe(stayed.length);
  }

  #checkEvents(consumer: EventConsumer): void {
    const begin = Number(this.#begins.get(consumer)?.slice(2));
    const later = this.server.events.slice(begin);
    const due = later.filter((event) => consumer.channels.includes(event.channel as string));
    expect(this.ids(consumer)).toEqual(due.map((event) => event.id));
  }

  #checkChunks(consumer: ChunkConsumer): void {
    const got = this.positions(consumer);
    if (consumer.body) {
      const begin = 4 * ((consumer.turn ?? 0) - 1);
      expect(consumer.over).toBe(true);
      expect(got).toEqual([1, 2, 3, 4].map((place) => begin + place));
    } else {
      const end = this.server.session('sess_1').chunks.length;
      const first = got[0] ?? 1;
      expect(got).toEqual(Array.from({ length: end - first + 1 }, (_, at) => first + at));
    }
  }
}

test('whatever happens to the link, everybody gets everything once', () => {
  const run = (steps: [string, number][]) => {
    const world = new Campaign();
    for (const [name, number] of steps) world.step(name, number);
    world.settle();
    world.check();
  };
  fc.assert(fc.property(STEPS, run), { numRuns: 400 });
});
