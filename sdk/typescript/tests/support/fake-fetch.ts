/** A `fetch` whose answers a test writes: the lowest seam, where no network is. */

import type { JsonObject } from '../../src/types.js';
import { chunkFrame } from './script.js';

export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: JsonObject | undefined;
  readonly signal: AbortSignal;
  readonly redirect: string | undefined;
  /** Of the fake clock, if it runs; in seconds. */
  readonly at: number;
}

type Answer = (asked: Asked) => Response | Promise<Response>;

/** Answers in the order in which they were given; the last one again and again. */
export class FakeFetch {
  readonly asked: Asked[] = [];
  readonly #answers: Answer[];

  constructor(...answers: Answer[]) {
    this.#answers = answers;
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const signal = init?.signal ?? new AbortController().signal;
    signal.throwIfAborted();
    const asked: Asked = {
      method: init?.method ?? 'GET',
      url: new URL(String(input)),
      headers: new Headers(init?.headers),
      body: init?.body ? JSON.parse(String(init.body)) : undefined,
      signal,
      redirect: init?.redirect,
      at: Date.now() / 1000,
    };
    this.asked.push(asked);
    const answer = this.#answers.length > 1 ? this.#answers.shift() : this.#answers[0];
    if (!answer) throw new TypeError('fetch failed');
    return answer(asked);
  };
}

export const json = (body: unknown, status = 200, headers: Record<string, string> = {}): Answer => {
  return () => new Response(JSON.stringify(body), { status, headers });
};

export const broken: Answer = () => {
  throw new TypeError('fetch failed');
};

/** An answer that never comes, until it is given up. */
export const never: Answer = ({ signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

/** An event stream that a test feeds. */
export class FakeStream {
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  readonly #headers: Record<string, string>;
  opened = 0;

  constructor(headers: Record<string, string> = {}) {
    this.#headers = {
      'content-type': 'text/event-stream; charset=utf-8',
      'x-session-id': 's',
      'x-turn': '1',
      'x-heartbeat-seconds': '4',
      ...headers,
    };
  }

  readonly answer: Answer = ({ signal }) => {
    this.opened += 1;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
        signal.addEventListener('abort', () => controller.error(signal.reason));
      },
    });
    return new Response(body, { headers: this.#headers });
  };

  say(text: string): void {
    this.#controller?.enqueue(this.#encoder.encode(text));
  }

  chunks(...chunks: JsonObject[]): void {
    this.say(chunks.map(chunkFrame).join(''));
  }

  end(): void {
    this.#controller?.close();
  }
}

export const text = (position: number): JsonObject => ({ type: 'text', content: 'x', position });

export const done = (position: number): JsonObject => ({
  type: 'done',
  session_id: 's',
  turn: 1,
  status: 'success',
  output: '',
  position,
});

/** Stands for what a page has around it; gone with `vi.unstubAllGlobals`. */
export class FakePage {
  readonly window = new EventTarget();
  readonly document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  readonly navigator = { onLine: true };

  /** What is to be stubbed. */
  get globals(): Record<string, unknown> {
    const { window, document, navigator } = this;
    return {
      document,
      navigator,
      addEventListener: window.addEventListener.bind(window),
      removeEventListener: window.removeEventListener.bind(window),
    };
  }

  goOffline(): void {
    this.navigator.onLine = false;
    this.window.dispatchEvent(new Event('offline'));
  }

  goOnline(): void {
    this.navigator.onLine = true;
    this.window.dispatchEvent(new Event('online'));
  }

  look(): void {
    this.document.dispatchEvent(new Event('visibilitychange'));
  }
}
