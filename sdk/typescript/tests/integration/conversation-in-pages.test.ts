// @vitest-environment jsdom
/** Conversations in pages of React and of Vue, with the server: history, steering, regenerating, forks. */
import {
  Conflict,
  type MessagePart,
  ResonantGenesis,
  type SessionData,
} from '@resonantgenesis/sdk';
import { useSession as useReactSession } from '@resonantgenesis/sdk/react';
import type { SessionActions, TurnSnapshot } from '@resonantgenesis/sdk/store';
import { useSession as useVueSession } from '@resonantgenesis/sdk/vue';
import { act, cleanup, renderHook } from '@testing-library/react';
import { afterEach, expect, inject, test, vi } from 'vitest';
import { effectScope } from 'vue';

const PATIENCE = { timeout: 30_000, interval: 20 };
const client = () =>
  new ResonantGenesis({
    baseUrl: inject('serverUrl'),
    apiKey: 'rg_test_bootstrap_key_0123456789',
  });

interface Page extends SessionActions {
  readonly sessionId: string | null;
  readonly turns: readonly TurnSnapshot[];
}

/** A page that shows a session; `close` is the end of the page. */
type Open = (sessionId: string | null) => { page: () => Page; close: () => void };

const options = { agentId: 'talkative' };

const inReact: Open = (sessionId) => {
  const all = { client: client(), ...options };
  const hook = renderHook(() => useReactSession(sessionId, all));
  return { page: () => hook.result.current, close: hook.unmount };
};

const inVue: Open = (sessionId) => {
  const scope = effectScope();
  const session = scope.run(() => useVueSession(sessionId, { client: client(), ...options }));
  if (!session) throw new Error('no session');
  const { turns, sessionId: id } = session;
  const page = () => ({ ...session, turns: turns.value, sessionId: id.value });
  return { page: page as unknown as () => Page, close: () => scope.stop() };
};

afterEach(cleanup);

const kinds = (parts: readonly MessagePart[] = []) =>
  parts.map((part) => (part.agent_id ? `${part.type} of ${part.agent_id}` : part.type)).join();

const KINDS = 'step,reasoning,data,tool_call,text of helper,text,source,user_message,text';

test.each([
  ['React', inReact],
  ['Vue', inVue],
] as const)('%s', async (_, open) => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', false);
  const first = open(null);
  const turnOf = (shown: typeof first, at: number) => shown.page().turns.at(at);
  await first.page().send('talk');
  await vi.waitFor(() => expect(turnOf(first, -1)?.parts.at(-1)?.type).toBe('source'), PATIENCE);
  await first.page().send('short');
  await first.page().send('long');

  // A page that is opened in the middle of it shows all that the first one does.
  const { sessionId } = first.page();
  const second = open(sessionId);
  const shown = ({ page }: typeof first) =>
    page().turns.map(({ goal, status, parts }) => ({ goal, status, parts }));
  await vi.waitFor(() => expect(shown(second)).toEqual(shown(first)), PATIENCE);
  expect(shown(second).map(({ goal, status }) => [goal, status])).toEqual([
    ['talk', 'streaming'],
    ['short', 'queued'],
    ['long', 'queued'],
  ]);

  // What waits is changed and removed, and the open turn is told something.
  await second.page().editQueued(2, { metadata: { edited: true } });
  await second.page().removeQueued(3);
  expect(turnOf(second, -1)?.status).toBe('cancelled');
  await second.page().steer('shorter');
  for (const each of [first, second]) {
    await vi.waitFor(() => expect(turnOf(each, 0)?.status).toBe('success'), PATIENCE);
    expect(turnOf(each, 0)?.content).toBe('Turn 1. You said: shorter.');
    expect(kinds(turnOf(each, 0)?.parts)).toBe(KINDS);
    expect(turnOf(each, 0)?.parts[2]).toMatchObject({ name: 'weather', data: { sky: 'blue' } });
    await vi.waitFor(() => expect(turnOf(each, 1)?.status).toBe('success'), PATIENCE);
    await vi.waitFor(() => expect(turnOf(each, 2)?.status).toBe('cancelled'), PATIENCE);
  }
  await expect(second.page().steer('too late')).rejects.toBeInstanceOf(Conflict);

  // The messages and the chunks give the same turns.
  const third = open(sessionId);
  await vi.waitFor(() => expect(third.page().turns).toHaveLength(3), PATIENCE);
  const output = ({ page }: typeof first) =>
    page().turns.map(({ turn, goal, status, content, parts, toolCalls, steps, usage }) => {
      return { turn, goal, status, content, parts, toolCalls, steps, usage };
    });
  expect(output(third)).toEqual(output(first));
  third.close();

  // A fork begins with the first turns, and the last turn of a session can be asked again.
  const fork: SessionData = await first.page().fork({ turn: 2 });
  const forked = open(fork.sessionId);
  await vi.waitFor(() => expect(forked.page().turns).toHaveLength(2), PATIENCE);
  expect(turnOf(forked, 0)).toMatchObject({ goal: 'talk', inheritedFrom: sessionId });
  await forked.page().send('short');
  await vi.waitFor(() => expect(turnOf(forked, 2)?.status).toBe('success'), PATIENCE);
  await forked.page().regenerate();
  await vi.waitFor(() => expect(turnOf(forked, 3)?.status).toBe('success'), PATIENCE);
  expect(forked.page().turns.map(({ goal, replacedBy }) => [goal, replacedBy])).toEqual([
    ['talk', undefined],
    ['short', undefined],
    ['short', 2],
    ['short', undefined],
  ]);
  expect(turnOf(forked, 3)?.content).toBe('Turn 2. ');
  for (const each of [first, second, forked]) each.close();
  await act(async () => undefined);
});
