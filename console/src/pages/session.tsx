import { useSession } from '@resonantgenesis/sdk/react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { Download, GitFork, MessagesSquare, Trash2 } from 'lucide-react';
import { Tabs } from 'radix-ui';
import { lazy, Suspense, useState } from 'react';
import { client } from '../api.ts';
import { Turns } from '../chat/turns.tsx';
import { credential, may } from '../credential/credential.ts';
import { Confirm, Empty, ListState, Page, Status, say, sayWhy } from '../ui/parts.tsx';
import { answerOf } from './playground.tsx';

const Timeline = lazy(() => import('./timeline.tsx'));
const Frames = lazy(() => import('./frames.tsx'));
const route = getRouteApi('/sessions/$sessionId');

/** One session: as a conversation, as its log, and as each client sees it. */
export function SessionPage() {
  const { sessionId } = route.useParams();
  const navigate = useNavigate();
  const [deleting, setDeleting] = useState(false);
  const shown = useQuery({
    queryKey: ['session', sessionId],
    queryFn: () => client.sessions.get(sessionId),
  });
  if (shown.data === undefined) {
    return (
      <Page title="Session">
        <ListState query={shown} empty={<Empty title="There is no such session" />} />
      </Page>
    );
  }
  const session = shown.data;

  async function exportLog() {
    const answer = await fetch(`/v1/sessions/${sessionId}/export`, {
      headers: { Authorization: `Bearer ${credential.get()?.token}` },
    });
    if (!answer.ok) throw new Error(`The export failed with ${answer.status}.`);
    const address = URL.createObjectURL(await answer.blob());
    const link = document.createElement('a');
    link.href = address;
    link.download = `${sessionId}.ndjson`;
    link.click();
    URL.revokeObjectURL(address);
  }

  async function fork() {
    const made = await client.sessions.fork(sessionId);
    await navigate({ to: '/play', search: { session: made.sessionId, agent: session.agentId } });
  }

  async function remove() {
    await client.sessions.delete(sessionId);
    say('The session and its log are gone');
    await navigate({ to: '/sessions' });
  }

  return (
    <Page
      title={session.agentId}
      actions={
        <>
          <button
            className="button"
            type="button"
            onClick={() =>
              void navigate({ to: '/play', search: { session: sessionId, agent: session.agentId } })
            }
          >
            <MessagesSquare aria-hidden /> Open
          </button>
          <button className="button" type="button" onClick={() => exportLog().catch(sayWhy)}>
            <Download aria-hidden /> Export
          </button>
          {may('sessions:write') && (
            <>
              <button className="button" type="button" onClick={() => fork().catch(sayWhy)}>
                <GitFork aria-hidden /> Fork
              </button>
              <button
                className="button danger icon"
                type="button"
                title="Delete"
                onClick={() => setDeleting(true)}
              >
                <Trash2 aria-label="Delete" />
              </button>
            </>
          )}
        </>
      }
    >
      <div className="row muted">
        <code>{sessionId}</code>
        <Status status={session.status} />
        <span>{session.turns} turns</span>
        {session.subject && <span>of {session.subject}</span>}
      </div>
      <Tabs.Root defaultValue="chat">
        <Tabs.List className="tabs" aria-label="Views">
          <Tabs.Trigger className="tab" value="chat">
            Conversation
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="log">
            Log
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="frames">
            As each client sees it
          </Tabs.Trigger>
        </Tabs.List>
        <div style={{ paddingTop: 16 }}>
          <Tabs.Content value="chat">
            <Chat sessionId={sessionId} />
          </Tabs.Content>
          <Suspense fallback={<div className="skeleton" />}>
            <Tabs.Content value="log">
              <Timeline sessionId={sessionId} head={session.position ?? 0} />
            </Tabs.Content>
            <Tabs.Content value="frames">
              <Frames session={session} />
            </Tabs.Content>
          </Suspense>
        </div>
      </Tabs.Root>
      <Confirm
        open={deleting}
        onOpenChange={setDeleting}
        title="Delete this session?"
        description="Its log goes with it, for every reader and for good."
        action="Delete"
        onConfirm={() => remove().catch(sayWhy)}
      />
    </Page>
  );
}

function Chat(props: { sessionId: string }) {
  const session = useSession(props.sessionId);
  return (
    <Turns
      turns={session.turns}
      onAnswer={(callId, ask, payload) => session.answer(callId, answerOf(ask, payload))}
    />
  );
}
