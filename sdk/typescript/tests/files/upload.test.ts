/** Files on their way up: whole and once, or not at all. */
import {
  AuthenticationError,
  ConnectionLost,
  InvalidRequest,
  type UploadSource,
} from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, proxyTo } from '../support/clients.js';
import { content, isRising, MIB, pieces, sha256, stored } from './support.js';

const DATA = content(3 * MIB + 17);

test.each<[string, () => UploadSource, number | undefined]>([
  ['bytes', () => DATA, DATA.length],
  ['a Blob', () => new Blob([DATA]), DATA.length],
  ['a stream', () => new Blob([DATA]).stream(), undefined],
  ['a generator', () => pieces(DATA), undefined],
])('%s', async (_, source, size) => {
  const client = clientOf();
  const told: [number, number | undefined][] = [];
  const file = await client.files.upload(source(), {
    name: 'größe.bin',
    onProgress: (...now) => told.push(now),
  });
  expect(file).toMatchObject({
    name: 'größe.bin',
    size: DATA.length,
    sha256: sha256(DATA),
    contentType: 'application/octet-stream',
    subject: null,
    sessionId: null,
  });
  expect(told.at(-1)).toEqual([DATA.length, size]);
  expect(isRising(told.map(([done]) => done))).toBe(true);
  expect(told.length).toBeGreaterThan(5);
  const down = await client.files.download(file.id);
  expect(sha256(await down.bytes())).toBe(file.sha256);
});

test('what is empty, and what says itself how it is called', async () => {
  const { files } = clientOf();
  const empty = await files.upload(new Uint8Array(), { name: 'empty.txt' });
  expect(empty).toMatchObject({ size: 0, contentType: 'text/plain' });
  expect(await (await files.download(empty.id)).bytes()).toHaveLength(0);
  const none = await files.upload(pieces(new Uint8Array()), { name: 'none' });
  expect(none.size).toBe(0);
  const source = new File(['<p>'], 'page.html', { type: 'text/html' });
  expect(await files.upload(source)).toMatchObject({ name: 'page.html', contentType: 'text/html' });
  const named = await files.upload(source, { name: 'x', contentType: 'text/css', subject: 'ann' });
  expect(named).toMatchObject({ name: 'x', contentType: 'text/css', subject: 'ann' });
});

test('cut several times, it is tried again and stored once', async () => {
  const proxy = await proxyTo();
  const { files } = clientOf({ baseUrl: proxy.url });
  // More than the machine takes on its own account before a cut is noticed.
  const large = content(40 * MIB);
  const name = `cut-${proxy.url.slice(-5)}`;
  const told: number[] = [];
  let cuts = 0;
  const file = await files.upload(new Blob([large]), {
    name,
    onProgress(done) {
      told.push(done);
      // Each of the first connections, once it has brought more than the one before.
      if (proxy.connections > cuts && cuts < 3) {
        cuts += 1;
        proxy.cut();
      }
    },
  });
  expect(file).toMatchObject({ size: large.length, sha256: sha256(large) });
  expect(proxy.connections).toBe(4);
  expect(isRising(told)).toBe(true);
  const all = await files.list({ limit: 200 });
  expect(all.data.filter((one) => one.name === name)).toEqual([file]);
});

test('an upload whose answer is lost is stored once', async () => {
  const proxy = await proxyTo();
  proxy.choose = (number) => (number === 0 ? 40 : 'pass');
  const client = clientOf({ baseUrl: proxy.url });
  const name = `lost-${proxy.url.slice(-5)}`;
  const file = await client.files.upload(content(1000), { name });
  expect(proxy.connections).toBe(2);
  const all = await clientOf().files.list({ limit: 200 });
  expect(all.data.filter((one) => one.name === name)).toEqual([file]);
  const again = await client.files.upload(content(1000), { name, idempotencyKey: 'mine-12345678' });
  const same = await client.files.upload(content(1000), { name, idempotencyKey: 'mine-12345678' });
  expect(same.id).toBe(again.id);
});

test('what can be read once is not tried again, unless nothing of it was read', async () => {
  const proxy = await proxyTo();
  let refusals = 2;
  const refusing: typeof fetch = async (...all) => {
    if (refusals-- > 0) throw new TypeError('fetch failed');
    return fetch(...all);
  };
  const { files } = clientOf({ baseUrl: proxy.url, fetch: refusing });
  const file = await files.upload(pieces(DATA), { name: 'late.bin' });
  expect(file.sha256).toBe(sha256(DATA));
  let ended = false;
  async function* source() {
    try {
      for await (const piece of pieces(DATA)) {
        yield piece;
        proxy.cut();
      }
    } finally {
      ended = true;
    }
  }
  const before = proxy.connections;
  const cut = files.upload(source(), { name: 'once.bin' });
  await expect(cut).rejects.toBeInstanceOf(ConnectionLost);
  expect(proxy.connections).toBeLessThanOrEqual(before + 1);
  expect(ended).toBe(true);
});

test('a wrong checksum is refused and nothing stored, the right one is not', async () => {
  const { files } = clientOf();
  const checksum = sha256(DATA);
  const good = await files.upload(pieces(DATA), { name: 'sum', checksum: checksum.toUpperCase() });
  expect(good.sha256).toBe(checksum);
  const wrong = files.upload(DATA, { name: 'wrong-sum', checksum: sha256(content(5)) });
  await expect(wrong).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    status: 422,
    details: { fields: expect.anything() },
  });
  const names = (await files.list({ limit: 200 })).data.map((file) => file.name);
  expect(names).not.toContain('wrong-sum');
});

