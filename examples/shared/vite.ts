/**
 * What a page needs of its own back end, as a part of Vite's server: client tokens, and the way to
 * ResonantGenesis. The API key stays here and never reaches the browser.
 *
 * Nothing here tries again: the page does, and is told at once what is wrong, in words it can show.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import {
  AuthenticationError,
  ConnectionLost,
  PermissionDenied,
  ResonantGenesis,
  StreamError,
} from '@resonantgenesis/sdk';
import type { Plugin, ProxyOptions } from 'vite';

/** What the page may do: see the agent, run turns, watch them, and read what was asked in them. */
const SCOPES = ['agents:read', 'sessions:read', 'sessions:write', 'events:read'];
/** Seconds. The page asks for another token when one has ended. */
const LIFETIME = 600;
/** Seconds that the server may take to make one. */
const PATIENCE = 5;
/** Where `make serve` leaves the key of a first start. */
const KEY_FILE = new URL('../../data/api-key', import.meta.url);

export function resonantGenesis(
  baseUrl = process.env.RESONANTGENESIS_BASE_URL || 'http://127.0.0.1:8080',
): Plugin {
  const proxy = { '/v1': wayTo(baseUrl), '/copilotkit': wayTo(baseUrl) };
  const token = (request: IncomingMessage, response: ServerResponse) =>
    void answer(baseUrl, request, response);
  return {
    name: 'resonantgenesis',
    config: () => ({ server: { proxy }, preview: { proxy } }),
    configureServer({ middlewares }) {
      middlewares.use('/api/token', token);
    },
    configurePreviewServer({ middlewares }) {
      middlewares.use('/api/token', token);
    },
  };
}

function wayTo(baseUrl: string): ProxyOptions {
  const refuse = (_error: Error, _request: IncomingMessage, response: ServerResponse | Socket) => {
    if ('writeHead' in response && !response.headersSent) {
      say(response, 502, unavailable(baseUrl));
    } else {
      response.destroy();
    }
  };
  return {
    target: baseUrl,
    changeOrigin: true,
    ws: true,
    configure(proxy) {
      // In place of Vite's own listener, which would fill the terminal: one stack trace an attempt.
      queueMicrotask(() => proxy.removeAllListeners('error').on('error', refuse));
      // An answer that breaks off breaks off for the page as well. The proxy would leave it open.
      proxy.on('proxyRes', (answer, _request, response) => {
        answer.on('close', () => {
          if (!answer.complete) response.destroy();
        });
      });
    },
  };
}

async function answer(
  baseUrl: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // Only our own page: another site's could ask too, in its visitor's browser.
  const site = request.headers['sec-fetch-site'] ?? 'same-origin';
  if (request.method !== 'POST' || site !== 'same-origin') {
    say(response, 403, { message: 'POST from the page itself' });
    return;
  }
  let hasKey = false;
  try {
    const key = apiKey();
    hasKey = key !== undefined;
    const client = new ResonantGenesis({
      baseUrl,
      // Without one the server is asked all the same: it may be away, which is to be said first.
      apiKey: key ?? 'none',
      maxRetries: 0,
      timeout: PATIENCE,
      logLevel: 'silent',
    });
    // In a real application the subject is the user who is signed in.
    const subject = process.env.RESONANTGENESIS_SUBJECT ?? 'demo-user';
    const { token } = await client.tokens.create({ scopes: SCOPES, subject, ttlSeconds: LIFETIME });
    say(response, 200, undefined, { token });
  } catch (error) {
    const [status, told] = refusal(error, baseUrl, hasKey);
    say(response, status, told);
  }
}

/** What went wrong, as PROTOCOL.md's errors say it. */
interface Told {
  readonly code?: string;
  readonly message: string;
  readonly retry_after?: number | undefined;
}

/** An error that has passed on its way to the page stays what it is: the status says whether it may pass. */
function refusal(error: unknown, baseUrl: string, hasKey: boolean): [status: number, Told] {
  const { host } = new URL(baseUrl);
  if (!(error instanceof StreamError)) {
    return [500, { message: error instanceof Error ? error.message : String(error) }];
  }
  if (error instanceof ConnectionLost) {
    return [502, unavailable(baseUrl)];
  }
  const { code, retryAfter: retry_after } = error;
  const status = error.status ?? 503;
  if (error instanceof AuthenticationError) {
    const message = hasKey
      ? `The server at ${host} does not take the API key of this page.`
      : `This page has no API key for the server at ${host}: set RESONANTGENESIS_API_KEY.`;
    return [status, { code, message }];
  }
  if (error instanceof PermissionDenied) {
    const message = `The API key of this page may not make its tokens: ${error.message}`;
    return [status, { code, message }];
  }
  return [status, { code, message: `The server at ${host} says: ${error.message}`, retry_after }];
}

function unavailable(baseUrl: string): Told {
  const message = `The server at ${new URL(baseUrl).host} cannot be reached.`;
  return { code: 'UNAVAILABLE', message };
}

/** Undefined where there is none, as before a server's first start. */
function apiKey(): string | undefined {
  const key = process.env.RESONANTGENESIS_API_KEY;
  if (key) {
    return key;
  }
  try {
    return readFileSync(fileURLToPath(KEY_FILE), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

function say(
  response: ServerResponse,
  status: number,
  error?: Told,
  body: object = { error },
): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}
