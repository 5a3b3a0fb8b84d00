import type { ShallowRef } from 'vue';
import { shallowReadonly, shallowRef } from 'vue';
import type { ResonantGenesis, StreamError } from '../index.js';
import { whenDisposed, whenMounted } from './bind.js';
import { useClient } from './client.js';

/**
 * Why the server cannot be reached, or takes no requests, while it is tried again; null while it can.
 *
 * Known as soon as the first attempt of any call or stream of the client (the provided one, or
 * `client`) has failed, and over when one of them is answered.
 */
export function useReach(client?: ResonantGenesis): Readonly<ShallowRef<StreamError | null>> {
  const { subscribe, getSnapshot } = (client ?? useClient()).reach;
  const error = shallowRef<StreamError | null>(null);
  const take = (): void => {
    error.value = getSnapshot();
  };
  let isOver = false;
  let stop = (): void => undefined;
  whenMounted(() => {
    // A scope may end before its component is on the page.
    if (!isOver) {
      stop = subscribe(take);
      take();
    }
  });
  whenDisposed(() => {
    isOver = true;
    stop();
  });
  return shallowReadonly(error);
}
