import type { SessionStoreOptions } from './session-store.js';
import { SessionStore } from './session-store.js';
import type { StreamClient } from './stream-client.js';

/** The stores that are held now: who looks at the same session shares its connection and its state. */
const held = new WeakMap<StreamClient, Set<SessionStore>>();

/** The store that shows this session, or a new one, which nobody else finds until it is shared. */
export function sessionStore(
  client: StreamClient,
  sessionId: string | null,
  options: SessionStoreOptions = {},
): SessionStore {
  return find(client, sessionId) ?? new SessionStore(client, sessionId, options);
}

/**
 * Holds `store`, and returns how to let go; where another already shows its session, that other is
 * returned and nothing held.
 */
export function holdShared(store: SessionStore): SessionStore | (() => void) {
  const other = find(store.client, store.sessionId);
  if (other !== undefined && other !== store) {
    return other;
  }
  const stores = [...(held.get(store.client) ?? [])].filter((known) => known.isHeld);
  held.set(store.client, new Set([...stores, store]));
  return store.hold();
}

function find(client: StreamClient, sessionId: string | null): SessionStore | undefined {
  const stores = sessionId === null ? [] : (held.get(client) ?? []);
  for (const store of stores) {
    if (store.isHeld && store.sessionId === sessionId) {
      return store;
    }
  }
  return undefined;
}
