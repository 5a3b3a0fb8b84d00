import { NotFound, ResonantGenesis } from '@resonantgenesis/sdk';

/**
 * The page's own server hands the calls on, and out the tokens. Only this client tries again what
 * failed, for as long as it takes: a message waits here while the server is away.
 */
export const client = new ResonantGenesis({
  baseUrl: location.origin,
  getToken: () => fetch('/api/token', { method: 'POST' }),
  maxRetries: Number.POSITIVE_INFINITY,
});

/** Which agent answers, how fast, and over what: `?agent=…&pace=…&transport=websocket`. */
const query = new URLSearchParams(location.search);
export const agentId = query.get('agent') ?? 'guide';
const pace = Number(query.get('pace') ?? 30);
export const context = { words_per_second: Number.isFinite(pace) ? pace : 30 };
export const transport = query.get('transport') === 'websocket' ? 'websocket' : 'http';

/**
 * Asks for the agent, so that what is wrong is known before anything is typed: that the server is
 * away (`client.reach`), that it gives this page no token, that it has no such agent. Resolves with
 * why it refuses; null: it does not.
 */
export async function refusal(): Promise<Error | null> {
  try {
    await client.agents.get(agentId);
    return null;
  } catch (error) {
    if (error instanceof NotFound) {
      return new Error(`The server has no agent “${agentId}”.`);
    }
    return error instanceof Error ? error : new Error(String(error));
  }
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
