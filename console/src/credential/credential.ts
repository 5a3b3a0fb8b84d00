/** Who is signed in: a client token with its scopes. The API key itself is never kept. */

const STORED = 'resonantgenesis.console.credential';
/** Seconds that a console's token lives. */
const LIFE = 12 * 3600;

export interface Credential {
  readonly token: string;
  readonly scopes: readonly string[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

/** Why nobody could sign in, in words for people. */
export class SignInError extends Error {}

/** Why nobody is signed in: a person signed out, or the server took the credential no more. */
export type SignedOut = 'asked' | 'refused';

let current: Credential | null = restore();
let why: SignedOut = 'asked';
const listeners = new Set<() => void>();

function restore(): Credential | null {
  const stored = sessionStorage.getItem(STORED);
  if (stored === null) return null;
  const known: Credential = JSON.parse(stored);
  return known.expiresAt > Date.now() ? known : null;
}

function change(next: Credential | null, keep: boolean): void {
  current = next;
  if (next !== null && keep) sessionStorage.setItem(STORED, JSON.stringify(next));
  else sessionStorage.removeItem(STORED);
  for (const listener of listeners) listener();
}

export const credential = {
  get: (): Credential | null => current,
  whyNot: (): SignedOut => why,
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

/** Whether the credential has a scope, as the server decides it. */
export function may(scope: string): boolean {
  const scopes = current?.scopes ?? [];
  const [noun] = scope.split(':');
  return (
    scopes.includes('*') ||
    scopes.includes(scope) ||
    (scope.endsWith(':read') && scopes.includes(`${noun}:write`))
  );
}

/** Exchanges an API key for a token of all its scopes. Throws SignInError. */
export async function signInWithKey(key: string, keep: boolean): Promise<void> {
  const answer = await post('/v1/tokens', { ttl_seconds: LIFE }, key);
  take(answer, keep);
}

/** Uses a link that the server has printed; it works once. Throws SignInError. */
export async function signInWithCode(code: string): Promise<void> {
  take(await post('/v1/tokens/sign-in', {}, code), true);
}

export function signOut(reason: SignedOut = 'asked'): void {
  why = reason;
  change(null, false);
}

/** The token, for every request of the console. */
export async function freshToken(): Promise<string> {
  return current?.token ?? '';
}

function take(answer: { token: string; scopes: string[]; expires_at: string }, keep: boolean) {
  const expiresAt = Date.parse(answer.expires_at);
  change({ token: answer.token, scopes: answer.scopes, expiresAt }, keep);
}

async function post(path: string, body: object, credential: string) {
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${credential}` };
  let answer: Response;
  try {
    answer = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
  } catch {
    throw new SignInError('The server cannot be reached. Is it running?');
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  if (content?.error?.details?.scope === 'tokens:write') {
    throw new SignInError('This key lacks the scope tokens:write, which the console needs.');
  }
  if (answer.status === 401) throw new SignInError('The server does not know this credential.');
  throw new SignInError(content?.error?.message ?? `The server answered ${answer.status}.`);
}
