import type { SessionStatus } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { useNamesOfAgents } from '../agents.ts';
import { calls } from '../api.ts';
import { useFollow } from '../follow.ts';
import { titleOf } from '../title.ts';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Empty, number, Page, Status } from '../ui/parts.tsx';
import { useSettled } from '../ui/settled.ts';

const STATUSES = ['queued', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'timeout'];

/** All sessions, newest first, as they change. */
export function Sessions() {
  const [status, setStatus] = useState('');
  const [agentId, setAgentId] = useState('');
  const [words, setWords] = useState('');
  const search = useSettled(words.trim());
  const listing = useListing(['sessions', status, agentId, search], (page) =>
    calls.sessions.list({
      ...page,
      ...(search && { search }),
      ...(status && { status: status as SessionStatus }),
      ...(agentId && { agentId }),
    }),
  );
  useFollow('session.*', 'sessions');
  const nameOf = useNamesOfAgents();

  return (
    <Page
      title="Sessions"
      actions={
        <>
          <input
            className="input"
            style={{ width: 260 }}
            type="search"
            placeholder="Title, question, subject or id"
            aria-label="Search"
            maxLength={200}
            value={words}
            onChange={(event) => setWords(event.target.value)}
          />
          <input
            className="input"
            style={{ width: 120 }}
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
      <List
        label="Sessions"
        listing={listing}
        idOf={(session) => session.sessionId}
        empty={
          search ? (
            <Empty title={`No session has “${search}”`}>
              Titles, first questions, agents, subjects and metadata were looked through, and the
              beginnings of ids.{' '}
              <button className="button quiet" type="button" onClick={() => setWords('')}>
                Show all sessions
              </button>
            </Empty>
          ) : (
            <Empty title="No sessions here">
              <Link to="/play">Ask an agent</Link>, or choose another status.
            </Empty>
          )
        }
        columns={[
          {
            name: 'Session',
            cell: (session) => (
              <>
                <div className="title">{titleOf(session)}</div>
                <Link
                  to="/sessions/$sessionId"
                  params={{ sessionId: session.sessionId }}
                  className="mono"
                >
                  {session.sessionId}
                </Link>
              </>
            ),
          },
          { name: 'Agent', cell: (session) => nameOf(session.agentId) },
          { name: 'Status', cell: (session) => <Status status={session.status} /> },
          { name: 'Turns', isFigure: true, cell: (session) => number.format(session.turns) },
          { name: 'Subject', className: 'muted', cell: (session) => session.subject },
          {
            name: 'Changed',
            className: 'muted',
            cell: (session) => <Ago time={session.updatedAt} />,
          },
        ]}
      />
    </Page>
  );
}
