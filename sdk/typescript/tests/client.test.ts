/** What a client is told, and what it tells. */
import { inspect } from 'node:util';
import * as sdk from '@resonantgenesis/sdk';
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { load } from '../src/platform.js';
import { broken, FakeFetch, FakePage, json, never } from './support/fake-fetch.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const agent = json({ id: 'a', name: 'A' });

test('what the package offers', () => {
  expect(Object.keys(sdk).sort()).toEqual([
    'AgentFailed',
    'AuthenticationError',
    'Conflict',
    'ConnectionLost',
    'InternalError',
    'InvalidRequest',
    'NotFound',
    'PermissionDenied',
    'PositionExpired',
    'RateLimited',
    'ResonantGenesis',
    'SessionBusy',
    'StreamError',
    'TurnTimeout',
    'Unavailable',
  ]);
});

test('the constructor never throws; the first call tells', async () => {
  const net = new FakeFetch(agent);
  const client = new ResonantGenesis({ apiKey: undefined, baseUrl: 'http://h', fetch: net.fetch });
  await expect(client.agents.get('a')).rejects.toMatchObject({ name: 'AuthenticationError' });
  const bad = new ResonantGenesis({ apiKey: 'a\nb', baseUrl: 'http://h', fetch: net.fetch });
  const told = bad.agents.get('a');
  await expect(told).rejects.toThrow('cannot stand in a header');
  await expect(told).rejects.not.toThrow('a\nb');
  for (const baseUrl of ['nonsense', 'ftp://h', 'http://u:p@h', 'http://h?x=1', 'http://h#x']) {
    const wrong = new ResonantGenesis({ apiKey: 'k', baseUrl, fetch: net.fetch });
    await expect(wrong.agents.get('a')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    expect(() => wrong.baseUrl).toThrow('baseUrl');
  }
  expect(net.asked).toHaveLength(0);
});

test('names are camelCase outside and the wire’s inside; free-form data is left alone', async () => {
  const answer = {
    session_id: 's',
    agent_id: 'a',
    created_at: 't',
    metadata: { my_key: 1 },
    context: { user_name: 'x' },
    __proto__x: 1,
  };
  const net = new FakeFetch(json(answer));
  const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch });
  const session = await client.sessions.create({ agentId: 'a', metadata: { my_key: 1 } });
  expect(net.asked[0]?.body).toEqual({ agent_id: 'a', metadata: { my_key: 1 } });
  expect(session).toMatchObject({ sessionId: 's', agentId: 'a', createdAt: 't' });
  expect(session.metadata).toEqual({ my_key: 1 });
  expect(session.context).toEqual({ user_name: 'x' });
});

test('an answer cannot reach into what objects are', async () => {
  const evil = JSON.parse('{"id":"a","__proto__":{"polluted":true},"constructor":1}');
  const client = new ResonantGenesis({
    apiKey: 'k',
    baseUrl: 'http://h',
    fetch: new FakeFetch(() => new Response(JSON.stringify(evil))).fetch,
  });
  const found = (await client.agents.get('a')) as unknown as { polluted?: boolean };
  expect(found.polluted).toBeUndefined();
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
});

test('ids are parts of a path, whatever they contain', async () => {
  const net = new FakeFetch(agent);
  const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch });
  await client.agents.get('../keys?x=1');
  expect(net.asked[0]?.url.href).toBe('http://h/v1/agents/..%2Fkeys%3Fx%3D1');
  for (const id of ['', '.', '..']) {
    await expect(client.agents.get(id)).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  }
});

test('a redirection is told, never followed with the credential', async () => {
  const moved = () => new Response(null, { status: 307, headers: { location: 'http://evil' } });
  const net = new FakeFetch(moved);
  const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch });
  await expect(client.agents.get('a')).rejects.toThrow('baseUrl must be the final address');
  expect(net.asked).toMatchObject([{ redirect: 'manual' }]);
});

test('where it pointed is said, without what may be a credential', async () => {
  const location = 'https://user:secret@evil.example/v1/agents/a?token=secret#secret';
  const body = JSON.stringify({ error: { code: 'UNAVAILABLE', message: 'try again' } });
  const moved = () => new Response(body, { status: 302, headers: { location } });
  // React Native's fetch follows them whatever it is told.
  const followed = () => {
    const response = new Response('{}', { status: 200 });
    return Object.defineProperties(response, {
      redirected: { value: true },
      url: { value: location },
    });
  };
  for (const answer of [moved, followed]) {
    const net = new FakeFetch(answer);
    const client = new ResonantGenesis({ apiKey: 'k', baseUrl: 'http://h', fetch: net.fetch });
    for (const use of [client.agents.get('a'), client.sessions.join('s'), client.files.get('f')]) {
      const error = await use.then(
        () => undefined,
        (reason) => reason,
      );
      expect(error).toMatchObject({ code: 'INVALID_REQUEST', retryable: false });
      expect(error.message).toContain('to https://evil.example/v1/agents/a,');
      expect(error.message).not.toContain('secret');
    }
    expect(net.asked).toHaveLength(3);
  }
});

