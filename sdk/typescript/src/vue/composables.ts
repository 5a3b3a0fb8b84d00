import type { ComputedRef, InjectionKey, MaybeRefOrGetter, Plugin, ShallowRef } from 'vue';
import {
  computed,
  getCurrentInstance,
  getCurrentScope,
  hasInjectionContext,
  inject,
  onMounted,
  onScopeDispose,
  provide,
  shallowReadonly,
  shallowRef,
  toValue,
  watch,
} from 'vue';
import type { ResonantGenesis, StreamError } from '../index.js';
import type {
  AgentStreamActions,
  AgentStreamState,
  AgentTaskParams,
  DataListener,
  EventsSelection,
  EventsState,
  EventsStoreOptions,
  Readable,
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

/** A ref for each field of a state; it changes only when its field does. */
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

/** Calls `begin` when the component is mounted, so not on a server; outside of components at once. */
function whenMounted(begin: () => void): void {
  if (getCurrentInstance() === null) {
    begin();
  } else {
    onMounted(begin);
  }
}

/** Tells the listener that `find` gives at that moment of the data chunks of the current store. */
function listen(
  current: Readonly<ShallowRef<Pick<AgentStreamStore, 'onData'>>>,
  find: () => DataListener | undefined,
): void {
  watch(current, (store, _, onCleanup) => onCleanup(store.onData((chunk) => find()?.(chunk))), {
    immediate: true,
    flush: 'sync',
  });
}

/** Calls `end` with the component or scope that is being set up. */
function whenDisposed(end: () => void): void {
  if (getCurrentScope() !== undefined) onScopeDispose(end);
}

const KEY: InjectionKey<ResonantGenesis> = Symbol('resonantgenesis');

/** Gives `client` to the composables of a whole app: `app.use(createResonantGenesis(client))`. */
export function createResonantGenesis(client: ResonantGenesis): Plugin {
  return {
    install(app) {
      app.provide(KEY, client);
    },
  };
}

/** Gives `client` to the composables of everything inside the calling component. */
export function provideClient(client: ResonantGenesis): void {
  provide(KEY, client);
}

/** The nearest client that was provided; without one, that of the environment. */
export function useClient(): ResonantGenesis {
  return (hasInjectionContext() ? inject(KEY, null) : null) ?? defaultClient();
}

/** Default parameters of its turns, which `send` may override, and where its place is kept. */
export interface UseSessionOptions extends SendParams, SessionStoreOptions {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
  /** Hears of each `data` chunk as it comes, also the transient ones, which no message keeps. */
  readonly onData?: DataListener | undefined;
}

export interface UseSessionResult extends StateRefs<SessionState>, SessionActions {}

/**
 * Shows a session with all its turns, also the turns of other users. With `storage` it resumes when
 * the page is loaded again. Components that show the same session share one connection.
 *
 * Without `sessionId` the first goal makes a session with the agent `agentId`. The result's
 * `sessionId` names it. Passing that id as the argument later changes nothing.
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
  listen(store, () => toValue(options).onData);
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
    const { client: _client, onData: _onData, ...own } = toValue(options);
    const { storage: _storage, transport: _transport, ...rest } = own;
    return rest;
  };
  return {
    ...state,
    send: (goal, more) => store.value.send(goal, { ...params(), ...more }),
    regenerate: () => store.value.regenerate(params()),
    steer: (content) => store.value.steer(content),
    answer: (callId, answer) => store.value.answer(callId, answer),
    cancel: () => store.value.cancel(),
    fork: (more) => store.value.fork(more),
    editQueued: (turn, changes) => store.value.editQueued(turn, changes),
    removeQueued: (turn) => store.value.removeQueued(turn),
    retry: () => store.value.retry(params()),
  };
}

export interface UseAgentStreamOptions extends AgentTaskParams {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
  /** Hears of each `data` chunk as it comes, also the transient ones, which no message keeps. */
  readonly onData?: DataListener | undefined;
}

export interface UseAgentStreamResult extends StateRefs<AgentStreamState>, AgentStreamActions {
  /**
   * Asks for `goal` and shows its turn in place of the last one. Resolves when the turn is over. Never
   * rejects: `error` says why it failed.
   */
  execute(goal: string, params?: AgentTaskParams): Promise<void>;
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
    const { client = provided, onData: _onData, ...params } = toValue(options);
    return store.execute({ ...params, ...more, client, agentId: toValue(agentId), goal });
  };
  const current = shallowRef(store);
  listen(current, () => toValue(options).onData);
  const { steer, answer, cancel, retry } = store;
  return { ...bind(current, IDLE), execute, steer, answer, cancel, retry };
}

export interface UseEventsOptions extends EventsSelection, EventsStoreOptions {
  /** In place of the provided one. */
  readonly client?: ResonantGenesis | undefined;
}

export interface UseEventsResult extends StateRefs<EventsState> {
  /** Goes on after an error, from the last event. */
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

/**
 * Why the server cannot be reached or takes no requests, while the client retries; else null.
 *
 * Known as soon as the first attempt of any call or stream of the client (the provided one, or
 * `client`) has failed, and null again when one of them is answered.
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
    // A scope may end before its component is mounted.
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
