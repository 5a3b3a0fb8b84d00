import { useEffect, useMemo, useSyncExternalStore } from 'react';
import type { ResonantGenesis } from '../index.js';
import type { EventsSelection, EventsState, EventsStoreOptions } from '../store/index.js';
import { EventsStore, NO_EVENTS } from '../store/index.js';
import { useClient } from './client.js';
import { useLatest } from './latest.js';

export interface UseEventsOptions extends EventsSelection, EventsStoreOptions {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseEventsResult extends EventsState {
  /** Goes on after an error, where it broke off. */
  retry(): void;
  /** Forgets the events shown so far. */
  clear(): void;
}

const getNone = (): EventsState => NO_EVENTS;

/**
 * The newest platform events of a selection, and `onEvent` for each as it comes.
 *
 * The selection counts by its content: objects made while rendering do not subscribe anew.
 */
export function useEvents(options: UseEventsOptions = {}): UseEventsResult {
  const { client: own, limit, onEvent, ...selection } = options;
  const provided = useClient();
  const client = own ?? provided;
  const latest = useLatest(onEvent);
  const wanted = JSON.stringify(selection);
  const store = useMemo(() => {
    const known: EventsSelection = JSON.parse(wanted);
    return new EventsStore(client, known, { limit, onEvent: (event) => latest.current?.(event) });
  }, [client, wanted, limit, latest]);
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, getNone);

  useEffect(() => store.hold(), [store]);

  const { retry, clear } = store;
  return useMemo(() => ({ ...state, retry, clear }), [state, retry, clear]);
}
