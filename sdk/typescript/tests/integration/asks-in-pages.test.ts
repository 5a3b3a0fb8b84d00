// @vitest-environment jsdom
/** What turns ask, shown and answered in pages of React and of Vue, with the server. */
import { type Ask, Conflict, ResonantGenesis } from '@resonantgenesis/sdk';
import { useSession as useReactSession } from '@resonantgenesis/sdk/react';
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

interface Page {
  readonly sessionId: string | null;
  readonly status: string;
  readonly content: string;
  readonly waiting: readonly Ask[];
  send(goal: string): Promise<void>;
  answer(callId: string, answer: { approved: boolean } | { payload: unknown }): Promise<void>;
}

/** A page that shows a session; `close` is the end of the page. */
type Open = (sessionId: string | null, options: object) => { page: () => Page; close: () => void };

const inReact: Open = (sessionId, options) => {
  const all = { client: client(), ...options };
  const hook = renderHook(() => useReactSession(sessionId, all));
  return { page: () => hook.result.current, close: hook.unmount };
};

const inVue: Open = (sessionId, options) => {
  const scope = effectScope();
  const session = scope.run(() => useVueSession(sessionId, { client: client(), ...options }));
  if (!session) throw new Error('no session');
  const { send, answer, ...refs } = session;
  const page = () => ({
    send,
    answer,
    sessionId: refs.sessionId.value,
    status: refs.status.value,
    content: refs.content.value,
    waiting: refs.waiting.value,
  });
  return { page, close: () => scope.stop() };
};

afterEach(cleanup);

test.each([
  ['React', inReact, 'http'],
  ['Vue', inVue, 'http'],
  ['React over a socket', inReact, 'websocket'],
  ['Vue over a socket', inVue, 'websocket'],
] as const)('%s: asks are shown, also after a reload, and answered', async (_, open, transport) => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', false);
  sessionStorage.clear();
  const options = { agentId: 'refunds', transport, storage: 'session' };
  const first = open(null, options);
  await first.page().send('7');
  await vi.waitFor(() => expect(first.page().waiting).toHaveLength(1), PATIENCE);
  const { sessionId } = first.page();
  expect(first.page()).toMatchObject({ status: 'waiting', content: 'Looking. ' });
  const asked = first.page().waiting;
  expect(asked).toMatchObject([{ kind: 'approval', tool: 'refund', args: { order: '7' } }]);
  first.close();

  for (const storage of ['session', undefined] as const) {
    const again = open(sessionId, { transport, storage });
    await vi.waitFor(() => expect(again.page().waiting).toEqual(asked), PATIENCE);
    expect(again.page()).toMatchObject({ status: 'waiting', content: 'Looking. ' });
    again.close();
  }

  const last = open(sessionId, { transport });
  await vi.waitFor(() => expect(last.page().waiting).toHaveLength(1), PATIENCE);
  const { callId = '' } = asked[0] ?? {};
  await last.page().answer(callId, { approved: true });
  await expect(last.page().answer(callId, { approved: false })).rejects.toBeInstanceOf(Conflict);
  await vi.waitFor(() => expect(last.page().waiting).toMatchObject([{ kind: 'input' }]), PATIENCE);
  await last.page().answer(last.page().waiting[0]?.callId ?? '', { payload: 'Ada' });
  await vi.waitFor(() => expect(last.page().status).toBe('success'), PATIENCE);
  expect(last.page()).toMatchObject({ content: 'Looking. Paid, Ada.', waiting: [] });
  last.close();
  await act(async () => undefined);
});
