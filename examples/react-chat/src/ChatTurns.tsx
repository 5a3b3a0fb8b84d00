import type { TurnSnapshot } from '@resonantgenesis/sdk/react';
import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import { Follower } from '../../shared/follower';
import { ChatTurn } from './ChatTurn';

interface Props {
  readonly turns: readonly TurnSnapshot[];
  readonly error: Error | null;
  readonly retry: () => void;
  readonly regenerate: () => Promise<void>;
  readonly branch: (turn: number) => void;
  /** Whether what is sent now waits here. */
  readonly isWaiting: boolean;
}

export function ChatTurns({ turns, error, retry, regenerate, branch, isWaiting }: Props) {
  const list = useRef<HTMLDivElement>(null);
  const [isAway, setIsAway] = useState(false);
  const [follower] = useState(() => new Follower(setIsAway));

  useEffect(() => (list.current === null ? undefined : follower.attach(list.current)), [follower]);
  useLayoutEffect(() => follower.shows(turns), [follower, turns]);

  return (
    <div className="talk">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls can be reached with the keyboard */}
      <div className="turns" role="log" aria-label="Conversation" tabIndex={0} ref={list}>
        <div>
          {turns.length === 0 && (
            <p className="empty">
              Ask about streaming, or give the agent a sum: “What is 17 * 23, and how do I cancel a
              turn?”
            </p>
          )}
          {turns.map((turn) => (
            <ChatTurn
              key={turn.key}
              turn={turn}
              isHeld={isWaiting && turn.status === 'sending'}
              regenerate={turn === turns.at(-1) ? regenerate : undefined}
              branch={branch}
            />
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
      </div>
      {isAway && (
        <button type="button" className="newest" onClick={follower.toNewest}>
          <span aria-hidden="true">↓</span> To the newest
        </button>
      )}
    </div>
  );
}
