import { useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import type { ResonantGenesis } from '../index.js';
import type { AgentStreamState, AgentTaskParams } from '../store/index.js';
import { AgentStreamStore, IDLE } from '../store/index.js';
import { useClient } from './client.js';
import { useLatest } from './latest.js';

export interface UseAgentStreamOptions extends AgentTaskParams {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseAgentStreamResult extends AgentStreamState {
  /** Cancels the turn. Rejects with a StreamError where the server could not be told. */
  cancel(): Promise<void>;
  /** Goes on with a turn that broke off, or asks again where it has ended. */
  retry(): Promise<void>;
}

/** What is shown between a render with a new goal and the effect that asks for it. */
const PENDING: AgentStreamState = { ...IDLE, status: 'connecting', isStreaming: true };
const getIdle = (): AgentStreamState => IDLE;

/**
 * Asks `agentId` for `goal` when it is mounted, and again when one of them changes; an empty goal
 * asks nothing.
 *
 * One turn, however often React lets the effect run. Unmounting ends the connection and not the
 * turn (`onDisconnect: 'cancel'` ends both). Options count from the next turn on.
 */
export function useAgentStream(
  agentId: string,
  goal: string,
  options: UseAgentStreamOptions = {},
): UseAgentStreamResult {
  const { client: own, ...params } = options;
  const provided = useClient();
  const client = own ?? provided;
  const { sessionId } = params;
  const latest = useLatest(params);
  const [store] = useState(() => new AgentStreamStore());
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, getIdle);

  useEffect(() => {
    if (!goal) {
      store.clear();
      return;
    }
    store.show({ ...latest.current, sessionId, client, agentId, goal });
    return store.hold();
  }, [store, latest, client, agentId, goal, sessionId]);

  const isShown = state.agentId === agentId && state.goal === goal;
  const shown = isShown ? state : goal ? PENDING : IDLE;
  const { cancel, retry } = store;
  return useMemo(() => ({ ...shown, cancel, retry }), [shown, cancel, retry]);
}
