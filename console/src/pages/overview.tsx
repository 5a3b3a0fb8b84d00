import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useMemo, useState } from 'react';
import { isPassing } from '../api.ts';
import { AskForBootstrapKey, useAdministrator } from '../credential/administrator.tsx';
import type { Curves, Sample, Whose } from '../overview/samples.ts';
import { byWord, curvesOf, rateOf, sampled, total } from '../overview/samples.ts';
import { Chart, type ChartProps, Keys } from '../ui/chart.tsx';
import { Choice } from '../ui/form.tsx';
import { duration, ListState, number, Page, Stat, Table } from '../ui/parts.tsx';
import '../overview/overview.css';

/** Milliseconds between two samples, and while the server cannot be reached. */
const EACH = 1_000;
const AGAIN = 3_000;
/** The top of an axis that counts, at least: its marks are whole. */
const LEAST = 4;

const WHOSE = { organization: 'this organization', server: 'the whole server' } as const;
const RATE = [{ name: 'chunks a second', colour: 'accent' }] as const;
const STREAMS = [
  { name: 'open', colour: 'accent' },
  { name: 'readers behind', colour: 'warn' },
] as const;
const PERCENTILES = [
  { name: 'median', colour: 'accent' },
  { name: '99th percentile', colour: 'warn' },
] as const;

/** What the organization, or the whole server, does now. */
export function Overview() {
  const [whose, setWhose] = useState<Whose>('organization');
  const key = useAdministrator();
  return (
    <Page
      title="Overview"
      actions={
        <Choice
          fits
          label="Whose"
          options={WHOSE}
          value={whose}
          onChange={(chosen) => setWhose(chosen as Whose)}
        />
      }
    >
      {whose === 'server' && key === null ? (
        <AskForBootstrapKey>
          The figures of the whole server are for its operator: no token sees them, only the
          server's bootstrap key.
        </AskForBootstrapKey>
      ) : (
        <Live key={whose} whose={whose} bootstrapKey={whose === 'server' ? key : null} />
      )}
    </Page>
  );
}

function Live(props: { whose: Whose; bootstrapKey: string | null }) {
  const { whose, bootstrapKey } = props;
  const queries = useQueryClient();
  const queryKey = ['metrics', whose];
  const shown = useQuery({
    queryKey,
    queryFn: () => {
      const before = queries.getQueryData<readonly Sample[]>(queryKey) ?? [];
      return sampled(before, whose, bootstrapKey ?? undefined);
    },
    staleTime: 0,
    structuralSharing: false,
    refetchInterval: ({ state }) => (state.error === null ? EACH : isPassing(state.error) && AGAIN),
  });
  const curves = useMemo(() => curvesOf(shown.data ?? []), [shown.data]);
  const now = shown.data?.at(-1);
  if (now === undefined) return <ListState query={shown} empty={null} />;
  return (
    <>
      {shown.error && (
        <p className="notice warn" role="status">
          {isPassing(shown.error)
            ? 'The server cannot be reached; it is asked again every few seconds.'
            : shown.error.message}
        </p>
      )}
      <Figures now={now} curves={curves} />
      <div className="charts">
        <Curve
          title="Chunks a second"
          series={RATE}
          times={curves.times}
          values={curves.rates}
          format={count}
          least={LEAST}
        />
        <Curve
          title="Streams"
          series={STREAMS}
          times={curves.times}
          values={curves.streams}
          format={count}
          least={LEAST}
        />
        <Curve
          title="Time to the first chunk"
          series={PERCENTILES}
          times={curves.times}
          values={curves.firstChunk}
          format={duration}
        />
        <Curve
          title="From append to socket"
          series={PERCENTILES}
          times={curves.times}
          values={curves.appendToSocket}
          format={duration}
        />
      </div>
      <div className="charts">
        <Words title="Turns that ended" rows={byWord(now, (node) => node.endedTurns)}>
          None since the nodes started.
        </Words>
        <Words title="Limits that held back" rows={byWord(now, (node) => node.limitsHit)}>
          None since the nodes started.
        </Words>
      </div>
      <Nodes now={now} before={shown.data?.at(-2)} />
    </>
  );
}

