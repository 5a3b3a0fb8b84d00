/** React Native: streams, signals and the queue with what is there. */
import { afterEach, expect, test, vi } from 'vitest';
import { ResonantGenesis } from '../src/index.js';
import type { Chunk, JsonObject } from '../src/types.js';
import { NativeFetch, oneSession, stubReactNative } from './support/react-native.js';

const TURN = { agentId: 'a', goal: 'g' };

afterEach(() => {
  vi.unstubAllGlobals();
});

function clientOn(net: NativeFetch, options: JsonObject = {}): ResonantGenesis {
  stubReactNative(net.fetch);
  return new ResonantGenesis({
    apiKey: 'k',
    baseUrl: 'http://h/v1',
    logLevel: 'silent',
    ...options,
  });
}

async function collect(stream: AsyncIterable<Chunk>): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += chunk.type === 'text' ? chunk.content : chunk.type;
  return text;
}

test('its signals are others than the web’s', () => {
  clientOn(new NativeFetch(oneSession(1)));
  const control = new AbortController();
  control.abort();
  expect([control.signal.reason, control.signal.throwIfAborted]).toEqual([undefined, undefined]);
});

test('a turn is polled from the start, since no body can be read as it comes', async () => {
  const net = new NativeFetch(oneSession(3));
  const client = clientOn(net);
  expect(client.baseUrl).toBe('http://h');
  const stream = await client.sessions.executeStream({ ...TURN, context: { 'a&b': 'ü/' } });
  expect(await collect(stream)).toBe('1 2 3 done');
  expect(stream.state).toBe('closed');
  expect(
    net.asked.filter(({ headers }) => headers.get('accept')?.includes('event-stream')),
  ).toEqual([]);
  expect(net.asked.filter(({ method }) => method === 'POST')).toHaveLength(1);
});

test('what the app brings for a fetch that streams is used', async () => {
  const frame =
    'id: 1\nevent: done\ndata: {"type":"done","session_id":"s","turn":1,"position":1}\n\n';
  const headers = { 'content-type': 'text/event-stream', 'x-session-id': 's', 'x-turn': '1' };
  const answer = new Response(frame, { headers });
  const streaming = vi.fn(async () => answer);
  const { TextDecoder } = globalThis;
  stubReactNative(new NativeFetch(oneSession(1)).fetch);
  vi.stubGlobal('TextDecoder', TextDecoder);
  const options = { apiKey: 'k', baseUrl: 'http://h', fetch: streaming };
  const client = new ResonantGenesis(options);
  expect(await collect(await client.sessions.executeStream(TURN))).toBe('done');
  expect(streaming).toHaveBeenCalledTimes(1);
});

const USES = {
  call: (client: ResonantGenesis, signal: AbortSignal) => client.sessions.execute(TURN, { signal }),
  turn: async (client: ResonantGenesis, signal: AbortSignal) =>
    collect(await client.sessions.executeStream(TURN, { signal })),
  session: async (client: ResonantGenesis, signal: AbortSignal) =>
    collect(await client.sessions.join('s', { signal })),
  events: async (client: ResonantGenesis, signal: AbortSignal) => {
    for await (const _ of client.events.subscribe({ since: 'c', signal }));
  },
};

test.each(Object.entries(USES))(
  'a signal ends a %s, before it and in its midst',
  async (_, use) => {
    // Whatever is asked, the last of it never comes.
    const net = new NativeFetch((asked) =>
      /\/events\?/.test(asked.path) ? undefined : oneSession(1, false)(asked),
    );
    const client = clientOn(net);
    const done = new AbortController();
    done.abort();
    await expect(use(client, done.signal)).rejects.toMatchObject({ name: 'AbortError' });
    const control = new AbortController();
    const outcome = expect(use(client, control.signal)).rejects.toMatchObject({
      name: 'AbortError',
    });
    await vi.waitFor(() => expect(net.asked.at(-1)?.path).toContain('/events?'));
    const before = net.aborted;
    control.abort();
    await outcome;
    expect(net.aborted).toBeGreaterThan(before);
  },
);

test('closing a stream ends its poll', async () => {
  const net = new NativeFetch(oneSession(1, false));
  const stream = await clientOn(net).sessions.executeStream(TURN);
  for await (const chunk of stream) {
    expect(chunk.position).toBe(1);
    break;
  }
  expect(stream.state).toBe('closed');
  const other = await clientOn(net).sessions.join('s', { resumeFrom: 1 });
  const next = other[Symbol.asyncIterator]().next();
  await vi.waitFor(() => expect(net.asked.at(-1)?.path).toContain('after=1'));
  await other.close();
  expect((await next).done).toBe(true);
});

test('the queue keeps in memory what it sends', async () => {
  const net = new NativeFetch(oneSession(1));
  const client = clientOn(net);
  const queue = await client.offlineQueue({ onChange: vi.fn() });
  await queue.add(TURN);
  await vi.waitFor(() => expect(queue.items[0]).toMatchObject({ status: 'sent', turn: 1 }));
  await queue.close();
});

test('a listener that throws harms no other', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const queue = await clientOn(new NativeFetch(oneSession(1))).offlineQueue();
  const heard = vi.fn();
  queue.subscribe(() => {
    throw new Error('mine');
  });
  queue.subscribe(heard);
  await queue.add(TURN);
  expect(heard).toHaveBeenCalled();
  await queue.close();
  const seen: string[] = [];
  while (vi.getTimerCount()) {
    try {
      vi.runAllTimers();
    } catch (error) {
      seen.push(String(error));
    }
  }
  expect(new Set(seen)).toEqual(new Set(['Error: mine']));
  vi.useRealTimers();
});

test('a socket works, and a signal ends what is read on it', async () => {
  const sent: JsonObject[] = [];
  class Socket {
    onopen?: () => void;
    onmessage?: (event: { data: string }) => void;

    constructor() {
      setTimeout(() => this.onopen?.(), 0);
    }

    send(text: string): void {
      const message: JsonObject = JSON.parse(text);
      sent.push(message);
      if (message.type !== 'subscribe') return;
      const answer = { type: 'subscribed', id: message.id, channels: message.channels };
      this.onmessage?.({ data: JSON.stringify({ ...answer, cursor: 'c', position: 0 }) });
    }

    close(): void {}
  }
  const client = clientOn(new NativeFetch(oneSession(1)), { webSocket: Socket });
  const realtime = await client.realtime();
  const control = new AbortController();
  const { signal } = control;
  const events = await realtime.subscribe({ channels: 'app', signal });
  const next = events[Symbol.asyncIterator]().next();
  control.abort();
  await expect(next).rejects.toMatchObject({ name: 'AbortError' });
  await expect(realtime.session('s', { signal })).rejects.toMatchObject({ name: 'AbortError' });
  expect(sent.map(({ type }) => type)).toContain('unsubscribe');
  await realtime.close();
});

test('what needs streams says so', async () => {
  const client = clientOn(new NativeFetch(oneSession(1)));
  const error = { code: 'INVALID_REQUEST', message: expect.stringContaining('ReadableStream') };
  await expect(client.files.download('f')).rejects.toMatchObject(error);
  await expect(client.files.upload(new Uint8Array(1), { name: 'x' })).rejects.toMatchObject(error);
  const stream = await client.sessions.join('s');
  expect(() => stream.toReadableStream()).toThrow(expect.objectContaining(error));
  await stream.close();
});
