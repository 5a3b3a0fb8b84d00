import type { MaybeRefOrGetter } from 'vue';
import { shallowRef, toValue, watch } from 'vue';
import type { ResonantGenesis } from '../index.js';
import type { EventsSelection, EventsState, EventsStoreOptions } from '../store/index.js';
import { EventsStore, NO_EVENTS } from '../store/index.js';
import type { StateRefs } from './bind.js';
import { bind, whenMounted } from './bind.js';
import { useClient } from './client.js';

export interface UseEventsOptions extends EventsSelection, EventsStoreOptions {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseEventsResult extends StateRefs<EventsState> {
  /** Goes on after an error, where it broke off. */
  retry(): void;
  /** Forgets the events shown so far. */
  clear(): void;
}

/** The newest platform events of a selection, and `onEvent` for each as it comes. */
export function useEvents(options: MaybeRefOrGetter<UseEventsOptions> = {}): UseEventsResult {
  const provided = useClient();
  const make = () => {
    const { client = provided, limit, onEvent: _onEvent, ...selection } = toValue(options);
    const onEvent: UseEventsOptions['onEvent'] = (event) => toValue(options).onEvent?.(event);
    return new EventsStore(client, selection, { limit, onEvent });
  };
  const store = shallowRef(make());
  const state = bind(store, NO_EVENTS);
  watch(
    () => {
      const { client: _client, onEvent: _onEvent, ...rest } = toValue(options);
      return JSON.stringify(rest);
    },
    () => {
      store.value = make();
    },
  );
  whenMounted(() => {
    watch(store, (held, _, onCleanup) => onCleanup(held.hold()), { immediate: true });
  });
  return {
    ...state,
    retry: () => store.value.retry(),
    clear: () => store.value.clear(),
  };
}
