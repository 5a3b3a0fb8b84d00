/** What clients see of a server that goes away and comes back. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { clientOf, proxyTo } from '../support/clients.js';
import { startServer } from '../support/server.js';

let server: Awaited<ReturnType<typeof startServer>>;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server?.dispose());

/** By a proxy, so that the address stays; while there is no server it refuses. */
async function client() {
  const proxy = await proxyTo(() => server.url);
  proxy.choose = () => (server.url ? 'pass' : 'refuse');
  const made = clientOf({ baseUrl: proxy.url, maxRetries: 1000 });
  // Some wait between attempts: without any they are spent before a slow machine has started it.
  vi.mocked(Math.random).mockReturnValue(0.05);
  return made;
}

test('killed in mid-answer, it tells how the turn ended', async () => {
  const { sessions } = await client();
  const stream = await sessions.executeStream({
    agentId: 'paced',
    goal: 'n',
    context: { count: 100_000, pace: 200 },
  });
  const iterator = stream[Symbol.asyncIterator]();
  for (let count = 0; count < 5; count += 1) await iterator.next();
  const seen = stream.position;
  await server.stop('SIGKILL');
  const rest = (async () => {
    for (;;) await iterator.next();
  })();
  const [ended] = await Promise.allSettled([rest, server.start()]);
  expect(ended).toMatchObject({
    status: 'rejected',
    reason: { code: 'RUNNER_LOST', name: 'AgentFailed', retryable: true },
  });
  expect(stream.position).toBeGreaterThan(seen);
});

test('restarted, it goes on with subscriptions over HTTP and on a socket', async () => {
  const one = await client();
  const { cursor } = await one.events.publish('app.before');
  const http = one.events.subscribe({ channels: 'app', since: cursor })[Symbol.asyncIterator]();
  const pending = http.next();
  const socket = await one.realtime();
  const subscription = await socket.subscribe({ channels: 'app', since: cursor });
  await server.stop();
  await server.start();
  await one.events.publish('app.after');
  expect((await pending).value?.type).toBe('app.after');
  for await (const event of subscription) {
    expect(event.type).toBe('app.after');
    break;
  }
  await http.return?.();
  await socket.close();
});
