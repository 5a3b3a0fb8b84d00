import type { Budget as BudgetState, UsageRow } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { useNamesOfAgents } from '../agents.ts';
import { admin } from '../api.ts';
import { may } from '../credential/credential.ts';
import { Chart } from '../ui/chart.tsx';
import { Choice } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, duration, Empty, ListState, number, Page, Stat } from '../ui/parts.tsx';

/** Seconds. */
const DAY = 86_400;
const GROUPS = { agent: 'Agent', day: 'Day', key: 'Key' } as const;
const BY = { agent: 'by agent', day: 'by day', key: 'by key' } as const;
const TOKENS = [{ name: 'tokens', colour: 'accent' }] as const;

const PERCENT = new Intl.NumberFormat('en', { style: 'percent', maximumSignificantDigits: 2 });
const MONTH = new Intl.DateTimeFormat('en', { month: 'long', year: 'numeric', timeZone: 'UTC' });

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
  const agentName = useNamesOfAgents();
  const keyNames = useNamesOfKeys();
  const nameOf = ({ day, agentId, keyId = '' }: UsageRow) =>
    day ?? (agentId !== undefined ? agentName(agentId) : (keyNames.get(keyId) ?? keyId));
  if (days.data === undefined) {
    return (
      <Page title="Usage">
        <ListState query={days} empty={null} />
      </Page>
    );
  }
  const { totals, budget } = days.data;
  const all = Math.max(1, totals.totalTokens);
  const most = Math.max(1, ...listing.rows.map((row) => row.totalTokens));
  return (
    <Page title="Usage" actions={<span className="muted">the last 30 days</span>}>
      <div className="stats">
        <Stat name="Turns" value={number.format(totals.turns)} />
        <Stat name="Tokens in" value={number.format(totals.inputTokens)} />
        <Stat name="Tokens out" value={number.format(totals.outputTokens)} />
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
        idOf={idOf}
        empty={<Empty title="Nothing was used yet">Ask an agent in the playground.</Empty>}
        columns={[
          {
            name: GROUPS[group],
            cell: (row) => <Group row={row} name={nameOf(row)} />,
          },
          {
            name: 'Share of tokens',
            cell: (row) => (
              <div className="load">
                <meter
                  max={most}
                  value={row.totalTokens}
                  aria-label={`${PERCENT.format(row.totalTokens / all)} of all tokens`}
                />
              </div>
            ),
          },
          { name: 'Turns', isFigure: true, cell: (row) => number.format(row.turns) },
          { name: 'Tokens in', isFigure: true, cell: (row) => number.format(row.inputTokens) },
          { name: 'Tokens out', isFigure: true, cell: (row) => number.format(row.outputTokens) },
          { name: 'Steps', isFigure: true, cell: (row) => number.format(row.steps) },
          {
            name: 'Time',
            isFigure: true,
            className: 'nowrap',
            cell: (row) => timeOf(row.durationMs / 1000),
          },
        ]}
      />
    </Page>
  );
}

function idOf(row: UsageRow): string {
  return row.day ?? row.agentId ?? row.keyId ?? '';
}

/** What people call a group, with its id where that is another. */
function Group(props: { row: UsageRow; name: string }) {
  const id = idOf(props.row);
  return (
    <>
      {props.name}
      {props.name !== id && <div className="mono small muted">{id}</div>}
    </>
  );
}

/** The names of keys by their ids, if the credential may see them. */
function useNamesOfKeys(): ReadonlyMap<string, string> {
  const keys = useQuery({
    queryKey: ['keys', 'names'],
    queryFn: () => admin.keys.list({ limit: 100 }),
    enabled: may('keys:read'),
  });
  return new Map(keys.data?.data.map(({ id, name }) => [id, name]));
}

/** Seconds, in words. */
function timeOf(seconds: number): string {
  if (seconds < 60) return duration(seconds);
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function Budget(props: { state: BudgetState }) {
  const { month, monthlyTokens, usedTokens, resetsAt } = props.state;
  const part = usedTokens / monthlyTokens;
  const look = part >= 1 ? 'bad' : part >= 0.8 ? 'warn' : '';
  return (
    <section className="panel padded stack" aria-label="Budget">
      <div className="row spread">
        <h2>Budget of {MONTH.format(new Date(`${month}-01T00:00:00Z`))}</h2>
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
          {PERCENT.format(part)})
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
