/** The hooks with what a React Native app has around it. */
import { act, cleanup, render, screen, waitFor } from '@testing-library/react';
import { afterEach, expect, test, vi } from 'vitest';
import { ResonantGenesis } from '../../src/index.js';
import { useAgentStream, useEvents, useSession } from '../../src/react/index.js';
import { NativeFetch, oneSession, stubReactNative } from '../support/react-native.js';

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function clientOn(net: NativeFetch): ResonantGenesis {
  stubReactNative(net.fetch, true);
  return new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', logLevel: 'silent' });
}

test('a turn is shown to its end', async () => {
  const client = clientOn(new NativeFetch(oneSession(3)));
  function Answer() {
    const { content, status } = useAgentStream('a', 'g', { client });
    return <p>{`${status}: ${content}`}</p>;
  }
  const { unmount } = render(<Answer />);
  await waitFor(() => screen.getByText('success: 1 2 3'));
  unmount();
});

test('a turn that is left ends its request; another goal asks anew', async () => {
  const net = new NativeFetch(oneSession(1, false));
  const client = clientOn(net);
  function Answer({ goal }: { goal: string }) {
    const { content, status } = useAgentStream('a', goal, { client });
    return <p>{`${goal} ${status}: ${content}`}</p>;
  }
  const { rerender, unmount } = render(<Answer goal="one" />);
  await waitFor(() => screen.getByText('one streaming: 1'));
  await waitFor(() => expect(net.asked.at(-1)?.path).toContain('after=1'));
  rerender(<Answer goal="two" />);
  await waitFor(() => screen.getByText('two streaming: 1'));
  await waitFor(() => expect(net.aborted).toBe(1));
  await waitFor(() => expect(net.asked.at(-1)?.path).toContain('after=1'));
  unmount();
  await waitFor(() => expect(net.aborted).toBe(2));
});

test('a session is sent to and cancelled', async () => {
  const net = new NativeFetch(oneSession(2, false));
  const client = clientOn(net);
  let shown: ReturnType<typeof useSession> | undefined;
  function Chat() {
    shown = useSession(null, { client, agentId: 'a', storage: 'local' });
    return <p>{`${shown.status}: ${shown.content}`}</p>;
  }
  const { unmount } = render(<Chat />);
  await act(async () => {
    await shown?.send('Hello');
  });
  await waitFor(() => screen.getByText('streaming: 1 2'));
  await act(async () => {
    await shown?.cancel();
  });
  expect(net.asked.some(({ path }) => path.endsWith('/cancel'))).toBe(true);
  unmount();
});

test('events that nobody follows any more are not asked for', async () => {
  const net = new NativeFetch(() => undefined);
  const client = clientOn(net);
  function Events() {
    const { events } = useEvents({ client, events: 'session.*', since: 'c' });
    return <p>{events.length}</p>;
  }
  const { unmount } = render(<Events />);
  const asked = () => expect(String(net.asked.at(-1)?.path)).toContain('/v1/events?');
  await waitFor(asked, { timeout: 20_000 }); // its code is loaded when it is first asked for
  unmount();
  await waitFor(() => expect(net.aborted).toBeGreaterThan(0));
});
