import type { Budget as BudgetState, UsageRow } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { admin } from '../api.ts';
import { Chart } from '../ui/chart.tsx';
import { Choice } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Empty, ListState, number, Page, Stat } from '../ui/parts.tsx';

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
    queryFn: () => admin.usage.report({ groupBy: 'day', limit: 100 }),
  });
  const listing = useListing(['usage', group], (page) =>
    admin.usage.report({ groupBy: group, ...page }),
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
        <Stat name="tokens in" value={number.format(totals.inputTokens)} />
        <Stat name="tokens out" value={number.format(totals.outputTokens)} />
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
          { name: 'Tokens in', isFigure: true, cell: (row) => number.format(row.inputTokens) },
          { name: 'Tokens out', isFigure: true, cell: (row) => number.format(row.outputTokens) },
          { name: 'Steps', isFigure: true, cell: (row) => number.format(row.steps) },
          {
            name: 'Seconds',
            isFigure: true,
            cell: (row) => number.format(Math.round(row.durationMs / 1000)),
          },
        ]}
      />
    </Page>
  );
}

function nameOf(row: UsageRow): string {
  return row.day ?? row.agentId ?? row.keyId ?? '';
}

function Budget(props: { state: BudgetState }) {
  const { month, monthlyTokens, usedTokens, resetsAt } = props.state;
  const part = usedTokens / monthlyTokens;
  const look = part >= 1 ? 'bad' : part >= 0.8 ? 'warn' : '';
  return (
    <section className="panel padded stack" aria-label="Budget">
      <div className="row spread">
        <h2>Budget of {month}</h2>
        <span className="muted small">
          begins anew <Ago time={resetsAt} />
        </span>
      </div>
      <meter
        className={look}
        max={monthlyTokens}
        value={usedTokens}
        aria-label="Used of the budget"
      />
      <div className="row spread small">
        <span>
          <b>{number.format(usedTokens)}</b> of {number.format(monthlyTokens)} tokens used (
          {Math.round(100 * part)} %)
        </span>
        {part >= 1 && <span className="badge bad">used up: new turns are refused</span>}
      </div>
    </section>
  );
}

function Days(props: { rows: readonly UsageRow[] }) {
  const [times, values] = useMemo(() => {
    const used = new Map(props.rows.map((row) => [row.day, row.totalTokens]));
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
