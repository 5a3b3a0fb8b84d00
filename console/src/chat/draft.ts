/** What a person has written and not sent: a reload keeps it, as long as the tab is open. */
import { useCallback, useEffect, useState } from 'react';

const STORED = 'resonantgenesis.console.draft.';

interface Draft {
  readonly text: string;
  readonly setText: (text: string) => void;
  /** Empties the field. The text is kept until `sent` has ended well; else it is shown again. */
  readonly clearWhen: (sent: Promise<unknown>) => Promise<void>;
}

/** The draft of a session. One that has not begun has one as well, whichever agent is chosen. */
export function useDraft(sessionId: string | undefined): Draft {
  const key = STORED + (sessionId ?? 'new');
  const [text, show] = useState(() => sessionStorage.getItem(key) ?? '');
  useEffect(() => show(sessionStorage.getItem(key) ?? ''), [key]);

  const setText = useCallback(
    (next: string) => {
      show(next);
      store(key, next);
    },
    [key],
  );
  const clearWhen = useCallback(
    async (sent: Promise<unknown>) => {
      const kept = sessionStorage.getItem(key);
      show('');
      try {
        await sent;
      } catch (error) {
        show(kept ?? '');
        throw error;
      }
      // A next draft may have been begun meanwhile.
      if (sessionStorage.getItem(key) === kept) store(key, '');
    },
    [key],
  );
  return { text, setText, clearWhen };
}

function store(key: string, text: string): void {
  if (text) sessionStorage.setItem(key, text);
  else sessionStorage.removeItem(key);
}
