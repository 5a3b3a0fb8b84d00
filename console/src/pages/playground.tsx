import type { ExecuteParams } from '@resonantgenesis/sdk';
import { useSession } from '@resonantgenesis/sdk/react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import {
  ArrowDown,
  ArrowUp,
  Copy,
  Link2,
  Plus,
  Scissors,
  Settings2,
  Square,
  X,
} from 'lucide-react';
import { DropdownMenu } from 'radix-ui';
import type { RefObject } from 'react';
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { useAgents } from '../agents.ts';
import { calls, cutConnections } from '../api.ts';
import { useDraft } from '../chat/draft.ts';
import { useAnswer } from '../chat/parts-of-answer.tsx';
import { NO_SETUP, paramsOf, type Setup, SetupFields } from '../chat/setup.tsx';
import { type Asked, SNIPPETS } from '../chat/snippets.ts';
import { useTimings } from '../chat/timings.ts';
import { isOpen, type Talk, TalkOfTurns, TurnFooter } from '../chat/turn-footer.tsx';
import { Turns } from '../chat/turns.tsx';
import { Choice } from '../ui/form.tsx';
import { copy, Empty, number, Status, say, sayWhy } from '../ui/parts.tsx';

const route = getRouteApi('/play');

/** Asks an agent, and shows what a durable answer is: reload it, cut it, open it elsewhere. */
export function Playground() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const agents = useAgents();
  // A link may name the session alone.
  const opened = useQuery({
    queryKey: ['session', search.session],
    queryFn: () => calls.sessions.get(search.session ?? ''),
    enabled: Boolean(search.session) && !search.agent,
  });
  const usual = search.session ? opened.data?.agentId : agents.data?.[0]?.id;
  const agentId = search.agent || usual || '';
  const [setup, setSetup] = useState<Setup>(NO_SETUP);
  const [isSetupOpen, setSetupOpen] = useState(false);
  const session = useSession(search.session ?? null, { agentId, storage: 'session' });
  const { sessionId } = session;
  const answer = useAnswer(session.answer);
  const { text: goal, setText: setGoal, clearWhen } = useDraft(search.session);
  const stick = useStick();

  useEffect(() => {
    if (sessionId !== null && sessionId !== search.session) {
      void navigate({ search: { session: sessionId, agent: agentId }, replace: true });
    }
  }, [sessionId, search.session, navigate, agentId]);

  const onFork = useCallback(
    async (turn: number) => {
      try {
        if (sessionId === null) return;
        const made = await calls.sessions.fork(sessionId, { turn });
        await navigate({ search: { session: made.sessionId, agent: agentId } });
        say(`A fork that begins with turn ${turn}; the original stays as it is`);
      } catch (error) {
        sayWhy(error);
      }
    },
    [sessionId, agentId, navigate],
  );
  const timings = useTimings(session);
  const newest = session.turns.at(-1)?.key;
  const open = session.turns.find(isOpen)?.key;
  const agentName = agents.data?.find(({ id }) => id === agentId)?.name ?? 'an agent';
  const isWaiting = session.turns.find(isOpen)?.status === 'waiting';
  const word =
    session.connection === 'open' ? (isWaiting ? 'waiting' : 'streaming') : session.connection;
  const { regenerate, editQueued, removeQueued } = session;
  const talk = useMemo<Talk>(() => {
    const actions = { regenerate, editQueued, removeQueued };
    return { actions, timings, newest, open, onFork };
  }, [regenerate, editQueued, removeQueued, timings, newest, open, onFork]);

  async function ask() {
    const text = goal.trim();
    if (!text) return;
    const params = paramsOf(setup);
    stick.toEnd();
    // A session keeps by itself what the server has not taken yet; a new one does not exist yet.
    if (sessionId === null) return clearWhen(send(text, params));
    setGoal('');
    return send(text, params);
  }

  /** The agent to ask, also for somebody who is faster than the list of agents. */
  async function agentToAsk(): Promise<string> {
    const known =
      agentId ||
      (search.session
        ? (await opened.refetch()).data?.agentId
        : (await agents.refetch()).data?.[0]?.id);
    if (known === undefined) throw new Error('There is no agent to ask.');
    return known;
  }

  async function send(text: string, params: Partial<ExecuteParams>) {
    await session.send(text, { ...params, agentId: await agentToAsk(), ifBusy: 'enqueue' });
  }

  async function steer() {
    const text = goal.trim();
    if (!text) return;
    setGoal('');
    await session
      .steer(text)
      .then(() => say('The agent will read it before its next step'), sayWhy);
  }

  return (
    <div className="play">
      <div className="talk">
        <h1 className="visually-hidden">Playground</h1>
        <section
          className="scroll"
          ref={stick.place}
          onScroll={stick.onScroll}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse
          tabIndex={0}
          aria-label="Conversation"
        >
          <div ref={stick.content}>
            {session.turns.length === 0 ? (
              <Empty title="Ask an agent">
                The answer is a log. Reload this page in the middle of it, cut the connection, or
                open the address in another browser: it goes on.
              </Empty>
            ) : (
              <TalkOfTurns value={talk}>
                <Turns turns={session.turns} onAnswer={answer} footer={TurnFooter} />
              </TalkOfTurns>
            )}
          </div>
        </section>
        <div className="compose stack">
          {!stick.isAtEnd && (
            <button className="button newest" type="button" onClick={stick.toEnd}>
              <ArrowDown aria-hidden /> Newest
            </button>
          )}
          <div className="row spread small muted">
            <div className="row">
              {session.sessionId ? (
                <>
                  <Link to="/sessions/$sessionId" params={{ sessionId: session.sessionId }}>
                    <code>{session.sessionId}</code>
                  </Link>
                  <span>position {number.format(session.position)}</span>
                  {session.isStreaming && <Status status={word} />}
                </>
              ) : (
                <span>a new session</span>
              )}
            </div>
            <div className="row">
              {session.isStreaming && (
                <button className="button quiet" type="button" onClick={cutConnections}>
                  <Scissors aria-hidden /> <span className="words">Cut the connection</span>
                </button>
              )}
              {sessionId !== null && (
                <button
                  className="button quiet"
                  type="button"
                  title="Another browser goes on with this session"
                  onClick={() => copy(location.href).catch(sayWhy)}
                >
                  <Link2 aria-hidden /> <span className="words">Copy link</span>
                </button>
              )}
              <CopyAs
                agentToAsk={agentToAsk}
                goal={goal.trim() || session.turns.at(-1)?.goal || 'Hello'}
                setup={setup}
                sessionId={sessionId}
              />
              <button
                className="button quiet icon setup-switch"
                type="button"
                title="Settings of the turn"
                aria-expanded={isSetupOpen}
                onClick={() => setSetupOpen(!isSetupOpen)}
              >
                <Settings2 aria-label="Settings of the turn" />
              </button>
            </div>
          </div>
          <form
            className="composer"
            onSubmit={(event) => {
              event.preventDefault();
              ask().catch(sayWhy);
            }}
          >
            <textarea
              aria-label="Your question"
              placeholder={`Ask ${agentName} …`}
              value={goal}
              onChange={(event) => setGoal(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
                  event.preventDefault();
                  ask().catch(sayWhy);
                }
              }}
            />
            <div className="row spread">
              <Choice
                fits
                label="Agent"
                options={Object.fromEntries(agents.data?.map(({ id, name }) => [id, name]) ?? [])}
                value={agentId}
                disabled={session.sessionId !== null}
                onChange={(agent) => void navigate({ search: { agent }, replace: true })}
              />
              <div className="row">
                {session.sessionId !== null && (
                  <Link
                    to="/play"
                    search={{ agent: agentId }}
                    className="button"
                    title="New session"
                  >
                    <Plus aria-label="New session" />
                  </Link>
                )}
                {session.isStreaming && goal && (
                  <button className="button" type="button" onClick={() => void steer()}>
                    Steer
                  </button>
                )}
                {session.isStreaming && (
                  <button
                    className="button danger"
                    type="button"
                    onClick={() => session.cancel().catch(sayWhy)}
                  >
                    <Square aria-hidden /> <span className="words">Stop</span>
                  </button>
                )}
                <button className="button primary" type="submit" disabled={!goal.trim()}>
                  <ArrowUp aria-hidden /> {session.isStreaming ? 'Queue' : 'Ask'}
                </button>
              </div>
            </div>
          </form>
        </div>
      </div>
      <aside className={`setup ${isSetupOpen ? 'open' : ''}`} aria-label="Settings of the turn">
        <div className="stack">
          <div className="row spread">
            <h2>The next turn</h2>
            <button
              className="button quiet icon setup-switch"
              type="button"
              onClick={() => setSetupOpen(false)}
            >
              <X aria-label="Close the settings" />
            </button>
          </div>
          <SetupFields setup={setup} onChange={setSetup} />
          <p className="small muted">
            They hold for turns that you ask from now on. What runs goes on as it began.
          </p>
        </div>
      </aside>
    </div>
  );
}

