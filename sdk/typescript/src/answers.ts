/** From an HTTP answer or an `error` chunk to the error that says it. */

import { type Answer, asObject, asText, contentType, isObject, seconds } from './core/messages.js';
import { makeError, type StreamError, type StreamErrorFields, Unavailable } from './errors.js';
import type { JsonObject } from './types.js';

/** Answers to which the same request is sent again without asking anybody. */
export function isRepeated(status: number): boolean {
  return [408, 425, 429, 502, 503, 504].includes(status);
}

/** The error of an answer that is not a success, or not what was asked for. */
export function errorFromAnswer({ status, headers, body }: Answer): StreamError {
  // A browser does not show what a redirection is: its status is 0 there.
  if (status === 0 || (status >= 300 && status < 400)) {
    return redirected(status, headers.get('location'));
  }
  const told = asObject(asObject(body).error);
  return makeError(
    asText(told.code) ?? codeOfStatus(status),
    typeof told.message === 'string' ? told.message : describe(status, headers),
    {
      retryAfter: seconds(told.retry_after) ?? seconds(headers.get('retry-after')),
      requestId: asText(told.request_id) ?? asText(headers.get('x-request-id')),
      details: asObject(told.details),
      status,
    },
  );
}

/** The error an `error` chunk, frame or message tells of. */
export function errorFromChunk(raw: JsonObject, place: StreamErrorFields = {}): StreamError {
  return makeError(asText(raw.code) ?? 'INTERNAL', asText(raw.message) ?? 'the turn failed', {
    retryable: typeof raw.retryable === 'boolean' ? raw.retryable : undefined,
    retryAfter: seconds(raw.retry_after),
    requestId: asText(raw.request_id),
    details: isObject(raw.details) ? raw.details : undefined,
    sessionId: asText(raw.session_id) ?? place.sessionId,
    position: place.position,
  });
}

/** For a success without the body it should have: something on the way answered instead. */
export function unexpected({ status, headers }: Answer): StreamError {
  return new Unavailable(describe(status, headers), { status });
}

/** What comes from things on the way (proxies, balancers) has no code. */
const STATUS_CODES: Readonly<Record<number, string>> = {
  401: 'UNAUTHENTICATED',
  403: 'FORBIDDEN',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  407: 'UNAVAILABLE',
  409: 'CONFLICT',
  410: 'POSITION_EXPIRED',
  413: 'PAYLOAD_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  416: 'RANGE_NOT_SATISFIABLE',
  429: 'RATE_LIMITED',
};

function codeOfStatus(status: number): string {
  const known = STATUS_CODES[status];
  if (known || isRepeated(status)) return known ?? 'UNAVAILABLE';
  return status >= 500 ? 'INTERNAL' : 'INVALID_REQUEST';
}

function describe(status: number, headers: Headers): string {
  return `unexpected answer: ${status} ${contentType(headers)}`;
}

/**
 * Nothing here follows a redirection: the credential would go along, to whoever it names. What may be
 * a credential there is not shown.
 */
export function redirected(status: number, location: string | null): StreamError {
  const place = location?.replace(/[?#].*$/s, '').replace(/\/\/[^/]*@/, '//');
  const where = place ? ` to ${place.slice(0, 200)}` : '';
  return makeError(
    'INVALID_REQUEST',
    `the server redirects (${status})${where}, which is not followed; baseUrl must be the final address`,
    { status },
  );
}
