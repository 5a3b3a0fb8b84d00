/** The server's bootstrap key: what no token may do. It is kept in the page's memory alone. */
import type { ReactNode } from 'react';
import { useState, useSyncExternalStore } from 'react';
import { operator } from '../api.ts';
import { TextField } from '../ui/form.tsx';
import { credential } from './credential.ts';

let key: string | null = null;
const listeners = new Set<() => void>();

function set(next: string | null): void {
  key = next;
  for (const listener of listeners) listener();
}

// Who signs out leaves nothing behind.
credential.subscribe(() => {
  if (credential.get() === null) set(null);
});

/** The bootstrap key, if a person has given it since the page was loaded. */
export function useAdministrator(): string | null {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => key,
  );
}

/** Asks for the bootstrap key. */
export function AskForBootstrapKey(props: { children: ReactNode }) {
  const [given, setGiven] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  async function unlock() {
    setBusy(true);
    setProblem('');
    try {
      await operator(given.trim()).organizations.list({ limit: 1 });
      set(given.trim());
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  }
  return (
    <form
      className="panel padded stack unlock"
      onSubmit={(event) => {
        event.preventDefault();
        void unlock();
      }}
    >
      <p>{props.children}</p>
      <TextField
        label="Bootstrap key"
        name="key"
        hint="The first start writes it to api-key in the data directory. It stays in this page's memory until you sign out or reload."
        type="password"
        isCode
        required
        value={given}
        onChange={setGiven}
      />
      {problem && (
        <p className="notice bad" role="alert">
          {problem}
        </p>
      )}
      <button className="button primary" type="submit" disabled={busy}>
        Open
      </button>
    </form>
  );
}
