import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { call } from '../api.ts';
import { Empty, ListState, number, Page, Table } from '../ui/parts.tsx';

interface Sums {
  readonly turns: number;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly total_tokens: number;
  readonly steps: number;
  readonly duration_ms: number;
}
interface Row extends Sums {
  readonly day?: string;
  readonly agent_id?: string;
  readonly key_id?: string;
}
interface Usage {
  readonly data: readonly Row[];
  readonly totals: Sums;
  readonly budget: { monthly_tokens: number; used_tokens: number; resets_at: string } | null;
}

const DAY = 86_400_000;
const GROUPS = ['day', 'agent', 'key'] as const;

/** What turns have used in the last 30 days. */
export function UsagePage() {
  const [group, setGroup] = useState<(typeof GROUPS)[number]>('agent');
  const days = useUsage('day');
  const rows = useUsage(group);
  if (days.data === undefined) {
    return (
      <Page title="Usage">
        <ListState query={days} empty={null} />
      </Page>
    );
  }
  const { totals, budget } = days.data;
  return (
    <Page title="Usage">
      <div className="stats">
        <Stat name="turns, last 30 days" value={number.format(totals.turns)} />
        <Stat name="tokens in" value={number.format(totals.input_tokens)} />
        <Stat name="tokens out" value={number.format(totals.output_tokens)} />
        {budget && (
          <Stat
            name={`of this month's ${number.format(budget.monthly_tokens)} tokens`}
            value={`${Math.round((100 * budget.used_tokens) / budget.monthly_tokens)} %`}
          />
        )}
      </div>
      <div className="panel padded">
        <h2>Tokens by day</h2>
        <Chart rows={days.data.data} />
      </div>
      <label className="row small">
        By
        <select
          className="input"
          style={{ width: 'auto' }}
          value={group}
          onChange={(event) => setGroup(event.target.value as typeof group)}
        >
          {GROUPS.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </label>
      {(rows.data?.data ?? []).length === 0 ? (
        <ListState
          query={rows}
          empty={<Empty title="Nothing was used yet">Ask an agent in the playground.</Empty>}
        />
      ) : (
        <Table label="Usage">
          <thead>
            <tr>
              <th>{group}</th>
              <th>Turns</th>
              <th>Tokens in</th>
              <th>Tokens out</th>
              <th>Steps</th>
              <th>Seconds</th>
            </tr>
          </thead>
          <tbody>
            {rows.data?.data.map((row) => {
              const name = row.day ?? row.agent_id ?? row.key_id ?? '';
              return (
                <tr key={name}>
                  <td className="mono">{name}</td>
                  <td>{number.format(row.turns)}</td>
                  <td>{number.format(row.input_tokens)}</td>
                  <td>{number.format(row.output_tokens)}</td>
                  <td>{number.format(row.steps)}</td>
                  <td>{number.format(Math.round(row.duration_ms / 1000))}</td>
                </tr>
              );
            })}
          </tbody>
        </Table>
      )}
    </Page>
  );
}

function useUsage(group: string) {
  return useQuery({
    queryKey: ['usage', group],
    queryFn: () => call<Usage>('GET', `/v1/usage?group_by=${group}&limit=100`),
  });
}

function Stat(props: { name: string; value: string }) {
  return (
    <div className="panel stat">
      <b>{props.value}</b>
      <span className="muted small">{props.name}</span>
    </div>
  );
}

function Chart(props: { rows: readonly Row[] }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const target = place.current;
    if (target === null) return;
    const used = new Map(props.rows.map((row) => [row.day, row.total_tokens]));
    const today = Math.floor(Date.now() / DAY) * DAY;
    const days = Array.from({ length: 30 }, (_, index) => today - (29 - index) * DAY);
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name);
    const axis = {
      stroke: colour('--muted'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { show: false },
    };
    const bars = uPlot.paths.bars?.({ size: [0.7, 40] });
    const chart = new uPlot(
      {
        width: target.clientWidth,
        height: 220,
        cursor: { y: false },
        legend: { show: false },
        scales: { x: { range: (_chart, from, to) => [from - DAY / 2000, to + DAY / 2000] } },
        axes: [axis, { ...axis, size: 70 }],
        series: [
          {},
          {
            label: 'tokens',
            points: { show: false },
            stroke: colour('--accent'),
            fill: `${colour('--accent')}55`,
            ...(bars && { paths: bars }),
          },
        ],
      },
      [
        days.map((day) => day / 1000),
        days.map((day) => used.get(new Date(day).toISOString().slice(0, 10)) ?? 0),
      ],
      target,
    );
    const resize = new ResizeObserver(() =>
      chart.setSize({ width: target.clientWidth, height: 220 }),
    );
    resize.observe(target);
    return () => {
      resize.disconnect();
      chart.destroy();
    };
  }, [props.rows]);
  return <div ref={place} role="img" aria-label="Tokens by day" />;
}
