/**
 * What a page needs of its own back end, as a part of Vite's server: client tokens, and the way to
 * ResonantGenesis. The API key stays here and never reaches the browser.
 */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';
import { ResonantGenesis } from '@resonantgenesis/sdk';
import type { Plugin, ProxyOptions } from 'vite';

/** What the page may do: run turns, watch them, and read what was asked in them. */
const SCOPES = ['sessions:read', 'sessions:write', 'events:read'];
/** Seconds. The page asks for another token when one has ended. */
const LIFETIME = 600;
/** Where `make serve` leaves the key of a first start. */
const KEY_FILE = new URL('../../data/api-key', import.meta.url);

export function resonantGenesis(): Plugin {
  const baseUrl = process.env.RESONANTGENESIS_BASE_URL ?? 'http://127.0.0.1:8080';
  const proxy: Record<string, ProxyOptions> = {
    '/v1': { target: baseUrl, changeOrigin: true, ws: true },
  };
  return {
    name: 'resonantgenesis',
    config: () => ({ server: { proxy }, preview: { proxy } }),
    configureServer({ middlewares }) {
      middlewares.use('/api/token', (request, response) => answer(baseUrl, request, response));
    },
    configurePreviewServer({ middlewares }) {
      middlewares.use('/api/token', (request, response) => answer(baseUrl, request, response));
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
    say(response, 403, { error: 'POST from the page itself' });
    return;
  }
  try {
    const client = new ResonantGenesis({ baseUrl, apiKey: apiKey() });
    // In a real application the subject is the user who is signed in.
    const subject = process.env.RESONANTGENESIS_SUBJECT ?? 'demo-user';
    const { token } = await client.tokens.create({ scopes: SCOPES, subject, ttlSeconds: LIFETIME });
    say(response, 200, { token });
  } catch (error) {
    say(response, 502, { error: error instanceof Error ? error.message : String(error) });
  }
}

function apiKey(): string {
  const key = process.env.RESONANTGENESIS_API_KEY;
  return key ?? readFileSync(fileURLToPath(KEY_FILE), 'utf8').trim();
}

function say(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}
