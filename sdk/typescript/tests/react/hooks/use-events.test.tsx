import { useEvents } from '@resonantgenesis/sdk/react';
import { act, cleanup, renderHook } from '@testing-library/react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { event } from '../../store/chunks.js';
import { FakeClient, settled } from '../../store/fake-client.js';
import { framed } from '../frames.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
});

afterEach(cleanup);

test('events of a selection come; objects made anew do not subscribe anew', async () => {
  const told = vi.fn();
  const { result, rerender } = renderHook(
    ({ agent }) =>
      useEvents({
        client: client.asClient,
        channels: ['sessions'],
        events: ['session.*'],
        filters: { agent_id: agent },
        onEvent: (one) => told(one.id),
      }),
    { initialProps: { agent: 'a' }, reactStrictMode: true },
  );
  await act(settled);
  rerender({ agent: 'a' });
  await act(settled);
  expect(client.subscriptions).toHaveLength(1);
  expect(client.subscriptions[0]?.params).toMatchObject({
    channels: ['sessions'],
    events: ['session.*'],
    filters: { agent_id: 'a' },
  });
  await framed(() => client.subscriptions[0]?.say(event(1, 'session.started', {})));
  expect(result.current.events).toMatchObject([{ id: 'evt_1' }]);
  expect(result.current).toMatchObject({ error: null, connection: 'open' });
  expect(told.mock.calls).toEqual([['evt_1']]);
  act(() => result.current.clear());
  expect(result.current.events).toEqual([]);

  rerender({ agent: 'b' });
  await act(settled);
  expect(client.subscriptions.map(({ closed }) => closed)).toEqual([true, false]);
});

test('an error is shown, and a retry goes on', async () => {
  const { result } = renderHook(() => useEvents({ client: client.asClient }));
  await act(settled);
  await framed(() => client.subscriptions[0]?.fail(new Error('no')));
  expect(result.current.error?.message).toBe('no');
  await act(async () => result.current.retry());
  await act(settled);
  expect(result.current.error).toBeNull();
  expect(client.subscriptions).toHaveLength(2);
});
