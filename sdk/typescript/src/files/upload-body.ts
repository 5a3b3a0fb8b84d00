/** The body of an upload: its source, its pieces, their count and hash, and the caller's progress. */
import { Sha256 } from '../core/sha256.js';
import { AuthenticationError, ConnectionLost, InvalidRequest } from '../errors.js';
import { abortError, throwIfAborted, withTimeout } from '../platform.js';
import type { Transport } from '../transport.js';
import type { UploadOptions, UploadSource } from '../types.js';

/** The largest piece, in bytes. */
const PIECE = 256 * 1024;

/** One reading of the source, from its beginning. */
export interface Pieces {
  /** The next piece; undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** End the reading. */
  close(): Promise<void>;
}

interface Source {
  readonly size: number | undefined;
  /** Whether `open` may be called more than once. */
  readonly repeatable: boolean;
  open(): Pieces;
}

/** Throws InvalidRequest for a value that is no source. */
function sourceOf(source: UploadSource): Source {
  if (source instanceof Blob) {
    return { size: source.size, repeatable: true, open: () => small(ofStream(source.stream())) };
  }
  if (source instanceof Uint8Array) {
    return { size: source.length, repeatable: true, open: () => ofBytes(source) };
  }
  const once = { size: undefined, repeatable: false };
  // A stream first: in some browsers it is no iterable.
  if (typeof ReadableStream === 'function' && source instanceof ReadableStream)
    return { ...once, open: () => small(ofStream(source)) };
  if (typeof source?.[Symbol.asyncIterator] === 'function') {
    return { ...once, open: () => small(ofIterator(source[Symbol.asyncIterator]())) };
  }
  throw new InvalidRequest('the source is no Blob, Uint8Array, ReadableStream or AsyncIterable');
}

function ofBytes(bytes: Uint8Array): Pieces {
  let at = 0;
  return {
    async next() {
      const piece = bytes.subarray(at, at + PIECE);
      at += piece.length;
      return piece.length ? piece : undefined;
    },
    async close() {
      at = bytes.length;
    },
  };
}

function ofStream(stream: ReadableStream<Uint8Array>): Pieces {
  const reader = stream.getReader();
  return {
    async next() {
      const { value } = await reader.read();
      return value && checked(value);
    },
    close: () => reader.cancel(),
  };
}

function ofIterator(iterator: AsyncIterator<Uint8Array>): Pieces {
  return {
    async next() {
      const { done, value } = await iterator.next();
      return done ? undefined : checked(value);
    },
    async close() {
      await iterator.return?.();
    },
  };
}

/** Cuts large pieces: some Blobs come in one piece, and progress would not be seen. */
function small({ next, close }: Pieces): Pieces {
  let rest: Uint8Array | undefined;
  return {
    async next() {
      if (!rest?.length) rest = await next();
      const piece = rest?.subarray(0, PIECE);
      rest = rest?.subarray(PIECE);
      return piece;
    },
    close,
  };
}

/** Refuses text: its encoding would be a guess. */
function checked(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  throw new InvalidRequest('the source gives something else than Uint8Array');
}

/** Bytes a second below which an upload without progress events counts as hanging. */
const SLOWEST = 16 * 1024;
/** Seconds for a source to end after its last piece was read. */
const PARTING = 1;

export abstract class UploadBody {
  /** The error of the source or of the caller's function; another attempt would not help. */
  failure: { readonly error: unknown } | undefined;
  /** Called on every progress, and on a failure. */
  onMove: () => void = () => {};
  /** Whether an attempt, the first or another, can begin. */
  abstract readonly repeatable: boolean;
  /** The length to announce, unless the platform does that. */
  abstract readonly length: number | undefined;
  /** Seconds without progress after which an attempt is given up. */
  readonly limit: number;
  protected readonly source: Source;
  readonly #onProgress: UploadOptions['onProgress'];
  #told = -1;

