import type { ToolCallSnapshot, TurnSnapshot } from '@resonantgenesis/sdk/react';
import { memo } from 'react';
import { asidesOf } from '../../shared/asides';
import { inlinesOf } from '../../shared/marks';
import type { Block } from '../../shared/text';
import { blocksOf, longJson, shortJson } from '../../shared/text';

const MARKS = { running: '●', completed: '✓', failed: '✕' };
const TAGS = { text: 'p', quote: 'blockquote', code: 'pre' } as const;
const NOTES: Partial<Record<TurnSnapshot['status'], string>> = {
  queued: 'Waits for the answer before it.',
  cancelled: 'Stopped.',
};

interface Props {
  readonly turn: TurnSnapshot;
  /** Whether it waits for the way to the server. */
  readonly isHeld: boolean;
  /** Asks the goal again; only the last turn can be. */
  readonly regenerate?: (() => Promise<void>) | undefined;
  /** Goes on from here in another session. */
  readonly branch: (turn: number) => void;
}

/** One question and its answer. Those that do not change are not rendered again. */
export const ChatTurn = memo(({ turn, isHeld, regenerate, branch }: Props) => {
  const isRunning = turn.status === 'sending' || turn.status === 'streaming';
  const blocks = blocksOf(turn.content, isRunning);
  const note = isHeld ? 'Not sent yet.' : NOTES[turn.status];
  return (
    <article className="turn" aria-busy={isRunning}>
      {turn.goal !== null && <p className="goal">{turn.goal}</p>}
      {asidesOf(turn).map(({ key, name, text }) => (
        <details key={key} className="tool">
          <summary>
            <span className="mark">…</span>
            <span className="name">{name}</span>
          </summary>
          <pre>{text}</pre>
        </details>
      ))}
      {turn.toolCalls.map((call) => (
        <ToolCall key={call.callId} call={call} />
      ))}
      <div className="answer">
        {blocks.map((block, index) => (
          <TextPart
            // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only added, never moved
            key={index}
            kind={block.kind}
            text={block.text}
            hasCursor={isRunning && index === blocks.length - 1}
          />
        ))}
        {isRunning && !isHeld && blocks.length === 0 && CURSOR}
      </div>
      {note !== undefined && <p className={isHeld ? 'note held' : 'note'}>{note}</p>}
      {turn.turn !== null && turn.usage !== null && turn.inheritedFrom === undefined && (
        <p className="note">
          {regenerate && (
            <button type="button" onClick={regenerate}>
              Again
            </button>
          )}
          <button type="button" onClick={() => branch(turn.turn ?? 0)}>
            Branch
          </button>
        </p>
      )}
    </article>
  );
});

const CURSOR = <span className="cursor">▌</span>;

const TextPart = memo(({ kind, text, hasCursor }: Block & { readonly hasCursor: boolean }) => {
  const Tag = TAGS[kind];
  return (
    <Tag>
      {kind === 'code'
        ? text
        : inlinesOf(text, hasCursor).map((inline, index) => {
            const Run = inline.kind === 'plain' ? 'span' : inline.kind;
            // biome-ignore lint/suspicious/noArrayIndexKey: runs are only added, never moved
            return <Run key={index}>{inline.text}</Run>;
          })}
      {hasCursor && CURSOR}
    </Tag>
  );
});

const ToolCall = memo(({ call }: { readonly call: ToolCallSnapshot }) => (
  <details className="tool" data-status={call.status}>
    <summary>
      <span className="mark">{MARKS[call.status]}</span>
      <span className="name">{call.tool}</span>
      <span className="args">{shortJson(call.args)}</span>
    </summary>
    {call.result !== undefined && <pre>{longJson(call.result)}</pre>}
  </details>
));
