import { ResonantGenesisProvider, useAgentStream } from '@resonantgenesis/sdk/react';
import { act, cleanup, render, renderHook, screen } from '@testing-library/react';
import { StrictMode } from 'react';
import { hydrateRoot } from 'react-dom/client';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { answered, asking, data, done, failure, step, text, turn } from '../../store/chunks.js';
import { FakeClient, settled } from '../../store/fake-client.js';
import { framed } from '../frames.js';

let client: FakeClient;

beforeEach(() => {
  client = new FakeClient();
});

afterEach(cleanup);

/** The guide's component, with our hook. */
function ChatMessage({ agentId, goal }: { agentId: string; goal: string }) {
  const { content, isStreaming, error } = useAgentStream(agentId, goal);
  if (error) {
    return <div className="error">{error.message}</div>;
  }
  return (
    <div className="message">
      <p>{content}</p>
      {isStreaming && <span className="cursor">▌</span>}
    </div>
  );
}

const page = (goal = 'g') => (
  <StrictMode>
    <ResonantGenesisProvider client={client.asClient}>
      <ChatMessage agentId="a" goal={goal} />
    </ResonantGenesisProvider>
  </StrictMode>
);

const hook = (goal = 'g') =>
  renderHook((props) => useAgentStream('a', props.goal, { client: client.asClient, ...props }), {
    initialProps: { goal },
  });

test('the guide’s component shows the text as it comes, and the cursor until its end', async () => {
  const { container } = render(page());
  expect(container.innerHTML).toContain('▌');
  await act(settled);
  await framed(() => client.executes[0]?.say(step(1, 1), text(2, 'Once ')));
  expect(container.querySelector('p')?.textContent).toBe('Once ');
  expect(container.innerHTML).toContain('▌');
  await framed(() => client.executes[0]?.say(text(3, 'upon'), done(4, 1)));
  expect(container.querySelector('p')?.textContent).toBe('Once upon');
  expect(container.innerHTML).not.toContain('▌');
});

test('and the error of a turn that failed', async () => {
  render(page());
  await act(settled);
  await framed(() => client.executes[0]?.say(step(1, 1), failure(2), done(3, 1, 'failed')));
  expect(screen.getByText('it was AGENT_FAILED').className).toBe('error');
});

test('strict mode has one turn, on one connection', async () => {
  render(page());
  await act(settled);
  await act(settled);
  expect(client.executes).toHaveLength(1);
  expect(client.executes[0]?.closed).toBe(false);
});

test('an empty goal asks nothing', async () => {
  const { container } = render(page(''));
  await act(settled);
  expect(client.executes).toHaveLength(0);
  expect(container.innerHTML).not.toContain('▌');
});

test('another goal is another turn, and nothing of the last one is ever shown under it', async () => {
  const { rerender, container } = render(page());
  await act(settled);
  await framed(() => client.executes[0]?.say(step(1, 1), text(2, 'old')));
  rerender(page('other'));
  expect(container.textContent).toBe('▌');
  await act(settled);
  expect(client.executes.map(({ closed }) => closed)).toEqual([true, false]);
  await framed(() => client.executes[1]?.say(step(1, 1), text(2, 'new')));
  expect(container.textContent).toBe('new▌');
});

test('unmounting ends the connection and not the turn', async () => {
  const { unmount } = hook();
  await act(settled);
  unmount();
  await settled();
  expect(client.executes[0]?.closed).toBe(true);
  expect(client.cancels).toEqual([]);
});

test('everything but the text is there too', async () => {
  const { result } = hook();
  await act(settled);
  const call = { type: 'tool_call', position: 2, tool: 'sum', args: {}, callId: 'c' } as const;
  await framed(() => client.executes[0]?.say(step(1, 1), call));
  expect(result.current).toMatchObject({
    status: 'streaming',
    toolCalls: [{ tool: 'sum', status: 'running' }],
    steps: [{ name: 'answer', status: 'started' }],
    sessionId: 's1',
    turn: 1,
    position: 2,
    connection: 'open',
  });
});

