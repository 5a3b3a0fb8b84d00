import { ResonantGenesis } from '@resonantgenesis/sdk';
import { ResonantGenesisProvider, useReach } from '@resonantgenesis/sdk/react';
import { act, cleanup, renderHook } from '@testing-library/react';
import type { ReactNode } from 'react';
import { renderToString } from 'react-dom/server';
import { afterEach, expect, test } from 'vitest';
import { broken, FakeFetch, json } from '../../support/fake-fetch.js';

afterEach(cleanup);

test('an outage is shown while it lasts, of the provider’s client or of another', async () => {
  const net = new FakeFetch(broken, json({ id: 'a' }));
  const options = { apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch, maxRetries: 0 };
  const client = new ResonantGenesis({ ...options, logLevel: 'silent' });
  const wrapper = ({ children }: { children: ReactNode }) => (
    <ResonantGenesisProvider client={client}>{children}</ResonantGenesisProvider>
  );
  const mine = renderHook(() => useReach(), { wrapper, reactStrictMode: true });
  const given = renderHook(() => useReach(client));
  for (const { result } of [mine, given]) {
    expect(result.current).toBeNull();
  }
  await act(() => client.agents.get('a').catch(() => undefined));
  for (const { result } of [mine, given]) {
    expect(result.current).toMatchObject({ code: 'CONNECTION_LOST' });
  }
  const Shown = () => <p>{String(useReach(client))}</p>;
  expect(renderToString(<Shown />)).toBe('<p>null</p>');
  await act(() => client.agents.get('a'));
  for (const { result } of [mine, given]) {
    expect(result.current).toBeNull();
  }
});
