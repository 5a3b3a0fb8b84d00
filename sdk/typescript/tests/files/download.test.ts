/** Files on their way down: whole, over any number of connections, and checked. */
import { ConnectionLost, NotFound } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, collect, proxyTo } from '../support/clients.js';
import { content, isRising, MIB, sha256, stored } from './support.js';

const DATA = content(5 * MIB + 3, 7);

test('every way to take it', async () => {
  const file = await stored(DATA, 'page.html');
  const { files } = clientOf();
  const told: number[] = [];
  const download = await files.download(file.id, {
    onProgress(done, size) {
      told.push(done);
      expect(size).toBe(DATA.length);
    },
  });
  expect(download.file).toEqual(file);
  expect(sha256(await download.bytes())).toBe(file.sha256);
  expect(isRising(told)).toBe(true);
  expect(told.at(-1)).toBe(DATA.length);
  const blob = await (await files.download(file.id)).blob();
  expect([blob.size, blob.type]).toEqual([DATA.length, 'application/octet-stream']);
  const got: Uint8Array[] = [];
  const target = new WritableStream<Uint8Array>({ write: (piece) => void got.push(piece) });
  await (await files.download(file.id)).pipeTo(target);
  expect(sha256(Buffer.concat(got))).toBe(file.sha256);
  const { stream } = await files.download(file.id);
  expect(sha256(Buffer.concat(await collect(stream)))).toBe(file.sha256);
});

test('cut again and again it is still whole, and nothing comes twice', async () => {
  const file = await stored(DATA);
  const proxy = await proxyTo();
  let down = 0;
  // The first connection asks what the file is.
  proxy.choose = (number) => (number < 1 || number > 20 ? 'pass' : 60_000 + 20_000 * number);
  const { files } = clientOf({ baseUrl: proxy.url, maxRetries: 2, fetch: watched });
  const asked: (string | null)[] = [];
  function watched(url: Parameters<typeof fetch>[0], init?: RequestInit) {
    const headers = new Headers(init?.headers);
    if (String(url).endsWith('/content')) asked.push(headers.get('range'));
    if (headers.has('range')) expect(headers.get('if-range')).toBe(`"${file.sha256}"`);
    return fetch(url, {
      ...init,
      headers: { ...Object.fromEntries(headers), connection: 'close' },
    });
  }
  const told: number[] = [];
  const download = await files.download(file.id, { onProgress: (done) => told.push(done) });
  for await (const piece of download.stream) {
    expect(Buffer.compare(piece, DATA.subarray(down, down + piece.length))).toBe(0);
    down += piece.length;
  }
  expect(down).toBe(DATA.length);
  expect(isRising(told)).toBe(true);
  expect(asked.length).toBeGreaterThan(15);
  expect(asked[0]).toBeNull();
  expect(isRising(asked.slice(1).map((range) => Number.parseInt(range?.slice(6) ?? '', 10)))).toBe(
    true,
  );
});

test('cuts without any progress are counted', async () => {
  const file = await stored(content(1000));
  const proxy = await proxyTo();
  const client = clientOf({ baseUrl: proxy.url, maxRetries: 2 });
  const download = await client.files.download(file.id);
  proxy.cut();
  proxy.choose = () => 'refuse';
  const before = proxy.connections;
  await expect(download.bytes()).rejects.toBeInstanceOf(ConnectionLost);
  expect(proxy.connections - before).toBe(3);
});

test('what is not the file is never taken for it', async () => {
  const file = await stored(content(200_000));
  // Something on the way changes the last byte.
  const spoil: typeof fetch = async (url, init) => {
    const answer = await fetch(url, init);
    if (!String(url).endsWith('/content')) return answer;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    bytes[199_999] = (bytes[199_999] ?? 0) ^ 1;
    return new Response(bytes, { headers: answer.headers });
  };
  const { files } = clientOf({ fetch: spoil });
  await expect((await files.download(file.id)).bytes()).rejects.toThrow('is not what the server');
  await expect((await files.download(file.id)).blob()).rejects.toThrow('is not what the server');
});

test('it is asked for when it is read, and read no faster than it is taken', async () => {
  const file = await stored(content(300_000));
  let pulled = 0;
  let asked = 0;
  let cancelled = false;
  const slow: typeof fetch = async (url, init) => {
    if (!String(url).endsWith('/content')) return fetch(url, init);
    asked += 1;
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          pulled += 1;
          controller.enqueue(content(1000));
        },
        cancel() {
          cancelled = true;
        },
      },
      { highWaterMark: 0 },
    );
    init?.signal?.addEventListener('abort', () => {
      cancelled = true;
    });
    return new Response(body);
  };
  const { stream } = await clientOf({ fetch: slow }).files.download(file.id);
  expect(asked).toBe(0);
  const reader = stream.getReader();
  expect((await reader.read()).value).toHaveLength(1000);
  expect([asked, pulled]).toEqual([1, 1]);
  await reader.cancel();
  expect(cancelled).toBe(true);
});

test('a signal ends it with its reason; so does an error of the callback', async () => {
  const file = await stored(DATA);
  const { files } = clientOf();
  const control = new AbortController();
  const reason = new Error('enough');
  const onProgress = (done: number) => done > MIB && control.abort(reason);
  const download = await files.download(file.id, { signal: control.signal, onProgress });
  await expect(download.bytes()).rejects.toBe(reason);
  await expect(files.download(file.id, { signal: control.signal })).rejects.toBe(reason);
  const failing = await files.download(file.id, {
    onProgress() {
      throw reason;
    },
  });
  await expect(failing.blob()).rejects.toBe(reason);
});

test('a file that is deleted before it is read is not there', async () => {
  const file = await stored(content(10));
  const { files } = clientOf();
  const download = await files.download(file.id);
  await files.delete(file.id);
  await expect(download.bytes()).rejects.toBeInstanceOf(NotFound);
});