  constructor(source: Source, onProgress: UploadOptions['onProgress'], limit: number) {
    this.source = source;
    this.#onProgress = onProgress;
    this.limit = limit;
  }

  /** Make an attempt with this as the request's body. */
  abstract send(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  /** The SHA-256 of what was sent. */
  abstract digest(): Promise<string>;
  /** The attempt is over, with or without success. */
  abstract halt(): Promise<void>;
  /** Nothing more will be sent. */
  abstract close(): Promise<void>;

  /** Report the sent bytes. Another attempt reports only bytes beyond them. */
  tell(done: number): void {
    if (done > this.#told) {
      this.#told = done;
      try {
        this.#onProgress?.(done, this.source.size);
      } catch (error) {
        this.fail(error);
      }
    }
    this.onMove();
  }

  protected fail(error: unknown): void {
    this.failure ??= { error };
    this.onMove();
  }
}

interface Attempt {
  /** Opened when the connection takes the first piece. */
  pieces?: Pieces;
  out?: ReadableStreamDefaultController<Uint8Array>;
  readonly hash: Sha256;
  sent: number;
  over: boolean;
}

/** For servers: sends piece by piece, as fast as the connection takes them. */
class StreamedBody extends UploadBody {
  readonly #transport: Transport;
  #begun = false;
  #attempt: Attempt | undefined;

  constructor(transport: Transport, source: Source, onProgress: UploadOptions['onProgress']) {
    super(source, onProgress, transport.settings.timeout);
    this.#transport = transport;
  }

  get repeatable(): boolean {
    return this.source.repeatable || !this.#begun;
  }

  get length(): number | undefined {
    return this.source.size;
  }

  async send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    if (!this.repeatable) {
      // The server has refused the credential; the next call uses the new one.
      throw new AuthenticationError('the credential ended, and the source cannot be read again');
    }
    const attempt: Attempt = { hash: new Sha256(), sent: 0, over: false };
    this.#attempt = attempt;
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          attempt.out = controller;
        },
        pull: () => this.#pull(attempt),
        cancel: () => this.#end(attempt),
      },
      { highWaterMark: 0 },
    );
    // Every platform needs `duplex` for a stream; TypeScript does not know it yet.
    const how = { ...init, body, duplex: 'half' } as RequestInit;
    return (this.#transport.settings.options.fetch ?? globalThis.fetch)(input, how);
  }

  async digest(): Promise<string> {
    return (this.#attempt?.hash ?? new Sha256()).digest();
  }

  async halt(): Promise<void> {
    if (this.#attempt) await this.#end(this.#attempt);
  }

  async close(): Promise<void> {
    await this.halt();
  }

  async #end(attempt: Attempt): Promise<void> {
    attempt.over = true;
    // A platform that has lost the connection may otherwise read the source to its end.
    attempt.out?.error(new ConnectionLost('the attempt is over'));
    try {
      // A generator ends only when its current await is over.
      if (attempt.pieces) await withTimeout(PARTING, attempt.pieces.close());
    } catch (error) {
      // Its own failure, if any, was reported before.
      this.#transport.settings.log('debug', `the source of an upload did not end well: ${error}`);
    }
  }

  async #pull(attempt: Attempt): Promise<void> {
    try {
      if (!attempt.pieces) {
        this.#begun = true;
        attempt.pieces = this.source.open();
      }
      let piece = await attempt.pieces.next();
      while (piece && !piece.length) piece = await attempt.pieces.next();
      if (attempt.over) return;
      if (!piece) {
        attempt.out?.close();
        return;
      }
      attempt.hash.update(piece);
      attempt.sent += piece.length;
      this.tell(attempt.sent);
      attempt.out?.enqueue(piece);
    } catch (error) {
      if (!attempt.over) this.fail(error);
      throw error;
    }
  }
}

