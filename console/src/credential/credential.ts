/** Who is signed in: a client token with its scopes. The API key itself is never kept. */
import { AuthenticationError, ConnectionLost } from '@resonantgenesis/sdk';

const STORED = 'resonantgenesis.console.credential';
/** Seconds that a console's token lives. It is renewed at half of that, for a week. */
const LIFE = 12 * 3600;
/** Milliseconds between two attempts to renew, and before the end when nobody waits any more. */
const AGAIN = 5_000;

export interface Credential {
  readonly token: string;
  readonly scopes: readonly string[];
  /** Milliseconds since 1970. */
  readonly madeAt: number;
  readonly expiresAt: number;
}

/** Why nobody could sign in, in words for people. */
export class SignInError extends Error {}

/** Why nobody is signed in: a person signed out, or the server took the credential no more. */
export type SignedOut = 'asked' | 'refused';

let isKept = true;
let current: Credential | null = restore();
let why: SignedOut = 'asked';
const listeners = new Set<() => void>();

function restore(): Credential | null {
  const stored = sessionStorage.getItem(STORED);
  if (stored === null) return null;
  const known: Credential = JSON.parse(stored);
  return known.expiresAt > Date.now() ? known : null;
}

function change(next: Credential | null): void {
  current = next;
  if (next !== null && isKept) sessionStorage.setItem(STORED, JSON.stringify(next));
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
  await signInWithCode((await post('/v1/tokens/links', {}, key)).code, keep);
}

/** Uses a link that the server has printed; it works once. Throws SignInError. */
export async function signInWithCode(code: string, keep = true): Promise<void> {
  const made = await post('/v1/tokens/sign-in', { ttl_seconds: LIFE }, code);
  isKept = keep;
  take(made);
}

export function signOut(reason: SignedOut = 'asked'): void {
  why = reason;
  change(null);
}

/** The token, for every request of the console. Throws AuthenticationError once there is none. */
export async function freshToken(): Promise<string> {
  if (current === null) throw new AuthenticationError('Sign in again.');
  if (Date.now() >= halfOf(current)) await renew(current);
  return current.token;
}

function halfOf(of: Credential): number {
  return (of.madeAt + of.expiresAt) / 2;
}

let renewing: Promise<void> | null = null;
let triedAt = 0;

/** Renews the token. Until it ends, a failure is no problem: the next request tries again. */
async function renew(old: Credential): Promise<void> {
  const isOver = Date.now() >= old.expiresAt;
  if (!isOver && Date.now() - triedAt < AGAIN) return;
  triedAt = Date.now();
  renewing ??= post('/v1/tokens/renew', { ttl_seconds: LIFE }, old.token)
    .then(take)
    .finally(() => {
      renewing = null;
    });
  try {
    await renewing;
  } catch (error) {
    if (!(error instanceof SignInError)) throw error;
    if (!isOver) return;
    if (error instanceof Unreached) throw new ConnectionLost(error.message);
    signOut('refused');
    throw new AuthenticationError(error.message);
  }
}

// A page that asks for nothing is not to lose its sign-in.
setInterval(() => void freshToken().catch(() => {}), AGAIN);

function take(answer: { token: string; scopes: string[]; expires_at: string }): void {
  const expiresAt = Date.parse(answer.expires_at);
  const { token, scopes } = answer;
  change({ token, scopes, madeAt: Date.now(), expiresAt });
}

/** The server gave no answer. */
class Unreached extends SignInError {}

async function post(path: string, body: object, credential: string) {
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${credential}` };
  let answer: Response;
  try {
    answer = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
  } catch {
    throw new Unreached('The server cannot be reached. Is it running?');
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok) return content;
  if (content?.error?.details?.scope === 'tokens:write') {
    throw new SignInError('This key lacks the scope tokens:write, which the console needs.');
  }
  if (answer.status === 401) throw new SignInError('The server does not know this credential.');
  throw new SignInError(content?.error?.message ?? `The server answered ${answer.status}.`);
}
