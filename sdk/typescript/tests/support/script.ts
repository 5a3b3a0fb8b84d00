/** Runs a script of resume.yaml or events.yaml against a machine. */
import { expect } from 'vitest';
import type { Action, Outcome } from '../../src/core/actions.js';
import { type Answer, parseJson, type Request } from '../../src/core/messages.js';
import type { Reconnector, ReconnectRules } from '../../src/core/reconnector.js';
import type { StreamError } from '../../src/errors.js';
import type { JsonObject } from '../../src/types.js';
import type { Case } from './cases.js';

export function answerOf(given: Case | JsonObject): Answer {
  const { status, headers, json, text } = given as Case;
  const body = json === undefined ? parseJson(text ?? '') : json;
  return { status, headers: new Headers(headers), body };
}

export function rulesOf(given: JsonObject, clock: () => number): ReconnectRules {
  const { max_retries, base, cap, silence, max_event, random } = {
    max_retries: 8,
    base: 0.5,
    cap: 8,
    silence: 8,
    random: 0.5,
    max_event: 8 * 1024 * 1024,
    ...given,
  };
  return {
    maxRetries: max_retries,
    backoff: { base, cap },
    silence,
    maxEvent: max_event,
    clock,
    random: () => random,
    renewable: false,
  };
}

export const bytes = (text: string) => new TextEncoder().encode(text);

export function chunkFrame(chunk: JsonObject): string {
  const event = chunk.type === 'text' ? 'message' : chunk.type;
  return `id: ${chunk.position}\nevent: ${event}\ndata: ${JSON.stringify(chunk)}\n\n`;
}

export function eventFrame(cursor: string): string {
  const raw = { id: `evt_${cursor.slice(2)}`, type: 'app.x', channel: 'app', cursor, data: {} };
  return `id: ${cursor}\nevent: app.x\ndata: ${JSON.stringify(raw)}\n\n`;
}

const SIMPLE = ['ended', 'silent', 'waited'];

export class Script<T> {
  now = 1000;
  machine: Reconnector<T>;
  readonly #placeOf: (item: T) => unknown;
  readonly #cursor: () => unknown;

  constructor(
    make: (clock: () => number) => Reconnector<T>,
    placeOf: (item: T) => unknown,
    cursor: () => unknown = () => undefined,
  ) {
    this.machine = make(() => this.now);
    this.#placeOf = placeOf;
    this.#cursor = cursor;
  }

  run(script: JsonObject[]): void {
    for (const step of script) {
      const [[name, value]] = Object.entries(step) as [[string, never]];
      this.step(name, value);
    }
  }

  step(name: string, value: never): void {
    if (name === 'later') this.now += value as number;
    else if (name === 'cursor') expect(this.#cursor()).toBe(value);
    else if (name === 'emit') for (const place of value as unknown[]) this.#emits(place);
    else if (['open', 'fetch', 'read', 'wait', 'end', 'raise'].includes(name)) {
      this.#wants(name, value);
    } else this.machine.give(outcomeOf(name, value));
  }

  #emits(place: unknown): void {
    const action = this.machine.next();
    expect(action).toMatchObject({ do: 'emit' });
    if (action.do === 'emit') expect(this.#placeOf(action.item)).toBe(place);
  }

  #wants(name: string, value: never): void {
    const action: Action<T> = this.machine.next();
    if (name === 'read') expect(action).toEqual({ do: 'read', limit: value });
    else if (name === 'end') expect(action).toEqual({ do: 'finish' });
    else if (name === 'wait') {
      expect(action).toMatchObject({ do: 'wait' });
      if (action.do === 'wait') expect(action.seconds).toBeCloseTo(value, 3);
    } else if (name === 'raise') {
      expect(action.do === 'finish' && errorView(action.error)).toMatchObject(value);
    } else {
      expect(action).toMatchObject({ do: name });
      if (action.do === 'open' || action.do === 'fetch') this.#requests(action.request, value);
    }
  }

  #requests(request: Request, expected: Record<string, JsonObject>): void {
    const { query = {}, headers = {} } = request;
    const got: JsonObject = {
      method: request.method,
      path: request.path,
      body: request.body,
      query,
      key: headers['Idempotency-Key'],
      accept: headers.Accept,
      prefer: headers.Prefer,
      last_event_id: headers['Last-Event-ID'] ?? null,
    };
    for (const [name, wanted] of Object.entries(expected)) {
      if (name === 'query' && this.#cursor() !== NO_CURSOR) {
        for (const [key, one] of Object.entries(wanted)) expect(query[key] ?? null).toBe(one);
      } else expect(got[name]).toEqual(wanted);
    }
  }
}

/** What the cursor of a stream of chunks is: there is none, and the whole query counts. */
export const NO_CURSOR = Symbol('no cursor');

function errorView(error: StreamError | undefined): JsonObject {
  return {
    ...error,
    retry_after: error?.retryAfter,
    session_id: error?.sessionId,
    position: error?.position,
  };
}

function outcomeOf(name: string, value: never): Outcome {
  if (SIMPLE.includes(name)) return { was: name } as Outcome;
  if (name === 'lost') return { was: 'lost', reason: 'cut' };
  if (name === 'opened') return { was: 'opened', headers: new Headers(value) };
  if (name === 'answer') return { was: 'answered', answer: answerOf(value) };
  const text = {
    frames: () => value as string,
    chunks: () => (value as JsonObject[]).map(chunkFrame).join(''),
    events: () => (value as string[]).map(eventFrame).join(''),
  }[name];
  if (!text) throw new Error(`${name} is no step of a script`);
  return { was: 'received', data: bytes(text()) };
}
