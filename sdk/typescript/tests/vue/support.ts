import { createResonantGenesis } from '@resonantgenesis/sdk/vue';
import { mount } from '@vue/test-utils';
import { defineComponent } from 'vue';
import type { FakeClient } from '../store/fake-client.js';

/** What `setup` returns, in a component that is on its page. */
export function mounted<T>(client: FakeClient, setup: () => T) {
  const found: { value?: T } = {};
  const wrapper = mount(
    defineComponent({
      setup() {
        found.value = setup();
        return () => null;
      },
    }),
    { global: { plugins: [createResonantGenesis(client.asClient)] } },
  );
  return { wrapper, it: found.value as T };
}

/** Lets all that follows from `work` happen, up to and with the next frame. */
export async function framed(work: () => void): Promise<void> {
  work();
  await new Promise((resolve) => setTimeout(resolve, 0));
  await new Promise((resolve) => requestAnimationFrame(resolve));
  await new Promise((resolve) => requestAnimationFrame(resolve));
}
