import { Link } from '@tanstack/react-router';
import { useAgents, useNamesOfAgents } from '../agents.ts';
import { admin } from '../api.ts';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Empty, Page } from '../ui/parts.tsx';

/** Milliseconds between two looks: nothing tells of workers that come and go. */
const EACH = 2_000;

/** Which process serves which agent, and how busy it is. */
export function Workers() {
  const listing = useListing(['workers'], () => admin.workers.list(), EACH);
  const agents = useAgents();
  const nameOf = useNamesOfAgents();
  const served = new Set(listing.rows.map((worker) => worker.agentId));
  const left =
    listing.query.data === undefined
      ? []
      : (agents.data ?? []).filter((agent) => agent.engine === 'worker' && !served.has(agent.id));

  return (
    <Page title="Workers">
      {left.length > 0 && (
        <p className="notice warn" role="status">
          No worker serves {left.map((agent) => agent.name).join(', ')}.{' '}
          {left.length === 1 ? 'Its' : 'Their'} turns wait for one, and then fail.
        </p>
      )}
      <List
        label="Workers"
        listing={listing}
        idOf={(worker) => worker.id}
        empty={
          <Empty title="No worker is connected">
            A worker is a process of yours that takes the turns of an agent.{' '}
            <a href="/docs/remote-agents/">How to start one</a>
          </Empty>
        }
        columns={[
          {
            name: 'Agent',
            cell: (worker) => (
              <Link to="/play" search={{ agent: worker.agentId }}>
                {nameOf(worker.agentId)}
              </Link>
            ),
          },
          {
            name: 'Worker',
            cell: (worker) => (
              <>
                {worker.name}
                <div className="small muted mono">{worker.id}</div>
              </>
            ),
          },
          { name: 'Node', className: 'mono muted', cell: (worker) => worker.node },
          {
            name: 'Load',
            cell: (worker) => (
              <div className="load">
                <meter
                  max={worker.capacity}
                  value={worker.running}
                  className={worker.running >= worker.capacity ? 'warn' : ''}
                  aria-label={`Load of ${worker.name}`}
                />
                <span className="small nowrap">
                  {worker.running} of {worker.capacity} turns
                </span>
              </div>
            ),
          },
          {
            name: 'State',
            cell: (worker) =>
              worker.draining ? (
                <span className="badge warn">takes no more turns</span>
              ) : worker.running >= worker.capacity ? (
                <span className="badge warn">full</span>
              ) : (
                <span className="badge good">ready</span>
              ),
          },
          {
            name: 'Connected',
            className: 'muted',
            cell: (worker) => <Ago time={worker.connectedAt} />,
          },
        ]}
      />
    </Page>
  );
}
