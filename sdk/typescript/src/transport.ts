/** Performs requests with `fetch`: credentials, time-outs, retries of calls, open streams. */

import type { Outcome } from './core/actions.js';
import {
  asObject,
  errorFromAnswer,
  isEventStream,
  isObject,
  isRepeated,
  parseJson,
  queryText,
  type Request,
  redirected,
  unexpected,
} from './core/messages.js';
import { Retries } from './core/retry.js';
import { ConnectionLost, StreamError } from './errors.js';
import { pause, TIMED_OUT, throwIfAborted, withTimeout } from './platform.js';
import { addressOf, baseUrlOf, CONNECT, type Settings } from './settings.js';
import type { JsonObject } from './types.js';

/** Seconds to wait for the end of a finished stream. */
const LAST_BYTES = 0.1;
/** Stands for an answer that never came: it may be retried. */
const NO_STATUS = { status: 200 };

export class Transport {
  readonly settings: Settings;

  constructor(settings: Settings) {
    this.settings = settings;
  }

  /**
   * Send a request, with retries, and return the object of its answer. Every request may be repeated:
   * one that creates something has an idempotency key. Throws StreamError.
   */
  async call(request: Request, signal?: AbortSignal): Promise<JsonObject> {
    const retries = new Retries(this.settings);
    for (;;) {
      const outcome = await this.fetch(request, signal);
      throwIfAborted(signal);
      const error = errorOfCall(outcome, addressOf(this.settings.options));
      if (!error) return outcome.was === 'answered' ? asObject(outcome.answer.body) : {};
      const { status } = outcome.was === 'answered' ? outcome.answer : NO_STATUS;
      const wait = isSuccess(status) || isRepeated(status) ? retries.after(error) : undefined;
      if (wait === undefined) throw error;
      await pause(wait, signal, { least: error.retryAfter ?? 0 });
      throwIfAborted(signal);
    }
  }

  /** Send a request and read the whole answer. */
  async fetch(request: Request, signal?: AbortSignal): Promise<Outcome> {
    const scope = new RequestScope(signal);
    const limit = this.settings.timeout + (request.patience ?? 0);
    try {
      const sent = await this.#send(request, scope, limit);
      return this.#seen('was' in sent ? sent : await whole(sent, scope, limit));
    } finally {
      scope.close();
    }
  }

  /** Send a request and leave the event stream or file content open. */
  async open(request: Request, signal: AbortSignal): Promise<[Outcome, Connection?]> {
    const scope = new RequestScope(signal);
    // A proxy that holds the headers back is silent too; a connection alone may take longer.
    const sent = await this.#send(request, scope, Math.max(CONNECT, this.settings.silence));
    let outcome: Outcome = { was: 'silent' };
    if ('was' in sent) {
      outcome = this.#seen(sent);
    } else if (request.binary ? !sent.ok : sent.status !== 200 || !isEventStream(sent.headers)) {
      outcome = this.#seen(await whole(sent, scope, this.settings.timeout));
    } else if (sent.body) {
      return [{ was: 'opened', headers: sent.headers }, new Connection(sent.body, scope)];
    } else {
      // The platform cannot read a body as a stream: from now on streams are polled.
      if (this.settings.streams) this.settings.streams.possible = false;
    }
    scope.close();
    return [outcome];
  }

  /** Note whether the outcome shows that the server is away. */
  #seen(outcome: Outcome): Outcome {
    const { reach, options } = this.settings;
    if (outcome.was === 'silent' || (outcome.was === 'answered' && isAway(outcome.answer.status))) {
      reach.failed(errorOfCall(outcome, addressOf(options)));
    }
    return outcome;
  }

  async #send(request: Request, scope: RequestScope, limit: number): Promise<Response | Outcome> {
    const { options, credential, reach } = this.settings;
    const url = baseUrlOf(options) + request.path + queryText(request.query);
    const body = request.body && JSON.stringify(request.body);
    const fetching = async (token: string) =>
      (request.send ?? options.fetch ?? globalThis.fetch)(url, {
        method: request.method,
        headers: {
          Accept: 'application/json',
          ...(body && { 'Content-Type': 'application/json' }),
          ...request.headers,
          Authorization: `Bearer ${token}`,
        },
        redirect: 'manual',
        signal: scope.signal,
        ...(body && { body }),
      });
    const send = async (token: string): Promise<Response> => {
      const response = await fetching(token).catch((error: unknown) => {
        // A failure of the upload's body is no failure of the network.
        if (scope.signal.aborted || request.send) throw error;
        throw new ConnectionLost(reach.lost(reasonOf(error)), { cause: error });
      });
      if (!isAway(response.status)) reach.found();
      // Some platforms follow redirections although they must not.
      if (response.redirected) throw redirected(response.status, response.url);
      return response;
    };
    return scope.guard(async (): Promise<Response | Outcome> => {
      const token = await credential.get();
      const response = await withTimeout(limit, send(token));
      if (response === TIMED_OUT) return { was: 'silent' };
      if (response.status !== 401 || !(await credential.renew(token))) return response;
      await response.body?.cancel();
      const second = await withTimeout(limit, send(await credential.get()));
      return second === TIMED_OUT ? { was: 'silent' } : second;
    });
  }
}

