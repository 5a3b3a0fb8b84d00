import { ResonantGenesisProvider, useSession } from '@resonantgenesis/sdk/react';
import { act, cleanup, render, renderHook } from '@testing-library/react';
import { StrictMode, useState } from 'react';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { data, step, text, turn } from '../../store/chunks.js';
import { FakeClient, settled } from '../../store/fake-client.js';
import { framed } from '../frames.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
  sessionStorage.clear();
});

afterEach(cleanup);

function Messages() {
  return <p>{useSession('s1').turns.map(({ goal, content }) => `${goal}: ${content}`)}</p>;
}

function Composer() {
  const { send, isStreaming } = useSession('s1');
  return (
    <button type="button" disabled={isStreaming} onClick={() => send('hello')}>
      send
    </button>
  );
}

function Closable() {
  const [isOpen, setOpen] = useState(true);
  return (
    <>
      <button type="button" onClick={() => setOpen(!isOpen)}>
        toggle
      </button>
      {isOpen && <Shown />}
    </>
  );
}

function Shown() {
  const { content } = useSession('s1', { client: client.asClient, storage: sessionStorage });
  return <p>{content}</p>;
}

function Status() {
  return <p>{useSession('s1', { client: client.asClient }).status}</p>;
}

const hook = (sessionId: string | null, options = {}) =>
  renderHook((props) => useSession(props.sessionId, { client: client.asClient, ...options }), {
    initialProps: { sessionId },
    reactStrictMode: true,
  });

test('a session is followed on one connection, in strict mode too', async () => {
  const { result } = hook('s1');
  await act(settled);
  expect(client.joins).toHaveLength(1);
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'one'), step(4, 2), text(5, 'two')));
  expect(result.current).toMatchObject({ content: 'two', isStreaming: true, sessionId: 's1' });
  expect(result.current.turns.map(({ content }) => content)).toEqual(['one', 'two']);
});

test('the first goal makes the session, whose id may come back as the argument', async () => {
  const { result, rerender } = hook(null, { agentId: 'a', metadata: { x: 1 } });
  await act(() => result.current.send('hello'));
  expect(client.executes[0]?.params).toMatchObject({ agentId: 'a', metadata: { x: 1 } });
  expect(result.current).toMatchObject({ sessionId: 's1', isStreaming: true });
  const turns = result.current.turns;
  rerender({ sessionId: 's1' });
  await act(settled);
  expect(result.current.turns).toBe(turns);
  expect(client.joins).toHaveLength(1);
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'hi')));
  expect(result.current.turns).toMatchObject([{ goal: 'hello', content: 'hi' }]);
});

test('another id is another session, and none is a new one', async () => {
  const { result, rerender } = hook('s1');
  await act(settled);
  await framed(() => client.joins[0]?.say(...turn(1, 1, 'one')));
  rerender({ sessionId: 's2' });
  expect(result.current).toMatchObject({ sessionId: 's2', turns: [] });
  await act(settled);
  expect(client.joins.map(({ sessionId, closed }) => [sessionId, closed])).toEqual([
    ['s1', true],
    ['s2', false],
  ]);
  rerender({ sessionId: null });
  expect(result.current.sessionId).toBeNull();
});

test('two components of one session share its connection and its state', async () => {
  const { container, getByRole, unmount } = render(
    <StrictMode>
      <ResonantGenesisProvider client={client.asClient}>
        <Messages />
        <Composer />
      </ResonantGenesisProvider>
    </StrictMode>,
  );
  await act(settled);
  expect(client.joins.filter(({ closed }) => !closed)).toHaveLength(1);
  await act(async () => getByRole('button').click());
  await framed(() => client.joins[0]?.say(step(1, 1), text(2, 'hi')));
  expect(container.querySelector('p')?.textContent).toBe('hello: hi');
  expect(container.querySelector('button')?.disabled).toBe(true);
  unmount();
  await settled();
  expect(client.joins.every(({ closed }) => closed)).toBe(true);
});

test('the functions stay the same while the session does', async () => {
  const { result } = hook('s1');
  await act(settled);
  const { send, answer, cancel, retry } = result.current;
  await framed(() => client.joins[0]?.say(step(1, 1)));
  expect([result.current.send, result.current.cancel, result.current.retry]).toEqual([
    send,
    cancel,
    retry,
  ]);
  expect(result.current.answer).toBe(answer);
});

test('a component that comes back goes on where it was', async () => {
  const { container, getByRole } = render(<Closable />);
  await act(settled);
  await framed(() => client.joins[0]?.say(step(1, 1), text(2, 'one ')));
  await act(async () => getByRole('button').click());
  await act(settled);
  expect(client.joins[0]?.closed).toBe(true);
  await act(async () => getByRole('button').click());
  await act(settled);
  expect(client.joins[1]?.params.resumeFrom).toBe(2);
  await framed(() => client.joins[1]?.say(text(3, 'two')));
  expect(container.querySelector('p')?.textContent).toBe('one two');
});

test('a server renders a session without asking for it', () => {
  expect(renderToString(<Status />)).toBe('<p>idle</p>');
  expect(client.joins).toHaveLength(0);
});

test('onData hears of data, also of transient data, with the function of the last render', async () => {
  const heard: unknown[] = [];
  const { rerender } = renderHook(
    ({ name }) =>
      useSession('s1', {
        client: client.asClient,
        onData: (chunk) => heard.push([name, chunk.data]),
      }),
    { initialProps: { name: 'one' }, wrapper: StrictMode },
  );
  await act(settled);
  await framed(() => client.joins[0]?.say(step(1, 1), data(1, 10, true)));
  rerender({ name: 'two' });
  await framed(() => client.joins[0]?.say(data(2, 20)));
  expect(heard).toEqual([
    ['one', 10],
    ['two', 20],
  ]);
});
