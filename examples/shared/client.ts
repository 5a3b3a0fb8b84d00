import { ResonantGenesis } from '@resonantgenesis/sdk';

/** The page's own server hands the calls on, and out the tokens. */
export const client = new ResonantGenesis({ baseUrl: location.origin, getToken });

/** Which agent answers, how fast, and over what: `?agent=…&pace=…&transport=websocket`. */
const query = new URLSearchParams(location.search);
export const agentId = query.get('agent') ?? 'guide';
const pace = Number(query.get('pace') ?? 30);
export const context = { words_per_second: Number.isFinite(pace) ? pace : 30 };
export const transport = query.get('transport') === 'websocket' ? 'websocket' : 'http';

async function getToken(): Promise<string> {
  const answer = await fetch('/api/token', { method: 'POST' });
  const body: { token?: string; error?: string } = await answer.json();
  if (body.token === undefined) {
    throw new Error(`no token: ${body.error ?? answer.status}`);
  }
  return body.token;
}

/** The session of this page stands in its address, so that a reload and a second tab find it. */
export function sessionInAddress(): string | null {
  return new URLSearchParams(location.search).get('session');
}

export function putSessionInAddress(sessionId: string | null): void {
  const address = new URL(location.href);
  if (sessionId === null) {
    address.searchParams.delete('session');
  } else {
    address.searchParams.set('session', sessionId);
  }
  if (address.href !== location.href) {
    history.replaceState(null, '', address);
  }
}
