import type { MaybeRefOrGetter } from 'vue';
import { shallowRef, toValue } from 'vue';
import type { ResonantGenesis } from '../index.js';
import type { AgentStreamState, AgentTaskParams } from '../store/index.js';
import { AgentStreamStore, IDLE } from '../store/index.js';
import type { StateRefs } from './bind.js';
import { bind, whenDisposed } from './bind.js';
import { useClient } from './client.js';

export interface UseAgentStreamOptions extends AgentTaskParams {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseAgentStreamResult extends StateRefs<AgentStreamState> {
  /**
   * Asks for `goal` in place of what was shown. Resolves when the turn is over, and never rejects:
   * `error` says why it failed.
   */
  execute(goal: string, params?: AgentTaskParams): Promise<void>;
  /** Cancels the turn. Rejects with a StreamError where the server could not be told. */
  cancel(): Promise<void>;
  /** Goes on with a turn that broke off, or asks again where it has ended. */
  retry(): Promise<void>;
}

/**
 * One turn of `agentId` at a time.
 *
 * Unmounting ends the connection and not the turn (`onDisconnect: 'cancel'` ends both).
 */
export function useAgentStream(
  agentId: MaybeRefOrGetter<string>,
  options: MaybeRefOrGetter<UseAgentStreamOptions> = {},
): UseAgentStreamResult {
  const provided = useClient();
  const store = new AgentStreamStore();
  whenDisposed(() => store.close());

  const execute = (goal: string, more: AgentTaskParams = {}): Promise<void> => {
    const { client = provided, ...params } = toValue(options);
    return store.execute({ ...params, ...more, client, agentId: toValue(agentId), goal });
  };
  const { cancel, retry } = store;
  return { ...bind(shallowRef(store), IDLE), execute, cancel, retry };
}
