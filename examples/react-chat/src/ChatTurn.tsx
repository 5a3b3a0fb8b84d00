import type { ToolCallSnapshot, TurnSnapshot } from '@resonantgenesis/sdk/react';
import { memo } from 'react';
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
}

/** One question and its answer. Those that do not change are not rendered again. */
export const ChatTurn = memo(({ turn, isHeld }: Props) => {
  const isRunning = turn.status === 'sending' || turn.status === 'streaming';
  const blocks = blocksOf(turn.content, isRunning);
  const note = isHeld ? 'Not sent yet.' : NOTES[turn.status];
  return (
    <article className="turn" aria-busy={isRunning}>
      {turn.goal !== null && <p className="goal">{turn.goal}</p>}
      {turn.steps
        .filter(({ progress }) => progress !== '')
        .map((step) => (
          <details key={step.step} className="tool">
            <summary>
              <span className="mark">…</span>
              <span className="name">{step.name}</span>
            </summary>
            <pre>{step.progress}</pre>
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
