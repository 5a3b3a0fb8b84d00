import type { ReactElement, ReactNode, RefObject } from 'react';
import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
import type { ResonantGenesis, StreamError } from '../index.js';
import type {
  AgentStreamActions,
  AgentStreamState,
  AgentTaskParams,
  DataListener,
  EventsSelection,
  EventsState,
  EventsStoreOptions,
  SendParams,
  SessionActions,
  SessionState,
  SessionStoreOptions,
} from '../store/index.js';
import {
  AgentStreamStore,
  EventsStore,
  holdShared,
  IDLE,
  NO_EVENTS,
  NO_SESSION,
  sessionStore,
} from '../store/index.js';
import { defaultClient } from '../store/stream-client.js';

/** The value of the last render, for effects and handlers that must not depend on it. */
function useLatest<T>(value: T): Readonly<RefObject<T>> {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}

const ClientContext = createContext<ResonantGenesis | null>(null);

export interface ResonantGenesisProviderProps {
  readonly client: ResonantGenesis;
  readonly children?: ReactNode;
}

/** Gives its client to the hooks of everything inside. Make the client once, not while rendering. */
export function ResonantGenesisProvider(props: ResonantGenesisProviderProps): ReactElement {
  return createElement(ClientContext.Provider, { value: props.client }, props.children);
}

/** The nearest provider's client; without one, that of the environment. */
export function useClient(): ResonantGenesis {
  return useContext(ClientContext) ?? defaultClient();
}

/** Default parameters of its turns, which `send` may override, and where its place is kept. */
export interface UseSessionOptions extends SendParams, SessionStoreOptions {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
  /** Hears of each `data` chunk as it comes, also the transient ones, which no message keeps. */
  readonly onData?: DataListener | undefined;
}

/** Tells `onData` of the store's data chunks while the component is mounted. */
function useData(store: Pick<AgentStreamStore, 'onData'>, onData: DataListener | undefined): void {
  const latest = useLatest(onData);
  useEffect(() => store.onData((chunk) => latest.current?.(chunk)), [store, latest]);
}

export interface UseSessionResult extends SessionState, SessionActions {}

/**
 * Shows a session with all its turns, also the turns of other users. With `storage` it resumes when
 * the page is loaded again. Components that show the same session share one connection.
 *
 * Without `sessionId` the first goal makes a session with the agent `agentId`. The result's
 * `sessionId` names it. Passing that id as the argument later changes nothing.
 */
export function useSession(
  sessionId: string | null | undefined,
  options: UseSessionOptions = {},
): UseSessionResult {
  const { client: own, storage, transport, onData, ...params } = options;
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
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, () => NO_SESSION);

  useEffect(() => {
    const held = holdShared(store);
    if (typeof held === 'function') return held;
    setShown((before) => ({ ...before, store: held }));
    return undefined;
  }, [store]);
  useData(store, onData);

  const send = useCallback(
    (goal: string, more?: SendParams) => store.send(goal, { ...latest.current, ...more }),
    [store, latest],
  );
  const regenerate = useCallback(() => store.regenerate(latest.current), [store, latest]);
  const retry = useCallback(() => store.retry(latest.current), [store, latest]);
  return useMemo(() => {
    const { steer, answer, cancel, fork, editQueued, removeQueued } = store;
    const actions = { steer, answer, cancel, fork, editQueued, removeQueued };
    return { ...state, ...actions, send, regenerate, retry };
  }, [state, store, send, regenerate, retry]);
}

export interface UseAgentStreamOptions extends AgentTaskParams {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
  /** Hears of each `data` chunk as it comes, also the transient ones, which no message keeps. */
  readonly onData?: DataListener | undefined;
}

export interface UseAgentStreamResult extends AgentStreamState, AgentStreamActions {}

/** The state between a render with a new goal and the effect that asks for the turn. */
const PENDING: AgentStreamState = { ...IDLE, status: 'connecting', isStreaming: true };

/**
 * Asks `agentId` for `goal` when the component is mounted, and again when either changes. An empty
 * goal asks for nothing.
 *
 * It starts one turn, however often React runs the effect. Unmounting ends the connection and not
 * the turn (`onDisconnect: 'cancel'` ends both). Changed options apply from the next turn on.
 */
export function useAgentStream(
  agentId: string,
  goal: string,
  options: UseAgentStreamOptions = {},
): UseAgentStreamResult {
  const { client: own, onData, ...params } = options;
  const provided = useClient();
  const client = own ?? provided;
  const { sessionId } = params;
  const latest = useLatest(params);
  const [store] = useState(() => new AgentStreamStore());
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, () => IDLE);
  useData(store, onData);

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
  return useMemo(() => {
    const { steer, answer, cancel, retry } = store;
    return { ...shown, steer, answer, cancel, retry };
  }, [shown, store]);
}

export interface UseEventsOptions extends EventsSelection, EventsStoreOptions {
  /** In place of the provider's. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseEventsResult extends EventsState {
  /** Goes on after an error, from the last event. */
  retry(): void;
  /** Forgets the events shown so far. */
  clear(): void;
}

/**
 * The newest platform events of a selection, and `onEvent` for each as it comes.
 *
 * Selections are compared by content: a new object while rendering does not subscribe again.
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
  const state = useSyncExternalStore(store.subscribe, store.getSnapshot, () => NO_EVENTS);

  useEffect(() => store.hold(), [store]);

  const { retry, clear } = store;
  return useMemo(() => ({ ...state, retry, clear }), [state, retry, clear]);
}

/**
 * Why the server cannot be reached or takes no requests, while the client retries; else null.
 *
 * Known as soon as the first attempt of any call or stream of the client (the provider's, or `client`)
 * has failed, and null again when one of them is answered.
 */
export function useReach(client?: ResonantGenesis): StreamError | null {
  const provided = useClient();
  const { subscribe, getSnapshot } = (client ?? provided).reach;
  return useSyncExternalStore(subscribe, getSnapshot, () => null);
}
