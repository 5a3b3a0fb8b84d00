import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import type { ResonantGenesis } from '../index.js';
import type { SendParams, SessionState, SessionStoreOptions } from '../store/index.js';
import { holdShared, NO_SESSION, sessionStore } from '../store/index.js';
import { useClient } from './client.js';
import { useLatest } from './latest.js';

/** What its turns are sent with unless `send` says otherwise, and where its place is kept. */
export interface UseSessionOptions extends SendParams, SessionStoreOptions {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseSessionResult extends SessionState {
  /** Sends the next goal; without a session the first one makes it. Never rejects: its turn has the error. */
  send(goal: string, params?: SendParams): Promise<void>;
  /** Cancels what is sent, waits or runs. Rejects with a StreamError where the server could not be told. */
  cancel(): Promise<void>;
  /** Reads on, sends again, or asks again, whichever the error calls for. */
  retry(): Promise<void>;
}

const getNone = (): SessionState => NO_SESSION;

/**
 * Shows a session: all its turns, also those that others ask for, and goes on where it was when the
 * page is loaded again. Components that show the same session share one connection.
 *
 * Without `sessionId` the first goal makes a session (`agentId` says with whom), and `sessionId` of
 * the result names it; giving it back as the argument changes nothing.
 */
export function useSession(
  sessionId: string | null | undefined,
  options: UseSessionOptions = {},
): UseSessionResult {
  const { client: own, storage, transport, ...params } = options;
  const provided = useClient();
  const client = own ?? provided;
  const id = sessionId ?? null;
  const latest = useLatest(params);
  const make = () => ({ client, id, store: sessionStore(client, id, { storage, transport }) });
  const [shown, setShown] = useState(make);
  let current = shown;
  if (shown.client !== client || shown.id !== id) {
    // The id of a session that was made here finds the store that made it.
    current = make();
    setShown(current);
  }
  const { store } = current;
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, getNone);

  useEffect(() => {
    const held = holdShared(store);
    if (typeof held === 'function') {
      return held;
    }
    setShown((before) => ({ ...before, store: held }));
    return undefined;
  }, [store]);

  const send = useCallback(
    (goal: string, more?: SendParams) => store.send(goal, { ...latest.current, ...more }),
    [store, latest],
  );
  const retry = useCallback(() => store.retry(latest.current), [store, latest]);
  const { cancel } = store;
  return useMemo(() => ({ ...state, send, cancel, retry }), [state, send, cancel, retry]);
}
