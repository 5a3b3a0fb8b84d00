import { useSession } from '@resonantgenesis/sdk/react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router';
import { Download, GitFork, MessagesSquare, Trash2 } from 'lucide-react';
import { Tabs } from 'radix-ui';
import { lazy, type ReactNode, Suspense, useState } from 'react';
import { useNamesOfAgents } from '../agents.ts';
import { calls } from '../api.ts';
import { useAnswer } from '../chat/parts-of-answer.tsx';
import { save } from '../chat/save.ts';
import { Turns } from '../chat/turns.tsx';
import { may } from '../credential/credential.ts';
import { titleOf } from '../title.ts';
import {
  Ago,
  Confirm,
  Empty,
  IconButton,
  ListState,
  number,
  Page,
  Status,
  say,
  sayWhy,
} from '../ui/parts.tsx';

const Timeline = lazy(() => import('./timeline.tsx'));
const Replay = lazy(() => import('./replay.tsx'));
const Frames = lazy(() => import('./frames.tsx'));
const route = getRouteApi('/sessions/$sessionId');

/** What a session does while it may change, and milliseconds until it is looked at again. */
const OPEN = new Set(['queued', 'running', 'waiting']);
const SOON = 2_000;

/** One session: as a conversation, as its log, replayed, and as each client sees it. */
export function SessionPage() {
  const { sessionId } = route.useParams();
  const { view = 'chat' } = route.useSearch();
  const navigate = useNavigate();
  const nameOf = useNamesOfAgents();
  const [deleting, setDeleting] = useState(false);
  const shown = useQuery({
    queryKey: ['session', sessionId],
    queryFn: () => calls.sessions.get(sessionId),
    refetchInterval: ({ state }) => OPEN.has(state.data?.status ?? '') && SOON,
  });
  if (shown.data === undefined) {
    return (
      <Page title="Session">
        <ListState query={shown} empty={<Empty title="There is no such session" />} />
      </Page>
    );
  }
  const session = shown.data;

  async function fork() {
    const made = await calls.sessions.fork(sessionId);
    await navigate({ to: '/play', search: { session: made.sessionId, agent: session.agentId } });
  }

  async function remove() {
    await calls.sessions.delete(sessionId);
    say('The session and its log are gone');
    await navigate({ to: '/sessions' });
  }

  return (
    <Page
      title={titleOf(session) || nameOf(session.agentId)}
      actions={
        <>
          <Link
            className="button"
            to="/play"
            search={{ session: sessionId, agent: session.agentId }}
          >
            <MessagesSquare aria-hidden /> Open
          </Link>
          <button
            className="button"
            type="button"
            onClick={() =>
              save(`/v1/sessions/${sessionId}/export`, `${sessionId}.ndjson`).catch(sayWhy)
            }
          >
            <Download aria-hidden /> Export
          </button>
          {may('sessions:write') && (
            <>
              <button className="button" type="button" onClick={() => fork().catch(sayWhy)}>
                <GitFork aria-hidden /> Fork
              </button>
              <IconButton
                icon={Trash2}
                name="Delete"
                look="danger"
                onClick={() => setDeleting(true)}
              />
            </>
          )}
        </>
      }
    >
      <div className="row muted small about">
        <Status status={session.status} />
        <span>{nameOf(session.agentId)}</span>
        <span>
          {number.format(session.turns)} {session.turns === 1 ? 'turn' : 'turns'}
        </span>
        {session.subject && <span>of {session.subject}</span>}
        <span>
          changed <Ago time={session.updatedAt} />
        </span>
        <code>{sessionId}</code>
      </div>
      <Tabs.Root
        value={view}
        onValueChange={(chosen) =>
          void navigate({
            to: '.',
            search: chosen === 'chat' ? {} : { view: chosen },
            replace: true,
          })
        }
      >
        <Tabs.List className="tabs" aria-label="Views">
          <Tabs.Trigger className="tab" value="chat">
            Conversation
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="log">
            Log
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="replay">
            Replay
          </Tabs.Trigger>
          <Tabs.Trigger className="tab" value="frames">
            As each client<span className="wide"> sees it</span>
          </Tabs.Trigger>
        </Tabs.List>
        <div className="tab-panels">
          <Tabs.Content value="chat">
            <Chat sessionId={sessionId} />
          </Tabs.Content>
          <View value="log">
            <Timeline sessionId={sessionId} head={session.position ?? 0} />
          </View>
          <View value="replay">
            <Replay sessionId={sessionId} head={session.position ?? 0} />
          </View>
          <View value="frames">
            <Frames session={session} />
          </View>
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

/** A panel whose page loads with it. The panel is there at once, since its tab names it. */
function View(props: { value: string; children: ReactNode }) {
  return (
    <Tabs.Content value={props.value}>
      <Suspense fallback={<div className="skeleton" />}>{props.children}</Suspense>
    </Tabs.Content>
  );
}

function Chat(props: { sessionId: string }) {
  const session = useSession(props.sessionId);
  const answer = useAnswer(session.answer);
  return (
    <div className="conversation">
      <Turns turns={session.turns} onAnswer={may('sessions:write') ? answer : undefined} />
    </div>
  );
}
