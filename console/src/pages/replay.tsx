import { Pause, Play, RotateCcw } from 'lucide-react';
import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { calls } from '../api.ts';
import { Turns } from '../chat/turns.tsx';
import { LogPages } from '../log/log-pages.ts';
import { Player } from '../log/player.ts';
import { number, sayWhy } from '../ui/parts.tsx';

const SPEEDS: readonly [name: string, speed: number][] = [
  ['half the pace', 0.5],
  ['original pace', 1],
  ['2 times', 2],
  ['5 times', 5],
  ['20 times', 20],
  ['100 times', 100],
  ['at once', Infinity],
];
/** Messages whose goals are shown. */
const GOALS = 100;

/** The conversation as it came, at its own pace or another. */
export default function Replay(props: { sessionId: string; head: number }) {
  const { sessionId } = props;
  const [player] = useState(() => new Player(new LogPages(sessionId, props.head)));
  const { log } = player;
  useSyncExternalStore(player.subscribe, player.version);
  useSyncExternalStore(log.subscribe, log.version);
  const stage = useRef<HTMLElement>(null);

  useEffect(() => {
    log.want(1, Math.min(log.head, 2));
    calls.sessions.messages(sessionId, { limit: GOALS }).then((page) => {
      player.learn(page.data);
    }, sayWhy);
    player.play();
    return () => player.stop();
  }, [player, log, sessionId]);

  useEffect(() => {
    if (player.isPlaying) stage.current?.scrollTo({ top: stage.current.scrollHeight });
  });

  if (log.error) {
    return (
      <p className="notice bad" role="alert">
        {log.error.message}
      </p>
    );
  }
  const at = log.entry(player.position)?.at;
  return (
    <div className="replay">
      <div className="row">
        <button
          className="button primary"
          type="button"
          onClick={() => (player.isPlaying ? player.pause() : player.play())}
        >
          {player.isPlaying ? <Pause aria-hidden /> : <Play aria-hidden />}
          {player.isPlaying ? 'Pause' : 'Play'}
        </button>
        <button
          className="button icon"
          type="button"
          title="From the start"
          onClick={() => {
            player.seek(0);
            player.play();
          }}
        >
          <RotateCcw aria-label="From the start" />
        </button>
        <select
          className="input"
          style={{ width: 'auto' }}
          aria-label="Pace"
          defaultValue="original pace"
          onChange={(event) => {
            player.speed = SPEEDS.find(([name]) => name === event.target.value)?.[1] ?? 1;
          }}
        >
          {SPEEDS.map(([name]) => (
            <option key={name}>{name}</option>
          ))}
        </select>
        <label className="row small">
          <input
            type="checkbox"
            defaultChecked
            onChange={(event) => {
              player.skipsQuiet = event.target.checked;
            }}
          />
          Shorten quiet times to 2 s
        </label>
      </div>
      <div className="row">
        <input
          type="range"
          aria-label="Position in the log"
          min={log.earliest - 1}
          max={log.head}
          value={player.position}
          onChange={(event) => player.seek(Number(event.target.value))}
        />
        <span className="small muted mono">
          {number.format(player.position)} of {number.format(log.head)}
          {at !== undefined && `, ${new Date(at).toLocaleTimeString('en-GB')}`}
        </span>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse */}
      <section className="panel stage" ref={stage} tabIndex={0} aria-label="The conversation">
        <div className="conversation">
          <Turns turns={player.turns()} />
        </div>
      </section>
    </div>
  );
}
