/** The guide's composable and ours, side by side. */
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { createResonantGenesis, useAgentStream, useEvents } from '@resonantgenesis/sdk/vue';
import { createApp, defineComponent, h, onMounted, ref } from 'vue';
import { useGuideStream } from './guide-composable';

const query = new URLSearchParams(location.search);
const agentId = query.get('agent') ?? 'guide';
const goal = query.get('goal') ?? '';

/** Turns may be over before the page has subscribed. */
const LOADED = new Date(performance.timeOrigin);

const messageOf = (use: typeof useGuideStream | typeof useAgentStream, id: string) =>
  defineComponent(() => {
    const { content, isStreaming, error, execute } = use(agentId);
    const after = ref('');
    onMounted(async () => {
      await execute(goal);
      // Whoever waits for the end reads all of it.
      after.value = content.value;
    });
    return () =>
      error.value
        ? h('div', { id, class: 'error' }, error.value.message)
        : h('div', { id, class: 'message' }, [
            h('p', content.value),
            isStreaming.value ? h('span', { class: 'cursor' }, '▌') : null,
            h('output', after.value),
          ]);
  });

const Guides = messageOf(useGuideStream, 'guide');
const Ours = messageOf(useAgentStream, 'ours');

const Happened = defineComponent(() => {
  const { events } = useEvents({
    channels: ['sessions'],
    events: ['session.completed'],
    since: LOADED,
  });
  return () =>
    h(
      'ul',
      { id: 'events' },
      events.value.map(({ id, type }) => h('li', { key: id }, type)),
    );
});

const Page = defineComponent(() => () => [h(Happened), h(Guides), h(Ours)]);

const client = new ResonantGenesis({ apiKey: import.meta.env.VITE_API_KEY });
createApp(Page).use(createResonantGenesis(client)).mount('#app');
