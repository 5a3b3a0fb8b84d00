/** A conversation: goals and answers, with steps, tool calls and what a turn asks. */
import type { Ask } from '@resonantgenesis/sdk';
import type { TurnSnapshot } from '@resonantgenesis/sdk/store';
import { Brain, Check, Wrench, X } from 'lucide-react';
import { lazy, Suspense } from 'react';
import { Json, number, Status } from '../ui/parts.tsx';
import { AskCard } from './ask-card.tsx';

const Markdown = lazy(() => import('./markdown.tsx'));

export type Answer = (callId: string, ask: Ask, payload: unknown) => Promise<void>;

export function Turns(props: { turns: readonly TurnSnapshot[]; onAnswer: Answer }) {
  return (
    <div className="turns">
      {props.turns.map((turn) => (
        <Turn key={turn.key} turn={turn} onAnswer={props.onAnswer} />
      ))}
    </div>
  );
}

function Turn(props: { turn: TurnSnapshot; onAnswer: Answer }) {
  const { turn } = props;
  return (
    <>
      {turn.goal !== null && <div className="goal">{turn.goal}</div>}
      <article className="answer" aria-label={`Answer ${turn.turn ?? ''}`}>
        {turn.steps
          .filter((step) => step.progress)
          .map((step) => (
            <details key={step.step} className="call">
              <summary>
                <Brain size={15} aria-hidden />
                <span className="grow">{step.name}</span>
                {step.durationMs !== undefined && (
                  <span className="small muted">{number.format(step.durationMs)} ms</span>
                )}
              </summary>
              <div className="muted">{step.progress}</div>
            </details>
          ))}
        {turn.toolCalls.map((made) => (
          <details key={made.callId} className="call">
            <summary>
              <Wrench size={15} aria-hidden />
              <code className="grow">{made.tool}</code>
              {made.status === 'running' && <Status status="running" />}
              {made.status === 'completed' && <Check size={15} aria-label="completed" />}
              {made.status === 'failed' && <X size={15} aria-label="failed" />}
            </summary>
            <div className="stack">
              <Json value={made.args} />
              {made.result !== undefined && <Json value={made.result} />}
            </div>
          </details>
        ))}
        {turn.content && (
          <Suspense fallback={<p>{turn.content}</p>}>
            <Markdown text={turn.content} />
          </Suspense>
        )}
        {turn.waiting.map((ask) => (
          <AskCard
            key={ask.callId}
            ask={ask}
            onAnswer={(payload) => props.onAnswer(ask.callId, ask, payload)}
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
        </footer>
      </article>
    </>
  );
}
