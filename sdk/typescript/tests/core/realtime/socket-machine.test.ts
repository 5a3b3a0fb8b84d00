/** The client's half of a socket against the model of the server's, one thing after the other. */
import { expect, test } from 'vitest';
import { ChunkConsumer } from '../../../src/core/realtime/consumers.js';
import { ConnectionLost } from '../../../src/errors.js';
import { eventsFeed, turnFeed, World, watchFeed } from '../../support/realtime-world.js';

test('a subscription starts where the server says', () => {
  const world = new World();
  world.server.publish('app');
  const consumer = world.start(eventsFeed(['app']));
  world.exchange();
  expect([consumer.there, consumer.cursor]).toEqual([true, 'c_1']);
  world.server.publish('app');
  world.settle();
  expect([world.ids(consumer), consumer.cursor]).toEqual([['evt_2'], 'c_2']);
});

test('a channel has one subscription', () => {
  const world = new World();
  const first = world.start(eventsFeed(['app', 'teams']));
  expect(() => world.start(eventsFeed(['app', 'system']))).toThrow('app: subscribed already');
  world.exchange();
  world.state.leave(first);
  const second = world.start(eventsFeed(['app']));
  world.exchange();
  expect(second.there).toBe(true);
  expect(world.connect().received.map(({ type, channels }) => [type, channels])).toEqual([
    ['subscribe', ['app', 'teams']],
    ['unsubscribe', ['app', 'teams']],
    ['subscribe', ['app']],
  ]);
});

test('a heartbeat moves the cursor, but not past what waits to be read', () => {
  const world = new World();
  const consumer = world.start(eventsFeed(['app']));
  world.exchange();
  world.server.publish('app');
  world.server.publish('system');
  world.connect().pump(5);
  world.connect().cursors();
  world.deliver();
  expect([consumer.cursor, consumer.queue.cursor]).toEqual(['c_0', 'c_2']);
  world.consume(consumer);
  expect(consumer.cursor).toBe('c_2');
});

test('a full buffer stops one subscription and no other', () => {
  const world = new World();
  const slow = world.start(eventsFeed(['app'], { since: 'c_0', most: 4 }));
  const quick = world.start(eventsFeed(['teams'], { since: 'c_0', most: 4 }));
  world.exchange();
  for (let count = 0; count < 50; count += 1) {
    world.server.publish('app');
    world.server.publish('teams');
    world.connect().pump(2);
    world.exchange();
    world.consume(quick);
    expect(slow.waiting).toBeLessThanOrEqual(4);
  }
  expect(world.ids(quick)).toHaveLength(50);
  const left = world.connect().received.filter(({ type }) => type === 'unsubscribe');
  expect(left.map(({ channels }) => channels)).toEqual([['app']]);
  world.settle();
  const due = world.server.events.filter((event) => event.channel === 'app');
  expect(world.ids(slow)).toEqual(due.map((event) => event.id));
});

test('what was on its way to a full buffer makes no gap when there is room again', () => {
  const world = new World();
  const consumer = world.start(eventsFeed(['app'], { since: 'c_0', most: 3 }));
  world.exchange();
  for (let count = 0; count < 6; count += 1) world.server.publish('app');
  world.connect().pump(6);
  // Full with the third, told to stop with the fourth; the reader is quicker than the server.
  world.deliver(4);
  world.consume(consumer);
  world.deliver(2);
  world.consume(consumer);
  world.settle();
  expect(world.ids(consumer)).toEqual(['evt_1', 'evt_2', 'evt_3', 'evt_4', 'evt_5', 'evt_6']);
});

test('a place that is gone is thrown, or it starts at the earliest', () => {
  const world = new World();
  for (let count = 0; count < 3; count += 1) world.server.publish('app');
  world.server.earliest = 2;
  const strict = world.start(eventsFeed(['app'], { since: 'c_0' }));
  world.exchange();
  expect(strict.error).toMatchObject({
    code: 'POSITION_EXPIRED',
    details: { earliest: 'c_2' },
  });
  const lenient = world.start(eventsFeed(['app'], { since: 'c_0', earliest: true }));
  world.settle();
  expect(world.got.get(lenient)).toMatchObject([
    { type: 'gap', cursor: 'c_2' },
    { type: 'app.x', cursor: 'c_3' },
  ]);
});

test('an execute whose answer is lost starts one turn', () => {
  const world = new World();
  const consumer = world.start(turnFeed());
  world.connect();
  world.cut(5);
  expect(world.server.executes).toBe(1);
  world.settle();
  expect([world.positions(consumer), consumer.over, consumer.error]).toEqual([
    [1, 2, 3, 4],
    true,
    undefined,
  ]);
  expect(world.server.executes).toBe(1);
});

test('a turn of which nothing has come is asked for by its key again', () => {
  const world = new World();
  world.server.withTurns(1);
  const consumer = world.start(turnFeed('sess_1'));
  world.exchange();
  expect(consumer.turn).toBe(2);
  world.cut();
  world.settle();
  expect([world.positions(consumer), consumer.over]).toEqual([[5, 6, 7, 8], true]);
  expect(world.server.executes).toBe(1);
});

