import { DefaultChatTransport, type UIMessage } from 'ai';

/** The agent and the chat are named in the address, so that a reload is of the same chat. */
const query = new URLSearchParams(location.search);
export const agent = query.get('agent') ?? 'guide';
export const id = query.get('chat') ?? crypto.randomUUID();
query.set('chat', id);
history.replaceState(null, '', `?${query}`);

const api = `/v1/agents/${encodeURIComponent(agent)}/chat`;
const chat = `${api}/${encodeURIComponent(id)}`;

/** The page's own back end gives out client tokens; see `../shared/vite.ts`. */
async function headers(): Promise<Record<string, string>> {
  const response = await fetch('/api/token', { method: 'POST' });
  const { token, error } = await response.json();
  if (!response.ok) throw new Error(`${error.code}: ${error.message}`);
  return { Authorization: `Bearer ${token}` };
}

export const transport = new DefaultChatTransport({
  api,
  headers,
  // Fields of an execute; the agent `guide` takes its pace from its context.
  body: { context: query.has('pace') ? { words_per_second: Number(query.get('pace')) } : {} },
  // Replay also an answer that ended while the page was away.
  prepareReconnectToStreamRequest: async (request) => ({
    api: `${chat}/stream?startIndex=0`,
    headers: request.headers ?? (await headers()),
  }),
});

/** The chat so far. The answer of a turn that runs is left out: the stream has it whole. */
export async function load(): Promise<UIMessage[]> {
  const response = await fetch(`${chat}/messages`, { headers: await headers() });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** Whether the connection broke, and not the answer. The page's own server says UNAVAILABLE. */
export function isCut(error: Error | undefined): boolean {
  return error instanceof TypeError || Boolean(error?.message.includes('UNAVAILABLE'));
}

/** Why an answer that was loaded is not whole. */
export function problem({ metadata }: UIMessage): string | undefined {
  return (metadata as { error?: string } | undefined)?.error;
}

/** `stop()` of the SDK ends only the reading; this ends the agent's turn. */
export async function cancel(message: UIMessage): Promise<void> {
  const { session_id } = message.metadata as { session_id: string };
  await fetch(`/v1/sessions/${session_id}/cancel`, {
    method: 'POST',
    headers: { ...(await headers()), 'Content-Type': 'application/json' },
    body: '{}',
  });
}
