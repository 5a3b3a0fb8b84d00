/** The agent and the chat are named in the address, so that a reload is of the same chat. */
const query = new URLSearchParams(location.search);
export const agent = query.get('agent') ?? 'guide';
export const id = query.get('chat') ?? crypto.randomUUID();
query.set('chat', id);
history.replaceState(null, '', `?${query}`);

/** Milliseconds after which a client token is replaced, before it ends. */
export const RENEWAL = 5 * 60 * 1000;

/** The page's own back end gives out client tokens; see `../shared/vite.ts`. */
export async function newToken(): Promise<string> {
  const response = await fetch('/api/token', { method: 'POST' });
  const { token, error } = await response.json();
  if (!response.ok) throw new Error(error.message);
  return token;
}