function Figures(props: { now: Sample; curves: Curves }) {
  const { now, curves } = props;
  const behind = total(now, (node) => node.viewers.behind);
  const last = (values: readonly (number | null)[] | undefined) => values?.at(-1) ?? null;
  const seconds = (value: number | null) => (value === null ? '–' : duration(value));
  return (
    <div className="stats">
      <Stat
        name="Streams open"
        value={number.format(total(now, (node) => node.openStreams))}
        note={
          <span className={behind > 0 ? 'warn-text' : 'muted'}>
            {behind} {behind === 1 ? 'reader' : 'readers'} behind
          </span>
        }
      />
      <Stat
        name="Chunks a second"
        value={count(last(curves.rates[0]) ?? 0)}
        note={<span className="muted">{number.format(total(now, (n) => n.chunks))} in all</span>}
      />
      <Stat
        name="Time to the first chunk"
        value={seconds(last(curves.firstChunk[0]))}
        note={<span className="muted">p99: {seconds(last(curves.firstChunk[1]))}</span>}
      />
      <Stat
        name="From append to socket"
        value={seconds(last(curves.appendToSocket[0]))}
        note={<span className="muted">p99: {seconds(last(curves.appendToSocket[1]))}</span>}
      />
      <Stat
        name="Turns running"
        value={number.format(total(now, (node) => node.openTurns.running))}
        note={<span className="muted">{total(now, (node) => node.openTurns.queued)} queued</span>}
      />
      <Stat
        name="Waiting for answers"
        value={number.format(now.waiting)}
        note={<Link to="/sessions">all sessions</Link>}
      />
    </div>
  );
}

function Panel(props: { title: string; keys?: React.ReactNode; children: React.ReactNode }) {
  return (
    <section className="panel padded stack" aria-label={props.title}>
      <div className="row spread">
        <h2>{props.title}</h2>
        {props.keys}
      </div>
      {props.children}
    </section>
  );
}

function Curve({ title, ...chart }: { title: string } & Omit<ChartProps, 'label'>) {
  return (
    <Panel title={title} keys={chart.series.length > 1 && <Keys series={chart.series} />}>
      <Chart label={title} {...chart} />
    </Panel>
  );
}

/** Counts by word, as bars. */
function Words(props: {
  title: string;
  rows: readonly (readonly [string, number])[];
  children: React.ReactNode;
}) {
  const most = props.rows[0]?.[1] ?? 1;
  return (
    <Panel title={props.title}>
      {props.rows.length === 0 && <p className="muted">{props.children}</p>}
      {props.rows.map(([word, times]) => (
        <div key={word} className="word">
          <span>{word.replaceAll('_', ' ')}</span>
          <meter max={most} value={times} aria-label={word} />
          <span>{number.format(times)}</span>
        </div>
      ))}
    </Panel>
  );
}

function Nodes(props: { now: Sample; before: Sample | undefined }) {
  return (
    <Table label="Nodes">
      <thead>
        <tr>
          {['Node', 'Runs for', 'Turns'].map((name) => (
            <th key={name}>{name}</th>
          ))}
          {['Chunks a second', 'Streams', 'Behind'].map((name) => (
            <th key={name} className="figure">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {props.now.nodes.map((node) => (
          <tr key={node.node}>
            <td className="mono" data-label="Node">
              {node.node}
            </td>
            <td className="muted" data-label="Runs for">
              {uptime(node.uptimeSeconds)}
            </td>
            <td data-label="Turns">
              {node.openTurns.running} running, {node.openTurns.queued} queued
            </td>
            <td className="figure" data-label="Chunks a second">
              {count(rateOf(node, props.before))}
            </td>
            <td className="figure" data-label="Streams">
              {number.format(node.openStreams)}
            </td>
            <td className="figure" data-label="Behind">
              {number.format(node.viewers.behind)}
            </td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const THREE = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

function count(value: number): string {
  return (value < 10 ? THREE : WHOLE).format(value);
}

function uptime(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} seconds`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} minutes`;
  return seconds < 172_800
    ? `${Math.floor(seconds / 3_600)} hours`
    : `${Math.floor(seconds / 86_400)} days`;
}
