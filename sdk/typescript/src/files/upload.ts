/** An upload. */

import type { Outcome } from '../core/actions.js';
import {
  asObject,
  asText,
  camel,
  FILES,
  isRepeated,
  itemRequest,
  keyHeader,
  query,
  type Request,
} from '../core/messages.js';
import { Retries } from '../core/retry.js';
import { Conflict, ConnectionLost, InvalidRequest, type StreamError } from '../errors.js';
import { pause, throwIfAborted } from '../platform.js';
import { addressOf } from '../settings.js';
import { errorOfCall, type Transport } from '../transport.js';
import type { JsonObject, StoredFile, UploadOptions, UploadSource } from '../types.js';
import { bodyOf, type UploadBody } from './upload-body.js';

/** Seconds; a last bound, since an attempt ends when there is no progress. */
const LONGEST = 10 * 24 * 3600;

export async function upload(
  transport: Transport,
  source: UploadSource,
  options: UploadOptions,
): Promise<StoredFile> {
  const { signal, checksum } = options;
  throwIfAborted(signal);
  const fields = describe(source, options);
  const body = await bodyOf(transport, source, options);
  try {
    const made = camel<StoredFile>(
      await send(transport, requestOf(fields, body, options), body, signal),
    );
    const sent = checksum?.toLowerCase() ?? (await body.digest());
    rethrow(body);
    if (made.sha256 !== sent) {
      await transport.call(itemRequest('DELETE', FILES, made.id));
      throw new ConnectionLost('what the server stored is not what was sent');
    }
    // Not every platform reports the sent bytes earlier.
    body.tell(made.size);
    rethrow(body);
    return made;
  } finally {
    await body.close();
  }
}

interface Described {
  readonly name: string;
  readonly type: string | undefined;
  readonly digest: string | undefined;
}

/** Throws InvalidRequest for a name, type or checksum that no file can have. */
function describe(source: UploadSource, options: UploadOptions): Described {
  const { name: fileName, type } = asObject(source instanceof Blob ? labels(source) : undefined);
  const name = options.name ?? asText(fileName);
  if (!name) throw new InvalidRequest('name is needed: the source has no name of its own');
  const { checksum } = options;
  if (checksum !== undefined && !/^[0-9a-f]{64}$/i.test(checksum)) {
    throw new InvalidRequest('checksum must be a SHA-256 in hexadecimal, 64 digits');
  }
  const bytes = checksum?.match(/../g)?.map((pair) => Number.parseInt(pair, 16));
  return {
    name,
    type: options.contentType ?? asText(type),
    digest: bytes && `sha-256=:${btoa(String.fromCharCode(...bytes))}:`,
  };
}

/** The name and type of a File; old versions of Node lack the class. */
function labels(source: Blob & { readonly name?: unknown }): JsonObject {
  return { name: source.name, type: source.type };
}

function requestOf(
  { name, type, digest }: Described,
  body: UploadBody,
  { subject, idempotencyKey }: UploadOptions,
): Request {
  const headers: Record<string, string> = keyHeader(idempotencyKey);
  if (type) headers['Content-Type'] = type;
  if (digest) headers['Content-Digest'] = digest;
  // A file that is too large is refused before its first byte is sent.
  if (body.length !== undefined) headers['Content-Length'] = String(body.length);
  return {
    method: 'POST',
    path: FILES,
    query: query({ name, subject }),
    headers,
    send: (input, init) => body.send(input, init),
    patience: LONGEST,
  };
}

/** Sends, and sends again while that may help and the source can be read again. */
async function send(
  transport: Transport,
  request: Request,
  body: UploadBody,
  signal: AbortSignal | undefined,
): Promise<JsonObject> {
  const retries = new Retries(transport.settings);
  for (;;) {
    const outcome = await attempt(transport, request, body, signal);
    throwIfAborted(signal);
    rethrow(body);
    const error = errorOfCall(outcome, addressOf(transport.settings.options));
    if (!error) return asObject(outcome.was === 'answered' && outcome.answer.body);
    const wait = body.repeatable && mayPass(error) ? retries.after(error) : undefined;
    if (wait === undefined) throw error;
    transport.settings.log('info', `upload: ${error.message}; again in ${wait.toFixed(2)} s`);
    await pause(wait, signal, { least: error.retryAfter ?? 0, patient: true });
    throwIfAborted(signal);
  }
}

/** One attempt; it is aborted when there is no more progress. */
async function attempt(
  transport: Transport,
  request: Request,
  body: UploadBody,
  signal: AbortSignal | undefined,
): Promise<Outcome> {
  const control = new AbortController();
  const stop = () => control.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  body.onMove = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, body.limit * 1000);
    if (body.failure) stop();
  };
  signal?.addEventListener('abort', stop);
  try {
    body.onMove();
    const outcome = await transport.fetch(request, control.signal);
    return control.signal.aborted ? { was: 'lost', reason: 'nothing moved in time' } : outcome;
  } finally {
    body.onMove = () => {};
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
    await body.halt();
  }
}

function mayPass(error: StreamError): boolean {
  // An earlier attempt with the same key is being recorded.
  if (error instanceof Conflict) return error.retryAfter !== undefined;
  const { status } = error;
  return status === undefined || status < 300 || isRepeated(status);
}

function rethrow({ failure }: UploadBody): void {
  if (failure) throw failure.error;
}
