/** The language-neutral cases of `protocol/`, as far as they concern a client. */
import { describe, expect, test } from 'vitest';
import { EventMachine } from '../../src/core/event-machine.js';
import { errorFromAnswer, errorFromChunk, isRepeated } from '../../src/core/messages.js';
import { delay } from '../../src/core/retry.js';
import { SessionMachine } from '../../src/core/session-machine.js';
import { SessionRequests } from '../../src/core/session-request.js';
import { SseDecoder } from '../../src/core/sse.js';
import { familyOf } from '../../src/errors.js';
import type { JsonObject } from '../../src/types.js';
import { type Case, loadCases } from '../support/cases.js';
import { answerOf, bytes, NO_CURSOR, rulesOf, Script } from '../support/script.js';

describe('sse.yaml', () => {
  test.each(loadCases('sse.yaml').cases)('$name', (given) => {
    const pieces: Uint8Array[] = given.pieces.map((piece: Record<string, string>) =>
      piece.text === undefined ? Buffer.from(piece.base64 ?? '', 'base64') : bytes(piece.text),
    );
    check(given, pieces);
    if (given.any_split === false) return;
    const whole = Buffer.concat(pieces);
    check(given, [whole]);
    check(
      given,
      Array.from(whole, (_, at) => whole.subarray(at, at + 1)),
    );
    for (let cut = 0; cut < whole.length; cut += 1) {
      check(given, [whole.subarray(0, cut), whole.subarray(cut)]);
    }
  });

  function check(given: Case, pieces: Uint8Array[]): void {
    const { line = 1e9, event = 1e9 } = given.limits ?? {};
    const decoder = new SseDecoder(line, event);
    const run = () => pieces.flatMap((piece) => decoder.feed(piece));
    if (given.error) {
      expect(run).toThrow(expect.objectContaining({ code: 'PAYLOAD_TOO_LARGE' }));
      return;
    }
    const got = run().map(({ event, data, id }) => ({ event, data, id }));
    expect(got).toEqual(given.events.map((one: JsonObject) => ({ id: '', ...one })));
    expect(decoder.lastEventId).toBe(given.last_event_id ?? '');
    expect(decoder.retry ?? null).toBe(given.retry ?? null);
  }
});

describe('errors.yaml', () => {
  const { cases, codes } = loadCases('errors.yaml');

  test.each(cases)('$name', ({ answer, chunk, error: expected, repeated }) => {
    const error = answer
      ? errorFromAnswer(answerOf(answer))
      : errorFromChunk(chunk, { sessionId: 's', position: 4 });
    if (answer) expect(isRepeated(answer.status)).toBe(repeated);
    const got = {
      ...error,
      family: error.name,
      message: error.message,
      retry_after: error.retryAfter,
      request_id: error.requestId,
    };
    expect(got).toMatchObject(expected);
    expect(error).toBeInstanceOf(Error);
  });

  test.each(Object.entries(codes))('%s', (code, { family, retryable, status }) => {
    const [kind, again] = familyOf(code);
    expect([kind.name, again]).toEqual([family, retryable]);
    const error = errorFromChunk({ code });
    expect(error).toBeInstanceOf(kind);
    expect([error.name, error.code, error.retryable]).toEqual([family, code, retryable]);
    if (status)
      expect(errorFromAnswer(answerOf({ status, json: { error: { code } } })).code).toBe(code);
  });
});

describe('backoff.yaml', () => {
  test.each(loadCases('backoff.yaml').cases)('$name', (given) => {
    expect(delay(given as never, given.failures, given.floor, () => given.random)).toBeCloseTo(
      given.delay,
    );
  });
});

describe('resume.yaml', () => {
  test.each(loadCases('resume.yaml').cases)('$name', ({ stream, settings = {}, script }) => {
    const make = (clock: () => number) =>
      new SessionMachine(planOf(stream), rulesOf(settings, clock));
    new Script(
      make,
      (chunk) => chunk.position,
      () => NO_CURSOR,
    ).run(script);
  });

  function planOf(stream: JsonObject): SessionRequests {
    const { execute: body, join, recalled, resume_from: resumeFrom, ...rest } = stream as Case;
    const known = { session_id: join ?? body?.session_id, ...recalled };
    return new SessionRequests({
      body,
      resumeFrom,
      turn: rest.turn,
      follow: rest.follow,
      compact: rest.compact,
      raiseOnError: rest.raise_on_error,
      recalled: recalled?.session_id !== undefined,
      resumePoint: {
        idempotencyKey: rest.key ?? 'k',
        sessionId: known.session_id,
        turn: known.turn,
        epoch: known.epoch,
        position: resumeFrom ?? 0,
      },
    });
  }
});

describe('events.yaml', () => {
  test.each(loadCases('events.yaml').cases)('$name', ({ subscribe, settings = {}, script }) => {
    let machine: EventMachine | undefined;
    const make = (clock: () => number) => {
      const params = { ...subscribe, onExpired: subscribe.on_expired };
      machine = new EventMachine(params, rulesOf(settings, clock));
      return machine;
    };
    new Script(
      make,
      (event) => event.cursor,
      () => machine?.cursor,
    ).run(script);
  });
});
