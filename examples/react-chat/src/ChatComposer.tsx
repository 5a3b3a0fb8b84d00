import type { FormEvent, KeyboardEvent } from 'react';
import { useState } from 'react';

interface Props {
  readonly isStreaming: boolean;
  readonly send: (goal: string) => Promise<void>;
  readonly cancel: () => Promise<void>;
}

export function ChatComposer({ isStreaming, send, cancel }: Props) {
  const [goal, setGoal] = useState('');
  const [problem, setProblem] = useState<string | null>(null);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (goal.trim() !== '') {
      setGoal('');
      void send(goal.trim());
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
      submit(event);
    }
  };

  const stop = async () => {
    setProblem(null);
    try {
      await cancel();
    } catch (error) {
      setProblem(`Could not stop it: ${error instanceof Error ? error.message : error}`);
    }
  };

  return (
    <form onSubmit={submit}>
      <textarea
        aria-label="Message"
        placeholder="Ask something"
        rows={1}
        value={goal}
        onChange={(event) => setGoal(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {problem !== null && <span className="note">{problem}</span>}
      {isStreaming && (
        <button type="button" onClick={stop}>
          Stop
        </button>
      )}
      <button type="submit" className="primary" disabled={goal.trim() === ''}>
        Send
      </button>
    </form>
  );
}
