import { expect, test } from 'vitest';
import { ConnectionLost } from '../../src/errors.js';
import { EventsStore } from '../../src/store/index.js';
import { event } from './chunks.js';
import { FakeClient, settled } from './fake-client.js';

const types = (store: EventsStore) => store.getSnapshot().events.map(({ id }) => id);

test('events of the selection come while it is held, the newest of them kept', async () => {
  const client = new FakeClient();
  const told: string[] = [];
  const store = new EventsStore(
    client,
    { channels: ['sessions'], filters: { agent_id: 'a' } },
    { limit: 2, onEvent: ({ id }) => told.push(id) },
  );
  const release = store.hold();
  await settled();
  expect(client.subscriptions[0]?.params).toMatchObject({
    channels: ['sessions'],
    filters: { agent_id: 'a' },
  });
  client.subscriptions[0]?.say(event(1, 'session.started', {}), event(2, 'session.started', {}));
  client.subscriptions[0]?.say(event(3, 'session.completed', {}));
  await settled();
  expect(types(store)).toEqual(['evt_2', 'evt_3']);
  expect(told).toEqual(['evt_1', 'evt_2', 'evt_3']);
  store.clear();
  expect(types(store)).toEqual([]);
  release();
  await settled();
  expect(client.subscriptions[0]?.closed).toBe(true);
});

test('it goes on behind the last event after an error, and after it was let go', async () => {
  const client = new FakeClient();
  const store = new EventsStore(client, { since: 'c_0' });
  const release = store.hold();
  await settled();
  const [first] = client.subscriptions;
  first?.say(event(1, 'app.x', {}));
  await settled();
  if (first) {
    first.cursor = 'c_1';
  }
  first?.fail(new ConnectionLost('gone'));
  await settled();
  expect(store.getSnapshot().error?.message).toBe('gone');
  store.retry();
  expect(store.getSnapshot().error).toBeNull();
  await settled();
  expect(client.subscriptions[1]?.params.since).toBe('c_1');
  // This one ends before it has named a place.
  release();
  await settled();
  store.hold();
  await settled();
  expect(client.subscriptions[2]?.params.since).toBe('c_1');
  expect(types(store)).toEqual(['evt_1']);
});
