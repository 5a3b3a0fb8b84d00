import type { ComputedRef, ShallowRef } from 'vue';
import {
  computed,
  getCurrentInstance,
  getCurrentScope,
  onMounted,
  onScopeDispose,
  shallowRef,
  watch,
} from 'vue';
import type { Readable } from '../store/index.js';

/** A ref for every field of a state; each changes only when its field does. */
export type StateRefs<S> = { readonly [K in keyof S]: ComputedRef<S[K]> };

/** The fields of the store that `current` holds; `example` is any state of its kind. */
export function bind<S extends object>(
  current: Readonly<ShallowRef<Readable<S>>>,
  example: S,
): StateRefs<S> {
  const state = shallowRef(current.value.getSnapshot());
  watch(
    current,
    (store, _, onCleanup) => {
      const take = (): void => {
        state.value = store.getSnapshot();
      };
      onCleanup(store.subscribe(take));
      take();
    },
    { immediate: true, flush: 'sync' },
  );
  const keys = Object.keys(example) as (keyof S)[];
  const refs = keys.map((key) => [key, computed(() => state.value[key])] as const);
  return Object.fromEntries(refs) as StateRefs<S>;
}

/** Calls `begin` when the component is on its page, so not on a server; outside of components at once. */
export function whenMounted(begin: () => void): void {
  if (getCurrentInstance() === null) {
    begin();
  } else {
    onMounted(begin);
  }
}

/** Calls `end` with the component or scope that is being set up. */
export function whenDisposed(end: () => void): void {
  if (getCurrentScope() !== undefined) {
    onScopeDispose(end);
  }
}