test('a busy server is asked again in its time, and at last not', () => {
  const world = new World(2);
  world.server.busy = 2;
  const first = world.start(turnFeed());
  world.exchange();
  expect(world.state.requests.sendDue(world.now)).toBeCloseTo(0.55);
  expect(world.connect().received).toHaveLength(1);
  world.settle();
  expect(world.positions(first)).toEqual([1, 2, 3, 4]);
  world.server.busy = 3;
  const second = world.start(turnFeed());
  world.settle();
  expect(second.error).toMatchObject({ code: 'RATE_LIMITED', retryAfter: 0.5 });
});

test('a turn of a session that is watched comes once to both', () => {
  const world = new World();
  world.server.withTurns(1);
  const watch = world.start(watchFeed('sess_1', 0));
  world.exchange();
  const turn = world.start(turnFeed('sess_1'));
  world.settle();
  expect(world.positions(watch)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(world.positions(turn)).toEqual([5, 6, 7, 8]);
  expect(world.connect().received.filter(({ type }) => type === 'subscribe')).toHaveLength(1);
});

test('a turn of long ago is read again for who names its key', () => {
  const world = new World();
  world.server.withTurns(2);
  const watch = world.start(watchFeed('sess_1', 6));
  world.settle();
  const again = world.start(turnFeed('sess_1', { key: 'k1' }));
  world.settle();
  expect(world.positions(watch)).toEqual([7, 8]);
  expect([world.positions(again), again.over]).toEqual([[5, 6, 7, 8], true]);
});

test('leaving a session while a turn of it starts does not silence the turn', () => {
  const world = new World();
  world.server.withTurns(1);
  const watch = world.start(watchFeed('sess_1', 0));
  world.exchange();
  const turn = world.start(turnFeed('sess_1'));
  world.state.leave(watch);
  world.settle();
  expect(world.positions(turn)).toEqual([5, 6, 7, 8]);
  expect(world.connect().received.at(-1)).toMatchObject({ type: 'unsubscribe' });
});

test('missing chunks are read again', () => {
  const world = new World();
  world.server.withTurns(1);
  const watch = world.start(watchFeed('sess_1', 0));
  world.exchange();
  const socket = world.connect();
  socket.pump(4);
  socket.out.splice(1, 1);
  world.settle();
  expect(world.positions(watch)).toEqual([1, 2, 3, 4]);
});

test('another epoch ends a session', () => {
  const world = new World();
  world.server.withTurns(1);
  const watch = world.start(watchFeed('sess_1', 0));
  world.exchange();
  world.server.epoch = 'e2';
  world.cut();
  world.exchange();
  expect(watch.error).toMatchObject({ code: 'POSITION_EXPIRED', details: { epoch: 'e2' } });
});

test('a subscription that the server ends is over, or asked for again', () => {
  const world = new World();
  world.server.withTurns(1);
  const watch = world.start(watchFeed('sess_1', 0));
  const consumer = world.start(eventsFeed(['app']));
  world.exchange();
  world.connect().end('session:sess_1', 'SESSION_NOT_FOUND');
  world.connect().end('app', 'UNAVAILABLE', { retryable: true });
  world.exchange();
  expect([watch.error?.code, consumer.over]).toEqual(['SESSION_NOT_FOUND', false]);
  world.server.publish('app');
  world.settle();
  expect(world.ids(consumer)).toEqual(['evt_1']);
});

test('a message that no server takes fails alone', () => {
  const world = new World();
  const consumer = world.start(eventsFeed(['app']));
  const body = { agent_id: 'a', goal: 'é'.repeat(140_000) };
  world.connect();
  const turn = world.start(new ChunkConsumer({ body }, 10));
  world.exchange();
  expect(turn.error).toMatchObject({ code: 'PAYLOAD_TOO_LARGE', retryable: false });
  expect([consumer.there, world.connect().received.length]).toEqual([true, 1]);
});

test('in the end everybody is told', async () => {
  const world = new World();
  world.server.withTurns(1);
  const consumers = [world.start(eventsFeed(['app'])), world.start(turnFeed())];
  world.exchange();
  consumers.push(world.start(turnFeed('sess_1')), world.start(watchFeed('sess_1', 0)));
  const asked = world.state.request({ type: 'cancel', session_id: 'sess_1' });
  world.cut();
  const error = new ConnectionLost('no more');
  world.state.fail(error);
  expect(consumers.map((consumer) => consumer.error)).toEqual([error, error, error, error]);
  await expect(asked).rejects.toBe(error);
  expect(world.start(eventsFeed(['teams'])).error).toBe(error);
  await expect(world.state.request({ type: 'ping' })).rejects.toBe(error);
});

test('a question is asked again on the next socket', async () => {
  const world = new World();
  const asked = world.state.request({ type: 'cancel', session_id: 'sess_1' });
  world.connect();
  world.cut(2);
  world.exchange();
  expect(await asked).toMatchObject({ type: 'cancelled' });
});

test('what is no message is passed over', () => {
  const { state, ...world } = new World();
  for (const text of ['', '[]', '{', '1', '{}', '{"type":"new"}', '{"channel":"app","event":{}}']) {
    state.receive(text, world.now);
  }
  state.receive('{"type":"error","code":"UNAUTHENTICATED","message":"revoked"}', 0);
  expect(state.lastError?.code).toBe('UNAUTHENTICATED');
  state.receive('{"type":"draining","retry_after":3}', 0);
  expect(state.draining).toBe(3);
  state.socketOpened();
  expect([state.draining, state.lastError]).toEqual([undefined, undefined]);
});
