/** What is known of a turn in the playground beside its log, and what can be done with it. */
import type { UseSessionResult } from '@resonantgenesis/sdk/react';
import { GitFork, Pencil, RefreshCw, Trash2 } from 'lucide-react';
import { createContext, useContext, useState } from 'react';
import { Dialog, duration, number, sayWhy } from '../ui/parts.tsx';
import type { Timing } from './timings.ts';
import type { ShownTurn } from './turns.tsx';

/** The conversation that a footer is in; it does not change with every piece of text. */
export interface Talk {
  readonly actions: Pick<UseSessionResult, 'regenerate' | 'editQueued' | 'removeQueued'>;
  readonly timings: ReadonlyMap<string, Timing>;
  /** The keys of the newest turn, and of the oldest one that is open. */
  readonly newest: string | undefined;
  readonly open: string | undefined;
  readonly onFork: (turn: number) => void;
}

export const TalkOfTurns = createContext<Talk | null>(null);

const OPEN = new Set<ShownTurn['status']>(['sending', 'queued', 'streaming', 'waiting']);

export function isOpen(turn: Pick<ShownTurn, 'status'>): boolean {
  return OPEN.has(turn.status);
}

export function TurnFooter({ turn }: { turn: ShownTurn }) {
  const talk = useContext(TalkOfTurns);
  if (talk === null) return null;
  const { actions, onFork } = talk;
  const place = turn.inheritedFrom === undefined ? turn.turn : null;
  return (
    <>
      <Speed timing={talk.timings.get(turn.key)} />
      {place !== null && !isOpen(turn) && (
        <span className="row deeds">
          {turn.key === talk.newest && (
            <button
              className="button quiet"
              type="button"
              onClick={() => void actions.regenerate()}
            >
              <RefreshCw aria-hidden /> Regenerate
            </button>
          )}
          <button className="button quiet" type="button" onClick={() => onFork(place)}>
            <GitFork aria-hidden /> Fork from here
          </button>
        </span>
      )}
      {place !== null && turn.status === 'queued' && turn.key !== talk.open && (
        <Queued actions={actions} turn={place} goal={turn.goal ?? ''} />
      )}
    </>
  );
}

function Speed({ timing }: { timing: Timing | undefined }) {
  if (timing === undefined || timing.chunks === 0) return null;
  const { firstChunk, chunks, chunksPerSecond } = timing;
  return (
    <span className="speed" title="As this page saw it">
      {firstChunk !== null && `first chunk after ${duration(firstChunk / 1000)}, `}
      {number.format(chunks)} chunks
      {chunksPerSecond !== null && `, ${number.format(Math.round(chunksPerSecond))}/s`}
    </span>
  );
}

/** A turn that waits for others is changed or taken out. */
function Queued(props: { actions: Talk['actions']; turn: number; goal: string }) {
  const { actions, turn } = props;
  const [isEdited, setEdited] = useState(false);
  const [goal, setGoal] = useState(props.goal);
  return (
    <>
      <button className="button quiet" type="button" onClick={() => setEdited(true)}>
        <Pencil aria-hidden /> Edit
      </button>
      <button
        className="button quiet"
        type="button"
        onClick={() => actions.removeQueued(turn).catch(sayWhy)}
      >
        <Trash2 aria-hidden /> Remove
      </button>
      <Dialog open={isEdited} onOpenChange={setEdited} title="The question that waits">
        <form
          className="stack"
          onSubmit={(event) => {
            event.preventDefault();
            setEdited(false);
            actions.editQueued(turn, { goal }).catch(sayWhy);
          }}
        >
          <textarea
            className="input"
            aria-label="The question"
            value={goal}
            onChange={(event) => setGoal(event.target.value)}
          />
          <button className="button primary" type="submit" disabled={!goal.trim()}>
            Save
          </button>
        </form>
      </Dialog>
    </>
  );
}
