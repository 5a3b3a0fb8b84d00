import type { AnswerParams, Ask, ExecuteParams } from '@resonantgenesis/sdk';
import { useSession } from '@resonantgenesis/sdk/react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { ArrowUp, Copy, GitFork, Plus, Scissors, Settings2, Square } from 'lucide-react';
import { DropdownMenu } from 'radix-ui';
import { useEffect, useRef, useState } from 'react';
import { client, cutConnections } from '../api.ts';
import { snippetsFor } from '../chat/snippets.ts';
import { Turns } from '../chat/turns.tsx';
import { copy, Empty, Field, Status, say, sayWhy } from '../ui/parts.tsx';

const route = getRouteApi('/play');

/** Asks an agent, and shows what a durable answer is: reload it, cut it, open it elsewhere. */
export function Playground() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const agents = useQuery({
    queryKey: ['agents'],
    queryFn: async () => [...(await client.agents.list({ limit: 100 })).data],
  });
  const [chosen, setChosen] = useState(search.agent ?? '');
  const agentId = chosen || agents.data?.[0]?.id || '';
  const [setup, setSetup] = useState<Setup>(NO_SETUP);
  const [open, setOpen] = useState(false);
  const session = useSession(search.session ?? null, { agentId, storage: 'session' });
  const [goal, setGoal] = useState('');
  const bottom = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (session.sessionId !== null && session.sessionId !== search.session) {
      void navigate({ search: { session: session.sessionId, agent: agentId }, replace: true });
    }
  }, [session.sessionId, search.session, navigate, agentId]);

  const length = session.content.length + session.turns.length;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it follows what grows
  useEffect(() => {
    bottom.current?.scrollIntoView({ block: 'end' });
  }, [length]);

  function ask() {
    const text = goal.trim();
    if (!text) return;
    let params: Partial<ExecuteParams>;
    try {
      params = paramsOf(setup);
    } catch {
      sayWhy('The context must be a JSON object.');
      return;
    }
    setGoal('');
    void session.send(text, { ...params, agentId, ifBusy: 'enqueue' });
  }

  async function steer() {
    const text = goal.trim();
    if (!text || session.sessionId === null) return;
    setGoal('');
    await client.sessions
      .send(session.sessionId, text)
      .then(() => say('The agent will read it before its next step'), sayWhy);
  }

  async function fork() {
    if (session.sessionId === null) return;
    try {
      const made = await client.sessions.fork(session.sessionId);
      await navigate({ search: { session: made.sessionId, agent: agentId } });
      say('You are in a fork; the original stays as it is');
    } catch (error) {
      sayWhy(error);
    }
  }

  return (
    <div className="play">
      <div className="talk">
        <div className="scroll">
          {session.turns.length === 0 ? (
            <Empty title="Ask an agent">
              The answer is a log. Reload this page in the middle of it, cut the connection, or open
              the address in another browser: it goes on.
            </Empty>
          ) : (
            <Turns
              turns={session.turns}
              onAnswer={(callId, what, payload) => session.answer(callId, answerOf(what, payload))}
            />
          )}
          <div ref={bottom} />
        </div>
        <div className="compose stack">
          <div className="row spread small muted">
            <div className="row">
              {session.sessionId ? (
                <>
                  <Link to="/sessions/$sessionId" params={{ sessionId: session.sessionId }}>
                    <code>{session.sessionId}</code>
                  </Link>
                  <span>position {session.position}</span>
                  {session.isStreaming && <Status status={connectionWord(session.connection)} />}
                </>
              ) : (
                <span>a new session</span>
              )}
            </div>
            <div className="row">
              {session.isStreaming && (
                <button className="button quiet" type="button" onClick={cutConnections}>
                  <Scissors aria-hidden /> Cut the connection
                </button>
              )}
              <CopyAs agentId={agentId} goal={goal || session.turns.at(-1)?.goal || 'Hello'} />
              <button
                className="button quiet icon"
                type="button"
                title="Settings of the turn"
                onClick={() => setOpen(!open)}
              >
                <Settings2 aria-label="Settings of the turn" />
              </button>
            </div>
          </div>
          <form
            className="composer"
            onSubmit={(event) => {
              event.preventDefault();
              ask();
            }}
          >
            <textarea
              aria-label="Your question"
              placeholder={`Ask ${agentId || 'an agent'} …`}
              value={goal}
              onChange={(event) => setGoal(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
                  event.preventDefault();
                  ask();
                }
              }}
            />
            <div className="row spread">
              <select
                className="input"
                style={{ width: 'auto' }}
                aria-label="Agent"
                value={agentId}
                disabled={session.sessionId !== null}
                onChange={(event) => setChosen(event.target.value)}
              >
                {agents.data?.map((agent) => (
                  <option key={agent.id} value={agent.id}>
                    {agent.name}
                  </option>
                ))}
              </select>
              <div className="row">
                {session.sessionId !== null && !session.isStreaming && (
                  <button className="button" type="button" onClick={() => void fork()}>
                    <GitFork aria-hidden /> Fork
                  </button>
                )}
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
                    <Square aria-hidden /> Stop
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
      <aside className={`setup stack ${open ? 'open' : ''}`} aria-label="Settings of the turn">
        <h2>The next turn</h2>
        <Field label="Context" hint="A JSON object that the agent reads">
          <textarea
            className="input mono"
            placeholder="{}"
            value={setup.context}
            onChange={(event) => setSetup({ ...setup, context: event.target.value })}
          />
        </Field>
        <Field label="Most steps">
          <input
            className="input"
            type="number"
            min={1}
            placeholder="the agent's own"
            value={setup.maxSteps}
            onChange={(event) => setSetup({ ...setup, maxSteps: event.target.value })}
          />
        </Field>
        <Field label="Time-out in seconds">
          <input
            className="input"
            type="number"
            min={1}
            placeholder="the agent's own"
            value={setup.timeout}
            onChange={(event) => setSetup({ ...setup, timeout: event.target.value })}
          />
        </Field>
        <Field label="Model">
          <input
            className="input"
            placeholder="the agent's own"
            value={setup.model}
            onChange={(event) => setSetup({ ...setup, model: event.target.value })}
          />
        </Field>
        <p className="small muted">
          They hold for turns that you ask from now on. What runs goes on as it began.
        </p>
      </aside>
    </div>
  );
}

