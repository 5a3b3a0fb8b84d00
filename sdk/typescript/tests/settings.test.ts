/** Whether a server can be reached, and whether a back end gives tokens: what a page shows of it. */
import {
  AuthenticationError,
  InvalidRequest,
  PermissionDenied,
  ResonantGenesis,
  Unavailable,
} from '@resonantgenesis/sdk';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { broken, FakeFetch, json, never } from './support/fake-fetch.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const agent = json({ id: 'a' });
const draining = json({ error: { code: 'UNAVAILABLE', message: 'it stops' } }, 503);
const gateway = () => new Response('<h1>502</h1>', { status: 502 });

/** A client whose server answers so, and all that `reach` says of it, a change an entry. */
function watched(net: FakeFetch, options: object = {}) {
  const base = {
    apiKey: 'k',
    baseUrl: 'http://h',
    logLevel: 'silent',
    maxRetries: Infinity,
  } as const;
  const client = new ResonantGenesis({ ...base, fetch: net.fetch, ...options });
  const said: (string | null)[] = [];
  const stop = client.reach.subscribe(() => {
    const error = client.reach.getSnapshot();
    said.push(error && `${error.code}: ${error.message}`);
  });
  return { client, said, stop };
}

test('an outage is known with its first failure, once, and over with the first answer', async () => {
  const net = new FakeFetch(broken, broken, gateway, draining, draining, agent, agent);
  const { client, said } = watched(net);
  expect(client.reach.getSnapshot()).toBeNull();
  const answer = client.agents.get('a');
  await vi.advanceTimersByTimeAsync(0);
  expect(said).toEqual(['CONNECTION_LOST: could not connect to h:80: fetch failed']);
  await vi.advanceTimersByTimeAsync(60_000);
  await answer;
  await client.agents.get('a');
  expect(said.slice(1)).toEqual([
    'UNAVAILABLE: unexpected answer: 502 text/plain',
    'UNAVAILABLE: it stops',
    null,
  ]);
});

test('of a stream as of a call; a refusal is an answer', async () => {
  const { client, said } = watched(
    new FakeFetch(broken, json({ error: { code: 'FORBIDDEN' } }, 403)),
  );
  const outcome = expect(client.sessions.join('s')).rejects.toThrow(PermissionDenied);
  await vi.advanceTimersByTimeAsync(5_000);
  await outcome;
  expect(said).toEqual(['CONNECTION_LOST: could not connect to h:80: fetch failed', null]);
});

test('a server that takes the connection and says nothing cannot be reached either', async () => {
  const { client, said, stop } = watched(new FakeFetch(never), { timeout: 5, maxRetries: 0 });
  const outcome = expect(client.agents.get('a')).rejects.toThrow('no answer in time');
  await vi.advanceTimersByTimeAsync(5_000);
  await outcome;
  expect(said).toEqual(['CONNECTION_LOST: no answer in time from h:80']);
  stop();
});

test('what a caller ends says nothing about the server', async () => {
  const { client, said } = watched(new FakeFetch(never));
  const control = new AbortController();
  const outcome = expect(client.sessions.join('s', { signal: control.signal })).rejects.toThrow();
  control.abort();
  await outcome;
  expect(said).toEqual([]);
});

test('a token may be the text of an answer, or the `token` of its JSON', async () => {
  for (const body of ['tok', ' tok\n', '{"token": "tok", "expires_at": "…"}']) {
    const net = new FakeFetch(agent);
    const { client } = watched(net, { getToken: async () => new Response(body) });
    await client.agents.get('a');
    expect(net.asked[0]?.headers.get('authorization')).toBe('Bearer tok');
  }
});

test('a back end that refuses the token is not asked again', async () => {
  for (const [status, kind] of [
    [401, AuthenticationError],
    [403, PermissionDenied],
    [404, Error],
    [400, InvalidRequest],
  ] as const) {
    const getToken = vi.fn(json({ error: { message: 'sign in first' } }, status) as () => Response);
    const { client, said } = watched(new FakeFetch(agent), { getToken });
    await expect(client.agents.get('a')).rejects.toThrow(kind);
    await expect(client.sessions.join('s')).rejects.toMatchObject({ message: 'sign in first' });
    // Once for each.
    expect(getToken).toHaveBeenCalledTimes(2);
    expect(said).toEqual([]);
  }
});

test('a back end that has no token now is asked again, as soon as it says', async () => {
  for (const status of [429, 500, 502, 503]) {
    const told = { error: { message: 'a moment' } };
    const answers = [
      new Response(JSON.stringify(told), { status, headers: { 'retry-after': '20' } }),
      new Response('tok'),
    ];
    const getToken = vi.fn(async () => answers.shift() ?? 'none');
    const net = new FakeFetch(agent);
    const { client, said } = watched(net, { getToken });
    const answer = client.agents.get('a');
    await vi.advanceTimersByTimeAsync(19_000);
    expect(getToken).toHaveBeenCalledTimes(1);
    expect(said).toEqual([expect.stringContaining('a moment')]);
    await vi.advanceTimersByTimeAsync(2_000);
    await answer;
    expect(said.at(-1)).toBeNull();
  }
});

test('what getToken throws decides: a StreamError by itself, anything else may pass', async () => {
  const refused = new AuthenticationError('signed out');
  const { client } = watched(new FakeFetch(agent), { getToken: () => Promise.reject(refused) });
  await expect(client.agents.get('a')).rejects.toBe(refused);
  for (const error of [new TypeError('Failed to fetch'), new Unavailable('later')]) {
    const getToken = vi.fn().mockRejectedValueOnce(error).mockResolvedValue('tok');
    const passing = watched(new FakeFetch(agent), { getToken });
    const stream = passing.client.agents.get('a');
    await vi.advanceTimersByTimeAsync(1_000);
    await stream;
    expect(passing.said).toEqual([expect.stringContaining(error.message), null]);
  }
});
