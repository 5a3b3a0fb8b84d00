import { createResonantGenesis, useAgentStream } from '@resonantgenesis/sdk/vue';
import { mount } from '@vue/test-utils';
import { beforeEach, expect, test } from 'vitest';
import { createSSRApp, defineComponent, effectScope, h, nextTick, ref } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { ConnectionLost } from '../../../src/errors.js';
import { answered, asking, data, done, failure, step, text, turn } from '../../store/chunks.js';
import { FakeClient, settled } from '../../store/fake-client.js';
import { framed, mounted } from '../support.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
});

test('the guide’s refs and function: streaming at once, all of the text at the end', async () => {
  const { it } = mounted(client, () => useAgentStream('a'));
  expect([it.content.value, it.isStreaming.value, it.error.value]).toEqual(['', false, null]);
  const over = it.execute('g');
  expect(it.isStreaming.value).toBe(true);
  await settled();
  expect(client.executes[0]?.params).toMatchObject({ agentId: 'a', goal: 'g' });
  await framed(() => client.executes[0]?.say(step(1, 1), text(2, 'Once ')));
  expect(it.content.value).toBe('Once ');
  client.executes[0]?.say(text(3, 'upon'), done(4, 1));
  await over;
  expect([it.content.value, it.isStreaming.value, it.error.value]).toEqual([
    'Once upon',
    false,
    null,
  ]);
});

test('a template follows them', async () => {
  const Message = defineComponent({
    setup: () => useAgentStream('a'),
    template: '<p>{{ content }}<span v-if="isStreaming">▌</span></p>',
    render() {
      return h('p', [this.content, this.isStreaming ? '▌' : '']);
    },
  });
  const wrapper = mount(Message, {
    global: { plugins: [createResonantGenesis(client.asClient)] },
  });
  void wrapper.vm.execute('g');
  await framed(() => undefined);
  expect(wrapper.text()).toBe('▌');
  await framed(() => client.executes[0]?.say(...turn(1, 1, 'hello')));
  expect(wrapper.text()).toBe('hello');
});

test('a failure is in error, and execute does not throw', async () => {
  const { it } = mounted(client, () => useAgentStream('a'));
  const over = it.execute('g');
  await settled();
  client.executes[0]?.say(step(1, 1), failure(2), done(3, 1, 'failed'));
  await over;
  expect(it.error.value?.message).toBe('it was AGENT_FAILED');
  expect(it.status.value).toBe('failed');
  client.answer = async () => {
    throw new ConnectionLost('gone');
  };
  await it.execute('again');
  expect(it.error.value?.message).toBe('gone');
  expect(it.content.value).toBe('');
});

test('agent and options may be refs, read when a turn begins', async () => {
  const agent = ref('a');
  const { it } = mounted(client, () =>
    useAgentStream(agent, () => ({ context: { of: agent.value } })),
  );
  agent.value = 'b';
  void it.execute('g', { maxSteps: 3 });
  await settled();
  expect(client.executes[0]?.params).toMatchObject({
    agentId: 'b',
    context: { of: 'b' },
    maxSteps: 3,
  });
});

test('cancel and retry', async () => {
  const { it } = mounted(client, () => useAgentStream('a'));
  void it.execute('g');
  await settled();
  await it.cancel();
  expect(client.cancels).toEqual([['s1', { turn: 1 }]]);
  client.executes[0]?.say(step(1, 1), done(2, 1, 'cancelled'));
  await framed(() => undefined);
  expect(it.status.value).toBe('cancelled');
  void it.retry();
  await settled();
  expect(client.executes).toHaveLength(2);
});

test('unmounting, or the end of a scope, ends the connection and not the turn', async () => {
  const { it, wrapper } = mounted(client, () => useAgentStream('a'));
  void it.execute('g');
  const scope = effectScope();
  const other = scope.run(() => useAgentStream('a', { client: client.asClient }));
  void other?.execute('g');
  await settled();
  wrapper.unmount();
  scope.stop();
  await settled();
  expect(client.executes.map(({ closed }) => closed)).toEqual([true, true]);
  expect(client.cancels).toEqual([]);
});

test('it renders once a frame, and what did not change tells nobody', async () => {
  let renders = 0;
  let stepRenders = 0;
  const Message = defineComponent({
    setup() {
      const shown = useAgentStream('a');
      const Steps = defineComponent(() => () => {
        stepRenders += 1;
        return h('i', shown.steps.value.length);
      });
      return { ...shown, Steps };
    },
    render() {
      renders += 1;
      return h('div', [h('p', this.content), h(this.Steps)]);
    },
  });
  const wrapper = mount(Message, {
    global: { plugins: [createResonantGenesis(client.asClient)] },
  });
  void wrapper.vm.execute('g');
  await framed(() => undefined);
  await framed(() => client.executes[0]?.say(step(1, 1)));
  const before = [renders, stepRenders];
  const words = Array.from({ length: 2000 }, (_, index) => text(index + 2, 'word '));
  await framed(() => client.executes[0]?.say(...words));
  await nextTick();
  expect(wrapper.find('p').text()).toHaveLength(9_999);
  expect([renders, stepRenders]).toEqual([(before[0] ?? 0) + 1, before[1]]);
});

test('a server renders it', async () => {
  const app = createSSRApp({
    setup: () => useAgentStream('a'),
    render() {
      return h('p', this.status);
    },
  });
  app.use(createResonantGenesis(client.asClient));
  expect(await renderToString(app)).toBe('<p>idle</p>');
});

test('what the turn asks is shown and answered, and the same turn goes on', async () => {
  const { it } = mounted(client, () => useAgentStream('a'));
  const over = it.execute('g');
  await settled();
  await framed(() => client.executes[0]?.say(step(1, 1), text(2, 'a'), ...asking(3, 1)));
  expect([it.status.value, it.content.value]).toEqual(['waiting', 'a']);
  expect(it.waiting.value).toMatchObject([{ callId: 'c', kind: 'approval', tool: 't' }]);
  await it.answer('c', { approved: false });
  expect(client.inputs).toEqual([['s1', 'c', { turn: 1, approved: false }]]);
  client.joins[0]?.say(answered(5), text(6, 'b'), done(7, 1));
  await over;
  expect([it.status.value, it.content.value, it.waiting.value]).toEqual(['success', 'ab', []]);
});

test('onData hears of data and is no parameter of the turn', async () => {
  const heard: unknown[] = [];
  const onData = (chunk: { data: unknown }) => heard.push(chunk.data);
  const { it } = mounted(client, () => useAgentStream('a', { onData }));
  void it.execute('g');
  await settled();
  await framed(() => client.executes[0]?.say(step(1, 1), data(1, 10, true)));
  expect(heard).toEqual([10]);
  expect(client.executes[0]?.params).not.toHaveProperty('onData');
});
