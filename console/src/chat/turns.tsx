/** A conversation: goals and answers, with steps, tool calls and what a turn asks. */
import type { TurnSnapshot } from '@resonantgenesis/sdk/store';
import type { ComponentType } from 'react';
import { memo } from 'react';
import { duration, number, Status } from '../ui/parts.tsx';
import { type Answer, isSilent, PartOfAnswer } from './parts-of-answer.tsx';
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
  const first = props.turns[0];
  return (
    <div className="turns">
      {first?.inheritedFrom === undefined && <Trimmed before={first?.turn ?? 1} />}
      {props.turns.map((turn) => (
        <Turn key={turn.key} turn={turn} onAnswer={props.onAnswer} footer={props.footer} />
      ))}
    </div>
  );
}

/** Says which turns have gone from the log. Those that are still being loaded come soon. */
function Trimmed({ before }: { before: number }) {
  if (before <= 1) return null;
  return (
    <p className="small muted trimmed" role="status">
      {before === 2 ? 'Turn 1 is' : `Turns 1 to ${before - 1} are`} no longer kept.
    </p>
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
            isFirstOfAgent={isFirstOfAgent(turn.parts, index)}
            isGrowing={
              part.type === 'tool_call'
                ? isOpen || turn.status === 'waiting'
                : isOpen && index === last
            }
            ask={askOf(turn, part)}
            onAnswer={props.onAnswer}
          />
        ))}
        {turn.error && turn.status !== 'cancelled' && (
          <p className="notice bad" role="alert">
            {turn.error.message}
          </p>
        )}
        <footer className="row small muted turn-end">
          <Status status={turn.status} />
          {turn.turn !== null && <span>turn {turn.turn}</span>}
          {turn.usage && <UsageOf usage={turn.usage} />}
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

function UsageOf(props: { usage: NonNullable<ShownTurn['usage']> }) {
  const { inputTokens, outputTokens, durationMs } = props.usage;
  return (
    <>
      {inputTokens + outputTokens > 0 && (
        <span>
          {number.format(inputTokens)} tokens in, {number.format(outputTokens)} out
        </span>
      )}
      <span>{duration(durationMs / 1000)}</span>
    </>
  );
}

/** Whether what is shown before is another agent's. The step that begins a member's task is not. */
function isFirstOfAgent(parts: ShownTurn['parts'], index: number): boolean {
  const agent = parts[index]?.agent_id;
  const before = parts[index - 1];
  if (before?.agent_id !== agent) return true;
  return before !== undefined && isSilent(before) && isFirstOfAgent(parts, index - 1);
}

/** What the turn still asks with this part: the question itself, and the call that it is about. */
function askOf(turn: ShownTurn, part: ShownTurn['parts'][number]) {
  if (part.type !== 'input_required' && part.type !== 'tool_call') return undefined;
  if (part.type === 'input_required' && part.status !== 'open') return undefined;
  return turn.waiting.find((ask) => ask.callId === part.call_id);
}
