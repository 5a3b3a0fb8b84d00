import { useSyncExternalStore } from 'react';
import type { ResonantGenesis, StreamError } from '../index.js';
import { useClient } from './client.js';

const getNone = (): null => null;

/**
 * Why the server cannot be reached, or takes no requests, while it is tried again; null while it can.
 *
 * Known as soon as the first attempt of any call or stream of the client (the provider's, or `client`)
 * has failed, and over when one of them is answered.
 */
export function useReach(client?: ResonantGenesis): StreamError | null {
  const provided = useClient();
  const { subscribe, getSnapshot } = (client ?? provided).reach;
  return useSyncExternalStore(subscribe, getSnapshot, getNone);
}
