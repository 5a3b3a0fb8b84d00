import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { call, listed } from '../api.ts';
import { Chart } from '../ui/chart.tsx';
import { Choice } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Empty, ListState, number, Page, Stat } from '../ui/parts.tsx';

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
interface BudgetState {
  readonly month: string;
  readonly monthly_tokens: number;
  readonly used_tokens: number;
  readonly resets_at: string;
}
interface Usage {
  readonly data: readonly Row[];
  readonly totals: Sums;
  readonly budget: BudgetState | null;
}

/** Seconds. */
const DAY = 86_400;
const GROUPS = { agent: 'Agent', day: 'Day', key: 'Key' } as const;
const BY = { agent: 'by agent', day: 'by day', key: 'by key' } as const;
const TOKENS = [{ name: 'tokens', colour: 'accent' }] as const;

/** What turns have used in the last 30 days, and what is left of the month's budget. */
export function UsagePage() {
  const [group, setGroup] = useState<keyof typeof GROUPS>('agent');
  const days = useQuery({
    queryKey: ['usage', 'days'],
    queryFn: () => call<Usage>('GET', '/v1/usage?group_by=day&limit=100'),
  });
  const listing = useListing(['usage', group], (cursor) =>
    listed<Row>(`/v1/usage?group_by=${group}`, cursor),
  );
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
      </div>
      {budget && <Budget state={budget} />}
      <section className="panel padded stack" aria-label="Tokens by day">
        <h2>Tokens by day</h2>
        <Days rows={days.data.data} />
      </section>
      <div className="row spread">
        <h2>Turns and tokens</h2>
        <Choice
          fits
          label="By"
          options={BY}
          value={group}
          onChange={(chosen) => setGroup(chosen as typeof group)}
        />
      </div>
      <List
        label="Usage"
        listing={listing}
        idOf={nameOf}
        empty={<Empty title="Nothing was used yet">Ask an agent in the playground.</Empty>}
        columns={[
          { name: GROUPS[group], className: 'mono', cell: nameOf },
          { name: 'Turns', isFigure: true, cell: (row) => number.format(row.turns) },
          { name: 'Tokens in', isFigure: true, cell: (row) => number.format(row.input_tokens) },
          { name: 'Tokens out', isFigure: true, cell: (row) => number.format(row.output_tokens) },
          { name: 'Steps', isFigure: true, cell: (row) => number.format(row.steps) },
          {
            name: 'Seconds',
            isFigure: true,
            cell: (row) => number.format(Math.round(row.duration_ms / 1000)),
          },
        ]}
      />
    </Page>
  );
}

function nameOf(row: Row): string {
  return row.day ?? row.agent_id ?? row.key_id ?? '';
}

function Budget(props: { state: BudgetState }) {
  const { month, monthly_tokens, used_tokens, resets_at } = props.state;
  const part = used_tokens / monthly_tokens;
  const look = part >= 1 ? 'bad' : part >= 0.8 ? 'warn' : '';
  return (
    <section className="panel padded stack" aria-label="Budget">
      <div className="row spread">
        <h2>Budget of {month}</h2>
        <span className="muted small">
          begins anew <Ago time={resets_at} />
        </span>
      </div>
      <meter
        className={look}
        max={monthly_tokens}
        value={used_tokens}
        aria-label="Used of the budget"
      />
      <div className="row spread small">
        <span>
          <b>{number.format(used_tokens)}</b> of {number.format(monthly_tokens)} tokens used (
          {Math.round(100 * part)} %)
        </span>
        {part >= 1 && <span className="badge bad">used up: new turns are refused</span>}
      </div>
    </section>
  );
}

function Days(props: { rows: readonly Row[] }) {
  const [times, values] = useMemo(() => {
    const used = new Map(props.rows.map((row) => [row.day, row.total_tokens]));
    const today = Math.floor(Date.now() / 1000 / DAY) * DAY;
    const days = Array.from({ length: 30 }, (_, index) => today - (29 - index) * DAY);
    const dayOf = (at: number) => new Date(at * 1000).toISOString().slice(0, 10);
    return [days, [days.map((day) => used.get(dayOf(day)) ?? 0)]];
  }, [props.rows]);
  return (
    <Chart
      label="Tokens by day"
      series={TOKENS}
      times={times}
      values={values}
      format={number.format}
      height={220}
      bar={DAY}
    />
  );
}
