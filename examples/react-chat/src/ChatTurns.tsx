import type { TurnSnapshot } from '@resonantgenesis/sdk/react';
import { useLayoutEffect, useRef } from 'react';
import { ChatTurn } from './ChatTurn';

interface Props {
  readonly turns: readonly TurnSnapshot[];
  readonly error: Error | null;
  readonly retry: () => void;
}

/** Pixels from the end within which the list counts as scrolled to it. */
const NEAR = 80;

export function ChatTurns({ turns, error, retry }: Props) {
  const list = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);

  const onScroll = () => {
    if (list.current !== null) {
      const { scrollHeight, scrollTop, clientHeight } = list.current;
      isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR;
    }
  };

  // Follows the answer, unless its reader has scrolled away.
  useLayoutEffect(() => {
    if (turns.length > 0 && isAtEnd.current) {
      list.current?.scrollTo({ top: list.current.scrollHeight });
    }
  }, [turns]);

  return (
    <div className="turns" role="log" aria-label="Conversation" ref={list} onScroll={onScroll}>
      {turns.length === 0 && (
        <p className="empty">
          Ask about streaming, or give the agent a sum: “What is 17 * 23, and how do I cancel a
          turn?”
        </p>
      )}
      {turns.map((turn) => (
        <ChatTurn key={turn.key} turn={turn} />
      ))}
      {error !== null && (
        <div className="error" role="alert">
          <span>{error.message}</span>
          <button type="button" onClick={retry}>
            Try again
          </button>
        </div>
      )}
    </div>
  );
}
