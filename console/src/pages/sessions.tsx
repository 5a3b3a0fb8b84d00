import type { SessionStatus } from '@resonantgenesis/sdk';
import { useInfiniteQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { client } from '../api.ts';
import { useFollow } from '../follow.ts';
import { Ago, Empty, ListState, Page, Status, Table } from '../ui/parts.tsx';

const STATUSES = ['queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'timeout'];

/** All sessions, newest first, as they change. */
export function Sessions() {
  const [status, setStatus] = useState('');
  const [agentId, setAgentId] = useState('');
  const list = useInfiniteQuery({
    queryKey: ['sessions', status, agentId],
    queryFn: ({ pageParam }) =>
      client.sessions.list({
        limit: 50,
        cursor: pageParam,
        ...(status && { status: status as SessionStatus }),
        ...(agentId && { agentId }),
      }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
  });
  useFollow('session.*', 'sessions');
  const rows = list.data?.pages.flatMap((page) => [...page.data]) ?? [];

  return (
    <Page
      title="Sessions"
      actions={
        <>
          <input
            className="input"
            style={{ width: 180 }}
            placeholder="Agent"
            aria-label="Agent"
            value={agentId}
            onChange={(event) => setAgentId(event.target.value)}
          />
          <select
            className="input"
            style={{ width: 'auto' }}
            aria-label="Status"
            value={status}
            onChange={(event) => setStatus(event.target.value)}
          >
            <option value="">every status</option>
            {STATUSES.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </>
      }
    >
      {rows.length === 0 ? (
        <ListState
          query={list}
          empty={
            <Empty title="No sessions here">
              <Link to="/play">Ask an agent</Link>, or choose another status.
            </Empty>
          }
        />
      ) : (
        <Table label="Sessions">
          <thead>
            <tr>
              <th>Session</th>
              <th>Agent</th>
              <th>Status</th>
              <th>Turns</th>
              <th>Subject</th>
              <th>Changed</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((session) => (
              <tr key={session.sessionId}>
                <td>
                  <Link
                    to="/sessions/$sessionId"
                    params={{ sessionId: session.sessionId }}
                    className="mono"
                  >
                    {session.sessionId}
                  </Link>
                </td>
                <td>{session.agentId}</td>
                <td>
                  <Status status={session.status} />
                </td>
                <td>{session.turns}</td>
                <td className="muted">{session.subject ?? '–'}</td>
                <td className="muted">
                  <Ago time={session.updatedAt} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      {list.hasNextPage && (
        <button
          className="button"
          type="button"
          disabled={list.isFetchingNextPage}
          onClick={() => void list.fetchNextPage()}
        >
          {list.isFetchingNextPage ? 'Loading …' : 'Older sessions'}
        </button>
      )}
    </Page>
  );
}
