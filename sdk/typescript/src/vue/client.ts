import type { InjectionKey, Plugin } from 'vue';
import { hasInjectionContext, inject, provide } from 'vue';
import type { ResonantGenesis } from '../index.js';
import { defaultClient } from '../store/default-client.js';

const KEY: InjectionKey<ResonantGenesis> = Symbol('resonantgenesis');

/** Gives `client` to the composables of a whole app: `app.use(createResonantGenesis(client))`. */
export function createResonantGenesis(client: ResonantGenesis): Plugin {
  return {
    install(app) {
      app.provide(KEY, client);
    },
  };
}

/** Gives `client` to the composables of everything inside the calling component. */
export function provideClient(client: ResonantGenesis): void {
  provide(KEY, client);
}

/** The nearest client that was provided; without one, that of the environment. */
export function useClient(): ResonantGenesis {
  return (hasInjectionContext() ? inject(KEY, null) : null) ?? defaultClient();
}
