/** What an answer is made of, in the order in which the agent gave it. */
import type { AnswerParams, Ask } from '@resonantgenesis/sdk';
import type { TurnSnapshot } from '@resonantgenesis/sdk/store';
import {
  Braces,
  Brain,
  Check,
  FileDown,
  Footprints,
  Link2,
  MessageSquare,
  Wrench,
  X,
} from 'lucide-react';
import type { ReactNode } from 'react';
import { lazy, memo, Suspense, useCallback } from 'react';
import { duration, Json, Status, sayWhy, size } from '../ui/parts.tsx';
import { AskCard } from './ask-card.tsx';
import { saveFile } from './save.ts';

const Markdown = lazy(() => import('./markdown.tsx'));

export type Answer = (callId: string, ask: Ask, payload: unknown) => Promise<void>;

/** Answers what turns ask; the same function as long as the session's is. */
export function useAnswer(answer: (callId: string, params: AnswerParams) => Promise<void>): Answer {
  return useCallback((callId, ask, payload) => answer(callId, answerOf(ask, payload)), [answer]);
}

function answerOf(ask: Ask, payload: unknown): AnswerParams {
  if (payload === false) return { approved: false };
  return ask.kind === 'approval' ? { approved: true } : { payload };
}

type Part = TurnSnapshot['parts'][number];
type PartOf<T extends Part['type']> = Extract<Part, { type: T }>;

interface PartProps {
  readonly part: Part;
  /** Whether what is shown before is another agent's. */
  readonly isFirstOfAgent: boolean;
  /** Whether more of it may come. */
  readonly isGrowing: boolean;
  /** What the turn asks with this part, if it still asks. */
  readonly ask: Ask | undefined;
  readonly onAnswer: Answer | undefined;
}

/** A part that has not changed is the same object, so only the one that grows is rendered again. */
export const PartOfAnswer = memo(function PartOfAnswer(props: PartProps) {
  const { part } = props;
  const shown = shownOf(props);
  if (shown === null || part.agent_id === undefined) return shown;
  return (
    <div className={`of-agent ${props.isFirstOfAgent ? 'first' : ''}`}>
      {props.isFirstOfAgent && <span className="small muted">{part.agent_id}</span>}
      {shown}
    </div>
  );
});

function shownOf({ part, isGrowing, ask, onAnswer }: PartProps): ReactNode {
  switch (part.type) {
    case 'text':
      return (
        <Suspense fallback={<p className="plain">{part.content}</p>}>
          <Markdown text={part.content} isGrowing={isGrowing} />
        </Suspense>
      );
    case 'reasoning':
      return (
        <Folded icon={<Brain size={15} aria-hidden />} name={isGrowing ? 'Thinking …' : 'Thought'}>
          <div className="muted plain">{part.content}</div>
        </Folded>
      );
    case 'step':
      return isSilent(part) ? null : <StepOf part={part} />;
    case 'tool_call':
      return <CallOf part={part} open={ask ? 'waiting' : isGrowing ? 'running' : null} />;
    case 'source':
      return <SourceOf part={part} />;
    case 'file':
      return (
        <button
          className="button file"
          type="button"
          onClick={() => saveFile(part.file_id, part.name).catch(sayWhy)}
        >
          <FileDown aria-hidden /> {part.name}
          <span className="small muted">{size(part.size)}</span>
        </button>
      );
    case 'data':
      return (
        <Folded icon={<Braces size={15} aria-hidden />} name={part.name}>
          <Json value={part.data} />
        </Folded>
      );
    case 'user_message':
      return (
        <p className="said small">
          <MessageSquare size={14} aria-hidden /> {part.content}
          <span className="muted">
            {part.taken ? ' — taken by the agent' : ' — left for the next turn'}
          </span>
        </p>
      );
    case 'input_required':
      if (ask === undefined) return <AnsweredOf part={part} />;
      return (
        <AskCard
          ask={ask}
          onAnswer={onAnswer && ((payload) => onAnswer(ask.callId, ask, payload))}
        />
      );
    default:
      // The error stands below the answer; of other types nothing is known.
      return null;
  }
}

function Folded(props: {
  icon: ReactNode;
  name: ReactNode;
  state?: ReactNode;
  children: ReactNode;
}) {
  return (
    <details className="call">
      <summary>
        {props.icon}
        <span className="grow gist">{props.name}</span>
        {props.state}
      </summary>
      <div className="stack">{props.children}</div>
    </details>
  );
}

/** The name of a step where the agent names none; a member of a team has its own name there. */
const UNNAMED = 'answer';

/** Whether a part is not shown: a step that is only the frame around an answer. */
export function isSilent(part: Part): boolean {
  if (part.type !== 'step' || part.progress || part.detail) return false;
  return part.name === UNNAMED || part.name === part.agent_id;
}

/** A step is a line, which unfolds if it has something to say. */
function StepOf({ part }: { part: PartOf<'step'> }) {
  const said = part.progress ?? part.detail;
  const icon = <Footprints size={14} aria-hidden />;
  const took = part.duration_ms !== undefined && (
    <span className="small muted">{duration(part.duration_ms / 1000)}</span>
  );
  if (!said) {
    return (
      <p className="step small muted">
        {icon} {part.name} {took}
      </p>
    );
  }
  return (
    <Folded icon={icon} name={part.name} state={took}>
      <div className="muted plain">{said}</div>
    </Folded>
  );
}

/** Characters of a call's arguments that stand beside its name. */
const GIST = 160;

function gistOf(args: object): string {
  const pairs = Object.entries(args).map(
    ([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return pairs.join(', ').slice(0, GIST);
}

/** `open`: what a call without a result does; null: it is over. */
function CallOf(props: { part: PartOf<'tool_call'>; open: 'waiting' | 'running' | null }) {
  const { part, open } = props;
  const { is_error: isError } = part;
  const state =
    isError === undefined ? (
      open === null ? (
        <span className="small muted">no result</span>
      ) : (
        <Status status={open} />
      )
    ) : isError ? (
      <X size={15} aria-label="failed" />
    ) : (
      <Check size={15} aria-label="completed" />
    );
  return (
    <Folded
      icon={<Wrench size={15} aria-hidden />}
      name={
        <>
          <code>{part.tool}</code> <span className="small muted">{gistOf(part.args)}</span>
        </>
      }
      state={state}
    >
      <span className="small muted">Arguments</span>
      <Json value={part.args} />
      {part.result !== undefined && (
        <>
          <span className="small muted">{isError ? 'Why it failed' : 'Result'}</span>
          <Json value={part.result} />
        </>
      )}
    </Folded>
  );
}

function SourceOf({ part }: { part: PartOf<'source'> }) {
  const name = part.title ?? part.url;
  return (
    <span className="source small">
      <Link2 size={14} aria-hidden />
      {/^https?:\/\//.test(part.url) ? (
        <a href={part.url} target="_blank" rel="noreferrer">
          {name}
        </a>
      ) : (
        name
      )}
    </span>
  );
}

/** An ask that is over. */
function AnsweredOf({ part }: { part: PartOf<'input_required'> }) {
  const verdict = part.approved === true ? 'approved' : part.approved === false ? 'declined' : null;
  const said = verdict ?? (part.payload === undefined ? part.status : 'answered');
  return (
    <p className="said small">
      {part.approved === false ? <X size={14} aria-hidden /> : <Check size={14} aria-hidden />}
      {part.message ?? part.tool} — <strong>{said}</strong>
      {part.payload !== undefined && <code> {JSON.stringify(part.payload)}</code>}
      {part.reason && <span className="muted"> ({part.reason})</span>}
    </p>
  );
}
