/** The client of the console: the SDK, and the endpoints that the SDK does not have. */

import { ResonantGenesis } from '@resonantgenesis/sdk';
import { Webhooks } from '@resonantgenesis/sdk/webhooks';
import { QueryClient } from '@tanstack/react-query';
import { credential, signOut } from './credential/credential.ts';

/** Bodies that are being read, so that a person can see what a cut does. */
const open = new Set<AbortController>();

/** As `fetch`, but its streams can be cut by `cutConnections`. */
const cuttable: typeof fetch = (input, init) => {
  const cut = new AbortController();
  open.add(cut);
  const signal = init?.signal ? AbortSignal.any([init.signal, cut.signal]) : cut.signal;
  return fetch(input, { ...init, signal });
};

/** Cuts every open connection, as a tunnel would. The SDK goes on by itself. */
export function cutConnections(): void {
  for (const cut of open) cut.abort(new TypeError('cut by hand'));
  open.clear();
}

const options = {
  baseUrl: location.origin,
  fetch: cuttable,
  maxRetries: Number.POSITIVE_INFINITY,
  getToken: () => credential.get()?.token ?? '',
};
export const client = new ResonantGenesis(options);
export const webhooks = new Webhooks(options);

export const queries = new QueryClient({
  defaultOptions: { queries: { retry: 1, staleTime: 5_000, refetchOnWindowFocus: true } },
});

/** What the server refused, in its own words. */
export class ApiError extends Error {
  readonly code: string;
  readonly fields: Readonly<Record<string, string>>;

  constructor(code: string, message: string, fields: Readonly<Record<string, string>>) {
    super(message);
    this.code = code;
    this.fields = fields;
  }
}

export interface Listed<T> {
  readonly data: readonly T[];
  readonly next_cursor: string | null;
  readonly has_more: boolean;
}

/** One call of the API. Throws ApiError; a credential that has ended leads to the sign-in. */
export async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const headers: Record<string, string> = {
    Authorization: `Bearer ${credential.get()?.token ?? ''}`,
  };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const answer = await fetch(path, {
    method,
    headers,
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  if (answer.status === 401) signOut();
  if (answer.ok) return answer.status === 204 ? (undefined as T) : await answer.json();
  const error = (await answer.json().catch(() => null))?.error;
  throw new ApiError(
    error?.code ?? 'INTERNAL',
    error?.message ?? `The server answered ${answer.status}.`,
    Object.fromEntries(
      (error?.details?.fields ?? []).map(
        (one: { field?: string; name?: string; message: string }) => [
          one.field ?? one.name ?? '',
          one.message,
        ],
      ),
    ),
  );
}