test('a server that cannot be reached is said at once, once an outage, and when it is back', async () => {
  const said: string[] = [];
  const logger = { debug() {}, info() {}, warn: (text: string) => said.push(text), error() {} };
  let up = false;
  const net = new FakeFetch((asked) => {
    if (!up) throw new TypeError('fetch failed', { cause: new Error('connect ECONNREFUSED') });
    return agent(asked);
  });
  const options = { apiKey: 'k', baseUrl: 'http://h:8080/api', logger, maxRetries: 2 };
  const client = new ResonantGenesis({ ...options, fetch: net.fetch });
  const why = 'could not connect to h:8080: connect ECONNREFUSED';
  for (let round = 1; round <= 2; round += 1) {
    up = false;
    const outcome = expect(client.agents.get('a')).rejects.toMatchObject({ message: why });
    await vi.advanceTimersByTimeAsync(0);
    expect(said).toHaveLength(2 * round - 1);
    await vi.advanceTimersByTimeAsync(30_000);
    await outcome;
    up = true;
    await client.agents.get('a');
    await client.agents.get('a');
  }
  const back = 'connected again to h:8080';
  expect(said).toEqual([why, back, why, back].map((text) => `resonantgenesis: ${text}`));
});

test('the default address is named as such', async () => {
  const client = new ResonantGenesis({
    apiKey: 'k',
    fetch: new FakeFetch(broken).fetch,
    maxRetries: 0,
    logLevel: 'silent',
  });
  await expect(client.agents.get('a')).rejects.toThrow(
    /^could not connect to api\.resonantgenesis\.xyz:443 \(the default.*baseUrl.*RESONANTGENESIS_BASE_URL/,
  );
});

test('an answer that does not come is given up', async () => {
  const net = new FakeFetch(never);
  const options = { apiKey: 'k', baseUrl: 'http://h', maxRetries: 0, timeout: 5 };
  const client = new ResonantGenesis({ ...options, fetch: net.fetch });
  const outcome = expect(client.agents.get('a')).rejects.toMatchObject({
    code: 'CONNECTION_LOST',
    message: 'no answer in time from h:80',
  });
  await vi.advanceTimersByTimeAsync(5_000);
  await outcome;
  expect(net.asked[0]?.signal.aborted).toBe(true);
});

test('a getToken that never answers is given up', async () => {
  const net = new FakeFetch(agent);
  const getToken = () => new Promise<string>(() => {});
  const options = { getToken, baseUrl: 'http://h', maxRetries: 0 };
  const client = new ResonantGenesis({ ...options, fetch: net.fetch });
  const outcome = expect(client.agents.get('a')).rejects.toThrow('getToken took too long');
  await vi.advanceTimersByTimeAsync(10_000);
  await outcome;
});

test('a client that is printed shows no credential', () => {
  const client = new ResonantGenesis({ apiKey: 'secret-key', token: 'secret-token' });
  expect(inspect(client, { depth: 9, showHidden: true })).not.toContain('secret');
  expect(JSON.stringify(client)).not.toContain('secret');
});

test('it logs what it was told to, and no credential', async () => {
  const said: string[] = [];
  const hear = (level: string) => (message: string) => said.push(`${level}: ${message}`);
  const logger = { debug: hear('d'), info: hear('i'), warn: hear('w'), error: hear('e') };
  for (const logLevel of ['info', 'warn', 'silent'] as const) {
    const options = { apiKey: 'secret-key', baseUrl: 'http://h', maxRetries: 1, logger, logLevel };
    const client = new ResonantGenesis({ ...options, fetch: new FakeFetch(broken).fetch });
    const outcome = expect(client.sessions.join('s')).rejects.toThrow();
    await vi.advanceTimersByTimeAsync(1_000);
    await outcome;
  }
  const unreachable = 'could not connect to h:80: fetch failed';
  expect(said).toEqual([
    `w: resonantgenesis: ${unreachable}`,
    expect.stringMatching(`^i: resonantgenesis: session s, position 0: ${unreachable}; again in `),
    `w: resonantgenesis: ${unreachable}`,
  ]);
  expect(said.join()).not.toContain('secret-key');
});

test('code that is loaded later is waited for without a network, or told to be missing', async () => {
  const page = new FakePage();
  for (const [name, value] of Object.entries(page.globals)) vi.stubGlobal(name, value);
  page.navigator.onLine = false;
  const module = { name: 'm' };
  const from = vi.fn().mockRejectedValueOnce(new TypeError('no network')).mockResolvedValue(module);
  const loading = load(from, true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(from).not.toHaveBeenCalled();
  page.goOnline();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(await loading).toBe(module);
  expect(from).toHaveBeenCalledTimes(2);
  const gone = () => Promise.reject(new TypeError('no network'));
  await expect(load(gone, false)).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  vi.unstubAllGlobals();
});
