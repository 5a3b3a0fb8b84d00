import type { FormEvent, KeyboardEvent } from 'react';
import { useState } from 'react';

interface Props {
  readonly isStreaming: boolean;
  readonly send: (goal: string) => Promise<void>;
  readonly steer: (content: string) => Promise<void>;
  readonly cancel: () => Promise<void>;
}

export function ChatComposer({ isStreaming, send, steer, cancel }: Props) {
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

  const attempt = async (what: Promise<void>) => {
    setProblem(null);
    try {
      await what;
    } catch (error) {
      setProblem(`That did not work: ${error instanceof Error ? error.message : error}`);
    }
  };

  const tell = () => {
    setGoal('');
    void attempt(steer(goal.trim()));
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
        <>
          <button type="button" disabled={goal.trim() === ''} onClick={tell}>
            Tell it now
          </button>
          <button type="button" onClick={() => attempt(cancel())}>
            Stop
          </button>
        </>
      )}
      <button type="submit" className="primary" disabled={goal.trim() === ''}>
        Send
      </button>
    </form>
  );
}
