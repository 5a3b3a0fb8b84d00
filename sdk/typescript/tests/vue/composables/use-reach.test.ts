import { ResonantGenesis } from '@resonantgenesis/sdk';
import { createResonantGenesis, useReach } from '@resonantgenesis/sdk/vue';
import { mount } from '@vue/test-utils';
import { expect, test } from 'vitest';
import { createSSRApp, defineComponent, effectScope, h, nextTick } from 'vue';
import { renderToString } from 'vue/server-renderer';
import { broken, FakeFetch, json } from '../../support/fake-fetch.js';

test('an outage is shown while it lasts, of the provided client or of another', async () => {
  const net = new FakeFetch(broken, json({ id: 'a' }));
  const options = { apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch, maxRetries: 0 };
  const client = new ResonantGenesis({ ...options, logLevel: 'silent' });
  const Shown = defineComponent(() => {
    const error = useReach();
    return () => h('p', error.value?.code ?? 'none');
  });
  const plugins = [createResonantGenesis(client)];
  const wrapper = mount(Shown, { global: { plugins } });
  const scope = effectScope();
  const alone = scope.run(() => useReach(client));
  expect(wrapper.text()).toBe('none');
  await client.agents.get('a').catch(() => undefined);
  await nextTick();
  expect(wrapper.text()).toBe('CONNECTION_LOST');
  expect(alone?.value?.code).toBe('CONNECTION_LOST');
  expect(await renderToString(createSSRApp(Shown).use(createResonantGenesis(client)))).toBe(
    '<p>none</p>',
  );
  // One that comes later sees it at once.
  const later = mount(Shown, { global: { plugins } });
  await nextTick();
  expect(later.text()).toBe('CONNECTION_LOST');
  later.unmount();
  scope.stop();
  await client.agents.get('a');
  await nextTick();
  expect(wrapper.text()).toBe('none');
  expect(alone?.value?.code).toBe('CONNECTION_LOST');
  wrapper.unmount();
});