/** The life of one request. Its reader, the caller's signal or a time-out can end it. */
class RequestScope {
  readonly #control = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #abort = () => this.close();
  #cut: Outcome = { was: 'lost', reason: 'closed' };

  constructor(outer?: AbortSignal) {
    this.#outer = outer;
    outer?.addEventListener('abort', this.#abort);
    if (outer?.aborted) this.close();
  }

  get signal(): AbortSignal {
    return this.#control.signal;
  }

  /** End the request; pending work on it gets this outcome. */
  close(outcome?: Outcome): void {
    if (outcome) this.#cut = outcome;
    this.#outer?.removeEventListener('abort', this.#abort);
    this.#control.abort();
  }

  /** Run work of the request. A failure is a lost connection, except for a StreamError. */
  async guard<T extends Response | Outcome>(work: () => Promise<T>): Promise<T | Outcome> {
    try {
      return await work();
    } catch (error) {
      if (this.signal.aborted) return this.#cut;
      if (error instanceof StreamError) {
        if (!error.retryable) throw error;
        return { was: 'lost', reason: error.message, error };
      }
      return { was: 'lost', reason: `the connection broke: ${reasonOf(error)}` };
    }
  }
}

/** Some platforms keep the reason in the cause. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return (cause as Error | undefined)?.message || message;
}

/** An open event stream, or a file's content. */
export class Connection {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #scope: RequestScope;

  constructor(body: ReadableStream<Uint8Array>, scope: RequestScope) {
    this.#reader = body.getReader();
    this.#scope = scope;
  }

  /** The next bytes, within `limit` seconds. */
  read(limit: number): Promise<Outcome> {
    return this.#scope.guard(async (): Promise<Outcome> => {
      const got = await withTimeout(limit, this.#reader.read());
      if (got === TIMED_OUT) return { was: 'silent' };
      return got.value ? { was: 'received', data: got.value } : { was: 'ended' };
    });
  }

  /** End the connection; a pending read gets this outcome. */
  cut(outcome?: Outcome): void {
    this.#scope.close(outcome);
  }

  /**
   * Read the rest of a stream whose last chunk has come, so that the connection can be reused. The
   * end follows the last chunk at once; a later end is not worth waiting for.
   */
  async finish(): Promise<void> {
    while ((await this.read(LAST_BYTES)).was === 'received');
    this.cut();
  }
}

async function whole(response: Response, scope: RequestScope, limit: number): Promise<Outcome> {
  return scope.guard(async (): Promise<Outcome> => {
    const text = await withTimeout(limit, response.text());
    if (text === TIMED_OUT) return { was: 'silent' };
    const { status, headers } = response;
    return { was: 'answered', answer: { status, headers, body: parseJson(text) } };
  });
}

/** Whether the server, or a proxy before it, takes no requests. */
function isAway(status: number): boolean {
  return status >= 502 && status <= 504;
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** The error of a call's outcome; undefined for a success. */
export function errorOfCall(outcome: Outcome, place: string): StreamError | undefined {
  if (outcome.was !== 'answered') {
    const silent = `no answer in time from ${place}`;
    if (outcome.was !== 'lost') return new ConnectionLost(silent);
    return outcome.error ?? new ConnectionLost(outcome.reason);
  }
  const { answer } = outcome;
  if (!isSuccess(answer.status)) return errorFromAnswer(answer);
  return answer.status === 204 || isObject(answer.body) ? undefined : unexpected(answer);
}