/** For browsers: they send a Blob without loading it, but a stream over HTTP/2 only. */
class BlobBody extends UploadBody {
  readonly repeatable = true;
  readonly length = undefined;
  readonly #fetch: typeof fetch;
  readonly #blob: Blob;
  #digest: Promise<string> | undefined;
  #closed = false;

  constructor(transport: Transport, blob: Blob, onProgress: UploadOptions['onProgress']) {
    const { options, timeout } = transport.settings;
    // Only XMLHttpRequest reports an upload's progress; a service worker has none.
    const tells = !options.fetch && 'XMLHttpRequest' in globalThis;
    super(sourceOf(blob), onProgress, timeout + (tells ? 0 : blob.size / SLOWEST));
    this.#fetch = tells
      ? sendWithXhr((sent) => this.tell(sent))
      : (...all) => (options.fetch ?? globalThis.fetch)(...all);
    this.#blob = blob;
  }

  send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    // Read beside the sending, which is slower.
    this.#digest ??= this.#read();
    return this.#fetch(input, { ...init, body: this.#blob });
  }

  digest(): Promise<string> {
    this.#digest ??= this.#read();
    return this.#digest;
  }

  async halt(): Promise<void> {
    // The browser has released the Blob by itself.
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#digest;
  }

  async #read(): Promise<string> {
    const hash = new Sha256();
    try {
      const pieces = this.source.open();
      for (let piece = await pieces.next(); piece; piece = await pieces.next()) {
        if (this.#closed) {
          await pieces.close();
          break;
        }
        hash.update(piece);
      }
    } catch (error) {
      this.fail(error);
    }
    return hash.digest();
  }
}

/** Throws InvalidRequest for a value that is no source; in a browser also a stream's own error. */
export async function bodyOf(
  transport: Transport,
  given: UploadSource,
  { onProgress, signal }: UploadOptions,
): Promise<UploadBody> {
  const source = sourceOf(given);
  if (!isBrowser()) return new StreamedBody(transport, source, onProgress);
  return new BlobBody(
    transport,
    given instanceof Blob ? given : await gather(source, signal),
    onProgress,
  );
}

async function gather(source: Source, signal: AbortSignal | undefined): Promise<Blob> {
  const pieces = source.open();
  const abort = () => void pieces.close();
  signal?.addEventListener('abort', abort);
  try {
    const parts: BlobPart[] = [];
    for (let piece = await pieces.next(); piece; piece = await pieces.next()) {
      throwIfAborted(signal);
      parts.push(piece as Uint8Array<ArrayBuffer>);
    }
    throwIfAborted(signal);
    return new Blob(parts);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Every browser's user agent begins so; Node's, Deno's, Bun's and the edge runtimes' do not. */
function isBrowser(): boolean {
  return /^Mozilla\//.test(globalThis.navigator?.userAgent ?? '');
}

/** Calls `onSent` with the number of bytes sent so far. */
function sendWithXhr(onSent: (bytes: number) => void): typeof fetch {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      xhr.open(init.method ?? 'GET', String(input));
      for (const [name, value] of new Headers(init.headers)) xhr.setRequestHeader(name, value);
      xhr.upload.onprogress = ({ loaded }) => onSent(loaded);
      xhr.onload = () => {
        const { status, responseText } = xhr;
        resolve(new Response(responseText || null, { status, headers: headersOf(xhr) }));
      };
      xhr.onerror = () => reject(new TypeError('the request failed'));
      xhr.onabort = () => reject(abortError());
      init.signal?.addEventListener('abort', () => xhr.abort());
      if (init.signal?.aborted) reject(abortError());
      else xhr.send(init.body as Blob);
    });
}

function headersOf(xhr: XMLHttpRequest): Headers {
  const headers = new Headers();
  for (const line of xhr.getAllResponseHeaders().split('\r\n')) {
    const [, name, value] = /^([^:]+):(.*)$/.exec(line) ?? [];
    if (name && value !== undefined) headers.append(name, value.trim());
  }
  return headers;
}
