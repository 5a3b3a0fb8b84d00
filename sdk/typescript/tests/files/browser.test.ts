/** Uploads as a browser sends them: a Blob at once, by what tells of its progress. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { clientOf } from '../support/clients.js';
import { content, MIB, pieces, sha256 } from './support.js';

const DATA = content(2 * MIB);

/** The browser's class over Node's `fetch`; it says that half is gone before anything is. */
class FakeXhr {
  static sent: unknown[] = [];
  static aborted = 0;
  readonly upload: { onprogress?: (event: { loaded: number }) => void } = {};
  onload?: () => void;
  onerror?: () => void;
  onabort?: () => void;
  status = 0;
  responseText = '';
  #headers = '';
  #method = '';
  #url = '';
  readonly #asked = new Headers();
  readonly #control = new AbortController();

  open(method: string, url: string): void {
    this.#method = method;
    this.#url = url;
  }

  setRequestHeader(name: string, value: string): void {
    this.#asked.set(name, value);
  }

  getAllResponseHeaders(): string {
    return this.#headers;
  }

  abort(): void {
    FakeXhr.aborted += 1;
    this.#control.abort();
  }

  async send(body: Blob): Promise<void> {
    FakeXhr.sent.push(body);
    this.upload.onprogress?.({ loaded: body.size / 2 });
    const { signal } = this.#control;
    const init = { method: this.#method, headers: this.#asked, body, signal };
    try {
      const answer = await fetch(this.#url, init);
      this.status = answer.status;
      this.responseText = await answer.text();
      this.#headers = [...answer.headers].map((line) => line.join(': ')).join('\r\n');
    } catch {
      if (signal.aborted) this.onabort?.();
      else this.onerror?.();
      return;
    }
    this.onload?.();
  }
}

function browser(globals: Record<string, unknown> = {}): void {
  vi.stubGlobal('navigator', { userAgent: 'Mozilla/5.0 (X11) Chrome/130' });
  for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
  FakeXhr.sent = [];
  FakeXhr.aborted = 0;
  onTestFinished(() => void vi.unstubAllGlobals());
}

test('with progress', async () => {
  browser({ XMLHttpRequest: FakeXhr });
  const told: number[] = [];
  const onProgress = (done: number) => told.push(done);
  const source = new Blob([DATA]);
  const file = await clientOf().files.upload(source, { name: 'b', onProgress });
  expect(file.sha256).toBe(sha256(DATA));
  expect(told).toEqual([MIB, 2 * MIB]);
  expect(FakeXhr.sent).toEqual([source]);
  const gathered = await clientOf().files.upload(pieces(DATA), { name: 'b' });
  expect(gathered.sha256).toBe(file.sha256);
  expect(FakeXhr.sent[1]).toBeInstanceOf(Blob);
});

test('refused, lost, ended by its signal or the callback', async () => {
  browser({ XMLHttpRequest: FakeXhr });
  const { files } = clientOf();
  const refused = files.upload(DATA, { name: 'b', checksum: sha256(content(3)) });
  await expect(refused).rejects.toMatchObject({ code: 'INVALID_REQUEST', status: 422 });
  const lost = clientOf({ baseUrl: 'http://127.0.0.1:1', maxRetries: 1 });
  const upload = lost.files.upload(DATA, { name: 'b' });
  await expect(upload).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  expect(FakeXhr.sent).toHaveLength(3);
  const control = new AbortController();
  const reason = new Error('enough');
  const abort = () => control.abort(reason);
  const aborted = files.upload(DATA, { name: 'b', signal: control.signal, onProgress: abort });
  const before = FakeXhr.aborted;
  await expect(aborted).rejects.toBe(reason);
  expect(FakeXhr.aborted).toBeGreaterThan(before);
  const onProgress = () => {
    throw reason;
  };
  await expect(files.upload(DATA, { name: 'b', onProgress })).rejects.toBe(reason);
});

test('by fetch where there is nothing else, or the caller’s own', async () => {
  browser();
  const told: number[] = [];
  const onProgress = (done: number) => told.push(done);
  const file = await clientOf().files.upload(DATA, { name: 'b', onProgress });
  expect([file.sha256, told]).toEqual([sha256(DATA), [DATA.length]]);
  browser({ XMLHttpRequest: FakeXhr });
  await clientOf({ fetch: (...all) => fetch(...all) }).files.upload(DATA, { name: 'b' });
  expect(FakeXhr.sent).toEqual([]);
});
