import type { MaybeRefOrGetter } from 'vue';
import { shallowRef, toValue, watch } from 'vue';
import type { ResonantGenesis } from '../index.js';
import type { SendParams, SessionState, SessionStoreOptions } from '../store/index.js';
import { holdShared, NO_SESSION, sessionStore } from '../store/index.js';
import type { StateRefs } from './bind.js';
import { bind, whenMounted } from './bind.js';
import { useClient } from './client.js';

/** What its turns are sent with unless `send` says otherwise, and where its place is kept. */
export interface UseSessionOptions extends SendParams, SessionStoreOptions {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseSessionResult extends StateRefs<SessionState> {
  /** Sends the next goal; without a session the first one makes it. Never rejects: its turn has the error. */
  send(goal: string, params?: SendParams): Promise<void>;
  /** Cancels what is sent, waits or runs. Rejects with a StreamError where the server could not be told. */
  cancel(): Promise<void>;
  /** Reads on, sends again, or asks again, whichever the error calls for. */
  retry(): Promise<void>;
}

/**
 * Shows a session: all its turns, also those that others ask for, and goes on where it was when the
 * page is loaded again. Components that show the same session share one connection.
 *
 * Without `sessionId` the first goal makes a session (`agentId` says with whom), and `sessionId` of
 * the result names it; giving it back as the argument changes nothing.
 */
export function useSession(
  sessionId: MaybeRefOrGetter<string | null | undefined>,
  options: MaybeRefOrGetter<UseSessionOptions> = {},
): UseSessionResult {
  const provided = useClient();
  const find = (id: string | null) => {
    const { client = provided, storage, transport } = toValue(options);
    return sessionStore(client, id, { storage, transport });
  };
  const store = shallowRef(find(toValue(sessionId) ?? null));
  const state = bind(store, NO_SESSION);
  watch(
    () => toValue(sessionId) ?? null,
    (id) => {
      // The id of a session that was made here finds the store that made it.
      store.value = find(id);
    },
  );
  whenMounted(() => {
    watch(
      store,
      (wanted, _, onCleanup) => {
        const held = holdShared(wanted);
        if (typeof held === 'function') {
          onCleanup(held);
        } else {
          store.value = held;
        }
      },
      { immediate: true },
    );
  });

  const params = (): SendParams => {
    const { client: _client, storage: _storage, transport: _transport, ...rest } = toValue(options);
    return rest;
  };
  return {
    ...state,
    send: (goal, more) => store.value.send(goal, { ...params(), ...more }),
    cancel: () => store.value.cancel(),
    retry: () => store.value.retry(params()),
  };
}
