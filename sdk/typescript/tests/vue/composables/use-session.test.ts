import { createResonantGenesis, useEvents, useSession } from '@resonantgenesis/sdk/vue';
import { beforeEach, expect, test, vi } from 'vitest';
import { createSSRApp, h, nextTick, ref } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { data, event, step, text, turn } from '../../store/chunks.js';
import { FakeClient, settled } from '../../store/fake-client.js';
import { framed, mounted } from '../support.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
  sessionStorage.clear();
});

test('a session is followed while its component is there', async () => {
  const { it, wrapper } = mounted(client, () => useSession('s1'));
  await settled();
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'one'), step(4, 2), text(5, 'two')));
  expect(it.content.value).toBe('two');
  expect(it.isStreaming.value).toBe(true);
  expect(it.turns.value.map(({ content }) => content)).toEqual(['one', 'two']);
  wrapper.unmount();
  await settled();
  expect(client.joins[0]?.closed).toBe(true);
});

test('the first goal makes the session, whose id may come back as the argument', async () => {
  const id = ref<string | null>(null);
  const { it } = mounted(client, () => useSession(id, { agentId: 'a', metadata: { x: 1 } }));
  await it.send('hello', { maxSteps: 2 });
  expect(client.executes[0]?.params).toMatchObject({
    agentId: 'a',
    metadata: { x: 1 },
    maxSteps: 2,
  });
  id.value = it.sessionId.value;
  await settled();
  expect(it.turns.value).toMatchObject([{ goal: 'hello', status: 'queued' }]);
  expect(client.joins).toHaveLength(1);
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'hi')));
  expect(it.turns.value).toMatchObject([{ goal: 'hello', content: 'hi' }]);
});

test('another id is another session', async () => {
  const id = ref('s1');
  const { it } = mounted(client, () => useSession(id));
  await settled();
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'one')));
  id.value = 's2';
  await nextTick();
  expect(it.turns.value).toEqual([]);
  await settled();
  expect(client.joins.map(({ sessionId, closed }) => [sessionId, closed])).toEqual([
    ['s1', true],
    ['s2', false],
  ]);
});

test('two composables of one session share its connection', async () => {
  const { it } = mounted(client, () => [useSession('s1'), useSession('s1')] as const);
  await settled();
  expect(client.joins.filter(({ closed }) => !closed)).toHaveLength(1);
  await framed(() => client.joins[0]?.say(step(1, 1), text(2, 'hi')));
  expect(it.map(({ content }) => content.value)).toEqual(['hi', 'hi']);
});

test('cancel and retry go to the session that is shown', async () => {
  const { it } = mounted(client, () => useSession('s1'));
  await it.send('hello');
  await it.cancel();
  expect(client.cancels).toEqual(['s1']);
  client.joins[0]?.fail(new Error('no'));
  await framed(() => undefined);
  expect(it.error.value?.message).toBe('no');
  await it.retry();
  expect(it.error.value).toBeNull();
});

test('events: the selection may change, the handler is told of each', async () => {
  const told = vi.fn();
  const agent = ref('a');
  const { it } = mounted(client, () =>
    useEvents(() => ({
      events: ['session.*'],
      filters: { agent_id: agent.value },
      onEvent: ({ id }) => told(id),
    })),
  );
  await settled();
  await framed(() => client.subscriptions[0]?.say(event(1, 'session.started', {})));
  expect(it.events.value).toMatchObject([{ id: 'evt_1' }]);
  expect(told.mock.calls).toEqual([['evt_1']]);
  await framed(() => {
    agent.value = 'b';
  });
  expect(client.subscriptions.map(({ closed }) => closed)).toEqual([true, false]);
  expect(client.subscriptions[1]?.params.filters).toEqual({ agent_id: 'b' });
  client.subscriptions[1]?.fail(new Error('no'));
  await framed(() => undefined);
  expect(it.error.value?.message).toBe('no');
  it.retry();
  expect(it.error.value).toBeNull();
});

test('a server renders without asking for anything', async () => {
  const app = createSSRApp({
    setup: () => ({ session: useSession('s1'), events: useEvents() }),
    render() {
      return h('p', this.session.status.value);
    },
  });
  app.use(createResonantGenesis(client.asClient));
  expect(await renderToString(app)).toBe('<p>idle</p>');
  await settled();
  expect([client.joins, client.subscriptions]).toEqual([[], []]);
});

test('onData hears of data of the session that is shown', async () => {
  const heard: unknown[] = [];
  const id = ref('s1');
  mounted(client, () => useSession(id, { onData: (chunk) => heard.push(chunk.data) }));
  await settled();
  await framed(() => client.joins[0]?.say(data(1, 10, true)));
  id.value = 's2';
  await settled();
  await framed(() => client.joins[1]?.say(data(1, 20, true)));
  expect(heard).toEqual([10, 20]);
});
