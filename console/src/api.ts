/** The clients of the console. */

import { ResonantGenesis, StreamError } from '@resonantgenesis/sdk';
import { Admin } from '@resonantgenesis/sdk/admin';
import { Webhooks } from '@resonantgenesis/sdk/webhooks';
import { QueryCache, QueryClient } from '@tanstack/react-query';
import { freshToken, signOut } from './credential/credential.ts';

/** Ends what is being read, so that a person can see what a cut does. */
let cut = new AbortController();

/** As `fetch`, but its streams can be cut by `cutConnections`. */
const cuttable: typeof fetch = (input, init) => {
  const signal = init?.signal ? AbortSignal.any([init.signal, cut.signal]) : cut.signal;
  return fetch(input, { ...init, signal });
};

/** Cuts every open connection, as a tunnel would. The SDK goes on by itself. */
export function cutConnections(): void {
  cut.abort(new TypeError('cut by hand'));
  cut = new AbortController();
}

const options = { baseUrl: location.origin, getToken: freshToken };
/** For streams, which go on for ever. */
export const client = new ResonantGenesis({
  ...options,
  fetch: cuttable,
  maxRetries: Number.POSITIVE_INFINITY,
});
/** For single calls: what fails is shown at once, and `queries` asks again. */
const single = { ...options, maxRetries: 0 };
export const calls = new ResonantGenesis(single);
export const webhooks = new Webhooks(single);
export const admin = new Admin(single);
/** With the server's bootstrap key, which may do what no token may. */
export const operator = (token: string) =>
  new Admin({ baseUrl: location.origin, token, maxRetries: 0 });
/** For files, whose transfers go on where they were. The browser's own `fetch` shows progress. */
export const transfers = new ResonantGenesis({ ...options, maxRetries: Number.POSITIVE_INFINITY });

/** Milliseconds until a query that could not reach the server asks again. */
const AGAIN = 3_000;

/** Whether the same call may succeed later, without anybody's doing. */
export function isPassing(error: unknown): boolean {
  return error instanceof StreamError && error.retryable;
}

export const queries = new QueryClient({
  queryCache: new QueryCache({
    onError(error) {
      if (error instanceof StreamError && error.code === 'UNAUTHENTICATED') signOut('refused');
    },
  }),
  defaultOptions: {
    queries: {
      retry: false,
      staleTime: 5_000,
      // The server may be on this machine, which needs no network for it.
      networkMode: 'always',
      refetchOnReconnect: true,
      refetchInterval: ({ state }) => isPassing(state.error) && AGAIN,
    },
  },
});

// What is shown says at once that the network is gone, unless the server answers without one.
addEventListener('offline', () => void queries.invalidateQueries());