/** Pixels within which a person still counts as being at the end. */
const NEAR = 80;

interface Stick {
  /** What scrolls, and what grows within. */
  readonly place: RefObject<HTMLElement | null>;
  readonly content: RefObject<HTMLDivElement | null>;
  readonly isAtEnd: boolean;
  readonly onScroll: () => void;
  readonly toEnd: () => void;
}

/** Keeps the end of what grows in view, as long as the person is there. */
function useStick(): Stick {
  const place = useRef<HTMLElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const top = useRef(0);
  const [isAtEnd, setAtEnd] = useState(true);
  const toEnd = useCallback(() => {
    place.current?.scrollTo({ top: place.current.scrollHeight });
    setAtEnd(true);
  }, []);
  const onScroll = useCallback(() => {
    const box = place.current;
    if (box === null) return;
    const isNear = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    // What grows moves the end away from the person: only who scrolls up has left it.
    if (isNear || box.scrollTop < top.current) setAtEnd(isNear);
    top.current = box.scrollTop;
  }, []);
  useEffect(() => {
    if (!isAtEnd || content.current === null) return;
    const grown = new ResizeObserver(toEnd);
    grown.observe(content.current);
    return () => grown.disconnect();
  }, [isAtEnd, toEnd]);
  return { place, content, isAtEnd, onScroll, toEnd };
}

function CopyAs(props: {
  agentToAsk: () => Promise<string>;
  goal: string;
  setup: Setup;
  sessionId: string | null;
}) {
  const { agentToAsk, goal, setup, sessionId } = props;

  async function copyAs(text: (asked: Asked) => string) {
    const { context, maxSteps, timeoutSeconds, model, tools } = paramsOf(setup);
    const fields = {
      session_id: sessionId ?? undefined,
      context,
      max_steps: maxSteps,
      timeout_seconds: timeoutSeconds,
      model,
      tools,
    };
    const given = Object.entries(fields).filter(([, value]) => value !== undefined);
    const agentId = await agentToAsk();
    await copy(text({ agentId, goal, fields: Object.fromEntries(given) }));
  }

  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger className="button quiet">
        <Copy aria-hidden /> <span className="words">Copy as</span>
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
          {SNIPPETS.map(({ name, text }) => (
            <DropdownMenu.Item
              key={name}
              className="menu-item"
              onSelect={() => copyAs(text).catch(sayWhy)}
            >
              {name}
            </DropdownMenu.Item>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