test('the functions never change, and the result only with what it shows', async () => {
  const { result, rerender } = hook();
  await act(settled);
  const before = result.current;
  rerender({ goal: 'g' });
  expect(result.current).toBe(before);
  await framed(() => client.executes[0]?.say(step(1, 1)));
  expect(result.current).not.toBe(before);
  expect(result.current.cancel).toBe(before.cancel);
  expect(result.current.retry).toBe(before.retry);
});

test('options go along, and counting from the next turn ask nothing by themselves', async () => {
  const { rerender } = renderHook(
    (props) => useAgentStream('a', 'g', { client: client.asClient, context: props }),
    { initialProps: { x: 1 } },
  );
  await act(settled);
  rerender({ x: 2 });
  await act(settled);
  expect(client.executes.map(({ params }) => params.context)).toEqual([{ x: 1 }]);
});

test('cancel and retry', async () => {
  const { result } = hook();
  await act(settled);
  await act(() => result.current.cancel());
  expect(client.cancels).toEqual([['s1', { turn: 1 }]]);
  await framed(() => client.executes[0]?.say(step(1, 1), done(2, 1, 'cancelled')));
  expect(result.current.status).toBe('cancelled');
  act(() => void result.current.retry());
  expect(result.current).toMatchObject({ status: 'connecting', content: '' });
  await act(settled);
  expect(client.executes).toHaveLength(2);
});

test('it renders once a frame, however fast the text comes', async () => {
  let renders = 0;
  const { result } = renderHook(() => {
    renders += 1;
    return useAgentStream('a', 'g', { client: client.asClient });
  });
  await act(settled);
  const before = renders;
  const words = Array.from({ length: 2000 }, (_, index) => text(index + 2, 'word '));
  await framed(() => client.executes[0]?.say(step(1, 1), ...words));
  expect(result.current.content).toHaveLength(10_000);
  expect(renders - before).toBe(1);
});

test('a server renders it, and the browser takes that over', async () => {
  const html = renderToString(page());
  expect(html).toContain('▌');
  expect(client.executes).toHaveLength(0);
  const container = document.createElement('div');
  container.innerHTML = html;
  const complaints: unknown[] = [];
  const root = await act(() =>
    hydrateRoot(container, page(), { onRecoverableError: (error) => complaints.push(error) }),
  );
  await act(settled);
  await framed(() => client.executes[0]?.say(...turn(1, 1, 'hello')));
  expect(container.textContent).toBe('hello');
  expect(client.executes).toHaveLength(1);
  expect(complaints).toEqual([]);
  act(() => root.unmount());
});

test('what the turn asks is shown and answered, and the same turn goes on', async () => {
  const { result } = renderHook(() => useAgentStream('a', 'g', { client: client.asClient }), {
    reactStrictMode: true,
  });
  await act(settled);
  await framed(() => client.executes.at(-1)?.say(step(1, 1), text(2, 'a'), ...asking(3, 1)));
  expect(result.current).toMatchObject({ status: 'waiting', content: 'a' });
  expect(result.current.waiting).toMatchObject([{ callId: 'c', kind: 'approval', tool: 't' }]);
  await act(() => result.current.answer('c', { approved: true }));
  expect(client.inputs).toEqual([['s1', 'c', { turn: 1, approved: true }]]);
  await framed(() => client.joins.at(-1)?.say(answered(5), text(6, 'b'), done(7, 1)));
  expect(result.current).toMatchObject({ status: 'success', content: 'ab', waiting: [] });
});

test('onData hears of data and is no parameter of the turn', async () => {
  const heard: unknown[] = [];
  renderHook(() =>
    useAgentStream('a', 'g', {
      client: client.asClient,
      onData: (chunk) => heard.push(chunk.data),
    }),
  );
  await act(settled);
  await framed(() => client.executes[0]?.say(step(1, 1), data(1, 10, true)));
  expect(heard).toEqual([10]);
  expect(client.executes[0]?.params).not.toHaveProperty('onData');
});
