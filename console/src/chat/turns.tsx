/** A conversation: goals and answers, with steps, tool calls and what a turn asks. */
import type { TurnSnapshot } from '@resonantgenesis/sdk/store';
import type { ComponentType } from 'react';
import { memo } from 'react';
import { number, Status } from '../ui/parts.tsx';
import { type Answer, PartOfAnswer } from './parts-of-answer.tsx';
import './chat.css';

/** What of a turn is shown. */
export type ShownTurn = Pick<
  TurnSnapshot,
  'key' | 'turn' | 'goal' | 'parts' | 'waiting' | 'error' | 'usage' | 'replacedBy' | 'inheritedFrom'
> & { readonly status: TurnSnapshot['status'] | 'running' };

interface TurnsProps {
  readonly turns: readonly ShownTurn[];
  /** Without it what turns ask is shown, and cannot be answered. */
  readonly onAnswer?: Answer | undefined;
  /** What can be done with a turn, and what is known of it beside the log. */
  readonly footer?: ComponentType<{ turn: ShownTurn }>;
}

export function Turns(props: TurnsProps) {
  return (
    <div className="turns">
      {props.turns.map((turn) => (
        <Turn key={turn.key} turn={turn} onAnswer={props.onAnswer} footer={props.footer} />
      ))}
    </div>
  );
}

const Turn = memo(function Turn(props: {
  turn: ShownTurn;
  onAnswer: Answer | undefined;
  footer: TurnsProps['footer'] | undefined;
}) {
  const { turn, footer: Footer } = props;
  const isOpen = turn.status === 'streaming' || turn.status === 'running';
  const last = turn.parts.length - 1;
  return (
    <>
      {turn.goal !== null && <div className="goal">{turn.goal}</div>}
      <article
        className={`answer ${turn.replacedBy === undefined ? '' : 'replaced'}`}
        aria-label={`Answer ${turn.turn ?? ''}`}
        aria-busy={isOpen}
      >
        {turn.parts.map((part, index) => (
          <PartOfAnswer
            // biome-ignore lint/suspicious/noArrayIndexKey: parts are only added behind the others
            key={index}
            part={part}
            isGrowing={isOpen && (index === last || part.type === 'tool_call')}
            ask={
              part.type === 'input_required' && part.status === 'open'
                ? turn.waiting.find((ask) => ask.callId === part.call_id)
                : undefined
            }
            onAnswer={props.onAnswer}
          />
        ))}
        {turn.error && turn.status !== 'cancelled' && (
          <p className="notice bad" role="alert">
            {turn.error.message}
          </p>
        )}
        <footer className="row small muted">
          <Status status={turn.status} />
          {turn.turn !== null && <span>turn {turn.turn}</span>}
          {turn.usage && (
            <span>
              {number.format(turn.usage.inputTokens)} in, {number.format(turn.usage.outputTokens)}{' '}
              out, {number.format(turn.usage.durationMs)} ms
            </span>
          )}
          {turn.replacedBy !== undefined && <span>regenerated as turn {turn.replacedBy}</span>}
        </footer>
      </article>
      {Footer && (
        <div className="row small muted turn-footer">
          <Footer turn={turn} />
        </div>
      )}
    </>
  );
});