interface Setup {
  readonly context: string;
  readonly maxSteps: string;
  readonly timeout: string;
  readonly model: string;
}
const NO_SETUP: Setup = { context: '', maxSteps: '', timeout: '', model: '' };

function paramsOf(setup: Setup): Partial<ExecuteParams> {
  return {
    ...(setup.context.trim() && { context: JSON.parse(setup.context) }),
    ...(setup.maxSteps && { maxSteps: Number(setup.maxSteps) }),
    ...(setup.timeout && { timeoutSeconds: Number(setup.timeout) }),
    ...(setup.model && { model: setup.model }),
  };
}

export function answerOf(ask: Ask, payload: unknown): AnswerParams {
  if (payload === false) return { approved: false };
  return ask.kind === 'approval' ? { approved: true } : { payload };
}

function connectionWord(state: string): string {
  return state === 'open' ? 'streaming' : state;
}

function CopyAs(props: { agentId: string; goal: string }) {
  return (
    <DropdownMenu.Root modal={false}>
      <DropdownMenu.Trigger className="button quiet">
        <Copy aria-hidden /> Copy as
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal>
        <DropdownMenu.Content className="menu" align="end" sideOffset={4}>
          {snippetsFor(props.agentId, props.goal).map((snippet) => (
            <DropdownMenu.Item
              key={snippet.name}
              className="menu-item"
              onSelect={() => copy(snippet.text).catch(sayWhy)}
            >
              {snippet.name}
            </DropdownMenu.Item>
          ))}
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}
