/** What a React Native app has around it: another AbortController, and much of the web missing. */
import { AbortController, AbortSignal } from 'abort-controller';
import { vi } from 'vitest';
import type { JsonObject } from '../../src/types.js';

// Node makes these with what is missing below, when they are first used.
new Response(new Blob(['']), { headers: new Headers() });

const MISSING = [
  'DOMException',
  'ReadableStream',
  'WritableStream',
  'TransformStream',
  'TextDecoder',
  'TextEncoder',
  'TextDecoderStream',
  'URLSearchParams',
  'crypto',
  'indexedDB',
  'structuredClone',
];
/** React in a page, in place of which there would be React Native, cannot do without. */
const PAGE = ['addEventListener', 'removeEventListener', 'queueMicrotask', 'performance'];

/** Its fields are not implemented there. */
class BareUrl {
  readonly href: string;

  constructor(text: string) {
    this.href = text.endsWith('/') ? text : `${text}/`;
  }

  get origin(): string {
    throw new Error('URL.origin is not implemented');
  }

  get pathname(): string {
    throw new Error('URL.pathname is not implemented');
  }

  get protocol(): string {
    throw new Error('URL.protocol is not implemented');
  }
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: JsonObject;
}

/** The whole body and its status; undefined: never answers. */
type Answer = (asked: Asked) => readonly [unknown, number?] | undefined;

/** `fetch` as it is there, over XMLHttpRequest: an answer is there when all of it is. */
export class NativeFetch {
  readonly asked: Asked[] = [];
  /** How many that had no answer were given up. */
  aborted = 0;
  readonly #answer: Answer;

  constructor(answer: Answer) {
    this.#answer = answer;
  }

  readonly fetch = (url: string, init: RequestInit = {}): Promise<unknown> => {
    const asked = {
      method: init.method ?? 'GET',
      path: url.replace(/^http:\/\/h/, ''),
      headers: new Headers(init.headers),
      body: JSON.parse(String(init.body ?? '{}')),
    };
    this.asked.push(asked);
    return new Promise((resolve, reject) => {
      const answer = this.#answer(asked);
      if (!answer) {
        init.signal?.addEventListener('abort', () => {
          this.aborted += 1;
          reject(Object.assign(new Error('Aborted'), { name: 'AbortError' }));
        });
        return;
      }
      const [body, status = 200] = answer;
      const headers = new Headers({ 'content-type': 'application/json' });
      const text = async () => (body === undefined ? '' : JSON.stringify(body));
      resolve({ status, ok: status < 300, headers, url, text });
    });
  };
}

/** Until `vi.unstubAllGlobals`; `hasPage` leaves what React DOM and its tests need. */
export function stubReactNative(fetch: NativeFetch['fetch'], hasPage = false): void {
  for (const name of hasPage ? MISSING : [...MISSING, ...PAGE]) vi.stubGlobal(name, undefined);
  vi.stubGlobal('AbortController', AbortController);
  vi.stubGlobal('AbortSignal', AbortSignal);
  vi.stubGlobal('URL', BareUrl);
  vi.stubGlobal('navigator', { product: 'ReactNative' });
  vi.stubGlobal('fetch', fetch);
}

/** A server with one session, whose turn has `count` chunks and, with `ends`, its `done`. */
export function oneSession(count: number, ends = true): Answer {
  return ({ method, path }) => {
    if (/cancel$/.test(path)) return [{ cancelled: [1] }];
    if (method === 'POST' && /\/execute$/.test(path)) {
      return [{ session_id: 's', turn: 1, status: 'running', output: '', position: 0 }, 202];
    }
    const after = Number(/[?&]after=(\d+)/.exec(path)?.[1] ?? 0);
    if (/\/events\?/.test(path)) {
      const all: JsonObject[] = Array.from({ length: count }, (_, index) => ({
        type: 'text',
        content: `${index + 1} `,
        turn: 1,
        position: index + 1,
      }));
      const status = 'success';
      if (ends) {
        const place = { session_id: 's', turn: 1, position: count + 1 };
        all.push({ type: 'done', status, output: '', usage: {}, ...place });
      }
      const events = all.slice(after);
      // A poll without news is held.
      return events.length || ends ? [{ events, done: ends }] : undefined;
    }
    if (/\/sessions\/s$/.test(path)) return [{ session_id: 's', turns: 1, status: 'running' }];
    return [{ error: { code: 'NOT_FOUND', message: path } }, 404];
  };
}
