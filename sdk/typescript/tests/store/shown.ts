/** Sessions that a test shows, of a client of its own; what it has not let go is let go after it. */
import { afterEach, beforeEach } from 'vitest';
import type { SessionStore, SessionStoreOptions } from '../../src/store/index.js';
import { sessionStore } from '../../src/store/index.js';
import { FakeClient, settled } from './fake-client.js';

export let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
  sessionStorage.clear();
});

const releases: (() => void)[] = [];

afterEach(async () => {
  for (const release of releases.splice(0)) {
    release();
  }
  await settled();
});

export function shown(sessionId: string | null, options: SessionStoreOptions = {}): SessionStore {
  const store = sessionStore(client, sessionId, options);
  releases.push(store.hold());
  return store;
}

/** Goal, status and text of each turn. */
export const brief = (store: SessionStore) =>
  store.getSnapshot().turns.map(({ goal, status, content }) => [goal, status, content]);
