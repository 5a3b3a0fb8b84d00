import { useVirtualizer } from '@tanstack/react-virtual';
import { ArrowDownToLine, ArrowUpToLine, X } from 'lucide-react';
import type { KeyboardEvent } from 'react';
import { memo, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import type { LogEntry, WireChunk } from '../log/log-pages.ts';
import { LogPages } from '../log/log-pages.ts';
import { IconButton, number } from '../ui/parts.tsx';
import '../log/log.css';

const ROW = 30;
/** Rows that a browser can lay out in one list; of a longer log the newest are shown. */
const MOST = 1_000_000;
/** Entries that a page key goes on by. */
const LEAP = 20;
/** The gap, in milliseconds, whose bar is as long as its cell: a minute. The scale is logarithmic. */
const LONGEST = 60_000;
/** Milliseconds from which a gap is shown as a long one. */
const LONG = 1_000;
/** Characters of an entry in its row. */
const SHOWN = 240;

const clock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  fractionalSecondDigits: 3,
});
const utf8 = new TextEncoder();

/** The log of a session, entry by entry, and what comes while one looks. */
export default function Timeline(props: { sessionId: string; head: number }) {
  const [log] = useState(() => new LogPages(props.sessionId, props.head));
  useSyncExternalStore(log.subscribe, log.version);
  useEffect(() => log.follow(), [log]);
  const [chosen, setChosen] = useState<number | null>(null);
  const [follows, setFollows] = useState(false);
  const scroll = useRef<HTMLDivElement>(null);
  const first = Math.max(log.earliest, log.head - MOST + 1);
  const count = log.head - first + 1;
  const rows = useVirtualizer({
    count,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW,
    overscan: 8,
  });
  const shown = rows.getVirtualItems();
  const from = first + (shown[0]?.index ?? 0);
  const to = first + (shown.at(-1)?.index ?? 0);

  useEffect(() => {
    if (count > 0) log.want(from - 1, to);
  }, [log, from, to, count]);

  useEffect(() => {
    if (follows && count > 0) rows.scrollToIndex(count - 1, { align: 'end' });
  }, [follows, count, rows]);

  function goTo(position: number) {
    const there = Math.min(Math.max(position, first), log.head);
    setChosen(there);
    setFollows(false);
    rows.scrollToIndex(there - first, { align: 'auto' });
  }

  function onKeyDown(event: KeyboardEvent) {
    const at = chosen ?? from - 1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + LEAP, PageUp: at - LEAP };
    const ends = { Home: first, End: log.head };
    const next = { ...to, ...ends }[event.key];
    if (event.key === 'Escape') setChosen(null);
    if (next === undefined) return;
    event.preventDefault();
    goTo(next);
  }

  if (log.error) {
    return (
      <p className="notice bad" role="alert">
        {log.error.message}
      </p>
    );
  }
  const open = chosen === null ? undefined : log.entry(chosen);
  const isChosenShown = chosen !== null && from <= chosen && chosen <= to;
  return (
    <div className="stack">
      <div className="row spread">
        <span className="muted small" role="status">
          {number.format(count)} {count === 1 ? 'entry' : 'entries'}
          {first > 1 && `, from ${number.format(first)} on: older ones are no longer kept`}
        </span>
        <div className="row">
          <GoTo onGo={goTo} />
          <button className="button" type="button" onClick={() => goTo(first)}>
            <ArrowUpToLine aria-hidden /> Start
          </button>
          <button className="button" type="button" onClick={() => goTo(log.head)}>
            <ArrowDownToLine aria-hidden /> End
          </button>
          <label className="row small">
            <input type="checkbox" checked={follows} onChange={() => setFollows(!follows)} />
            Follow
          </label>
        </div>
      </div>
      <div className={`log-and-entry ${open ? 'open' : ''}`}>
        <div className="panel log-panel">
          <div className="log-row head" aria-hidden>
            <span>position</span>
            <span>time</span>
            <span>gap</span>
            <span>kind</span>
            <span>entry</span>
            <span>bytes</span>
          </div>
          <div
            className="log"
            ref={scroll}
            role="listbox"
            aria-label="Entries of the log"
            aria-activedescendant={isChosenShown ? rowId(chosen) : undefined}
            tabIndex={0}
            onKeyDown={onKeyDown}
          >
            <div role="presentation" style={{ height: rows.getTotalSize(), position: 'relative' }}>
              {shown.map(({ index, start }) => (
                <Row
                  key={first + index}
                  position={first + index}
                  entry={log.entry(first + index)}
                  gap={log.gap(first + index)}
                  start={start}
                  count={count}
                  index={index}
                  isChosen={first + index === chosen}
                  onChoose={setChosen}
                />
              ))}
            </div>
          </div>
        </div>
        {open && (
          <aside className="panel padded stack log-entry" aria-label={`Entry ${open.position}`}>
            <div className="row spread">
              <h2>
                {open.chunk.type} at {number.format(open.position)}
              </h2>
              <IconButton
                icon={X}
                name="Close the entry"
                onClick={() => {
                  setChosen(null);
                  scroll.current?.focus();
                }}
              />
            </div>
            <p className="small muted">
              {new Date(open.at).toLocaleDateString()} {clock.format(open.at)}
              {log.gap(open.position) !== undefined &&
                `, ${durationOf(log.gap(open.position) ?? 0)} behind the entry before`}
            </p>
            <pre className="pre">{JSON.stringify(open.chunk, null, 2)}</pre>
          </aside>
        )}
      </div>
      <p className="small muted">
        A bar shows the time since the entry before, on a logarithmic scale up to a minute. It is
        missing where both came in one commit.
      </p>
    </div>
  );
}