test('what is stored is what was sent, else it is deleted', async () => {
  // Something on the way changes a byte.
  const spoil: typeof fetch = async (url, init) => {
    if (init?.method !== 'POST') return fetch(url, init);
    const bytes = new Uint8Array(await new Response(init.body as ReadableStream).arrayBuffer());
    bytes[7] = (bytes[7] ?? 0) ^ 1;
    return fetch(url, { ...init, body: bytes });
  };
  const upload = clientOf({ fetch: spoil }).files.upload(content(1000), { name: 'spoilt' });
  await expect(upload).rejects.toThrow('what the server stored is not what was sent');
  const names = (await clientOf().files.list({ limit: 200 })).data.map((file) => file.name);
  expect(names).not.toContain('spoilt');
});

test('what is wrong is said before anything is sent', async () => {
  const { files } = clientOf({ fetch: () => Promise.reject(new Error('nothing may be sent')) });
  const refused = (source: unknown, options?: object) =>
    expect(files.upload(source as UploadSource, options)).rejects;
  await refused(DATA).toBeInstanceOf(InvalidRequest);
  await refused(DATA, { name: '' }).toThrow('name is needed');
  await refused(DATA, { name: 'a', checksum: 'ab' }).toThrow('checksum must be');
  await refused('text', { name: 'a' }).toThrow('the source is no Blob');
  await refused(undefined, { name: 'a' }).toThrow('the source is no Blob');
});

test('what source and callback throw is thrown as it is, and not tried again', async () => {
  const proxy = await proxyTo();
  const { files } = clientOf({ baseUrl: proxy.url });
  const fault = new Error('the disk is gone');
  async function* broken() {
    yield content(1000);
    throw fault;
  }
  await expect(files.upload(broken(), { name: 'a' })).rejects.toBe(fault);
  async function* text() {
    yield 'text' as unknown as Uint8Array;
  }
  await expect(files.upload(text(), { name: 'a' })).rejects.toThrow('else than Uint8Array');
  const onProgress = () => {
    throw fault;
  };
  await expect(files.upload(DATA, { name: 'a', onProgress })).rejects.toBe(fault);
  expect(proxy.connections).toBeLessThanOrEqual(3);
});

test('a signal ends it with its reason, and the source with it', async () => {
  const control = new AbortController();
  const reason = new Error('enough');
  let cancelled = false;
  const source = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(content(100_000)),
    cancel: () => {
      cancelled = true;
    },
  });
  const { files } = clientOf();
  const onProgress = (done: number) => done > MIB && control.abort(reason);
  const options = { name: 'endless', signal: control.signal, onProgress };
  await expect(files.upload(source, options)).rejects.toBe(reason);
  expect(cancelled).toBe(true);
  await expect(files.upload(DATA, options)).rejects.toBe(reason);
  const names = (await files.list({ limit: 200 })).data.map((file) => file.name);
  expect(names).not.toContain('endless');
});

test('the source is read no faster than the connection takes it', async () => {
  let given = 0;
  async function* source() {
    for (;;) {
      given += 1;
      yield content(1000);
    }
  }
  // A platform that takes three pieces, and then nothing more.
  const slow: typeof fetch = async (_, init) => {
    const reader = (init as { body: ReadableStream<Uint8Array> }).body.getReader();
    for (let taken = 0; taken < 3; taken += 1) await reader.read();
    expect(given).toBe(3);
    expect(init).toMatchObject({ duplex: 'half' });
    return new Response(JSON.stringify({ error: { code: 'PAYLOAD_TOO_LARGE' } }), { status: 413 });
  };
  const upload = clientOf({ fetch: slow }).files.upload(source(), { name: 'a' });
  await expect(upload).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE', status: 413 });
  expect(given).toBe(3);
});

test('a connection that takes nothing more is given up', async () => {
  const stuck: typeof fetch = (_, init) =>
    new Promise((_resolve, reject) => {
      init?.signal?.addEventListener('abort', () => reject(init.signal?.reason));
    });
  const client = clientOf({ fetch: stuck, timeout: 0.05, maxRetries: 1 });
  await expect(client.files.upload(DATA, { name: 'a' })).rejects.toThrow('nothing moved in time');
});

test('a credential that has ended is replaced; what is gone cannot be sent under it', async () => {
  const { token } = await clientOf().tokens.create({ scopes: ['files:read', 'files:write'] });
  const tokens = ['rg_ended', token];
  const client = clientOf({ getToken: () => tokens.shift() ?? token });
  expect(await client.files.upload(DATA, { name: 'fresh' })).toMatchObject({ size: DATA.length });
  const late = ['rg_ended', token];
  const other = clientOf({ getToken: () => late.shift() ?? token });
  const once = other.files.upload(pieces(DATA), { name: 'gone' });
  await expect(once).rejects.toBeInstanceOf(AuthenticationError);
  expect((await stored(content(1))).size).toBe(1);
  expect(await other.files.upload(pieces(DATA), { name: 'next' })).toMatchObject({ name: 'next' });
});