function GoTo(props: { onGo: (position: number) => void }) {
  const [position, setPosition] = useState('');
  return (
    <form
      className="row"
      onSubmit={(event) => {
        event.preventDefault();
        if (position) props.onGo(Number(position));
      }}
    >
      <input
        className="input go-to"
        type="number"
        min={1}
        aria-label="Position"
        placeholder="Position"
        value={position}
        onChange={(event) => setPosition(event.target.value)}
      />
      <button className="button" type="submit">
        Go
      </button>
    </form>
  );
}

interface RowProps {
  readonly position: number;
  readonly entry: LogEntry | undefined;
  readonly gap: number | undefined;
  readonly start: number;
  readonly count: number;
  readonly index: number;
  readonly isChosen: boolean;
  readonly onChoose: (position: number) => void;
}

const Row = memo(function Row(props: RowProps) {
  const { position, entry, gap } = props;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list has the keys
    // biome-ignore lint/a11y/useFocusableInteractive: the list has the focus
    <div
      id={rowId(position)}
      role="option"
      aria-selected={props.isChosen}
      aria-posinset={props.index + 1}
      aria-setsize={props.count}
      className={`log-row ${entry ? `kind-${entry.chunk.type}` : ''}`}
      style={{ transform: `translateY(${props.start}px)` }}
      onClick={() => props.onChoose(position)}
    >
      <span>{number.format(position)}</span>
      {entry ? (
        <>
          <span>{clock.format(entry.at)}</span>
          <span className="gap">
            {gap !== undefined && gap > 0 && (
              <>
                <i className={gap >= LONG ? 'long' : ''} style={{ width: `${barOf(gap)}%` }} />
                <b>{durationOf(gap)}</b>
              </>
            )}
          </span>
          <span className="kind">{entry.chunk.type}</span>
          <span>{summaryOf(entry.chunk)}</span>
          <span>{number.format(utf8.encode(JSON.stringify(entry.chunk)).length)}</span>
        </>
      ) : (
        <span className="skeleton" />
      )}
    </div>
  );
});

function rowId(position: number): string {
  return `entry-${position}`;
}

/** The length of a gap's bar in per cent. */
function barOf(gap: number): number {
  return Math.min(100, (Math.log1p(gap) / Math.log1p(LONGEST)) * 100);
}

function durationOf(milliseconds: number): string {
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${number.format(Math.round(milliseconds / 60_000))} min`;
}

function summaryOf(chunk: WireChunk): string {
  const { type, ...rest } = chunk;
  const isPiece = type === 'text' || type === 'reasoning';
  return JSON.stringify(isPiece ? rest.content : rest).slice(0, SHOWN);
}
