/** Whatever happens to its connections, a stream hands on everything once and in order. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Outcome } from '../../src/core/actions.js';
import { EventMachine } from '../../src/core/event-machine.js';
import type { Request } from '../../src/core/messages.js';
import type { Reconnector } from '../../src/core/reconnector.js';
import { SessionMachine } from '../../src/core/session-machine.js';
import { SessionRequests } from '../../src/core/session-request.js';
import { SseDecoder } from '../../src/core/sse.js';
import type { JsonObject } from '../../src/types.js';
import { answerOf, bytes, chunkFrame, eventFrame, rulesOf } from '../support/script.js';

const FAULTS = [
  'cut',
  'end',
  'silent',
  'refuse',
  'gap',
  'repeat',
  'garble',
  'split',
  'merge',
  'none',
];
const faultsOf = (names: string[]) => fc.array(fc.constantFrom(...names), { maxLength: 25 });
const received = (text: string): Outcome => ({ was: 'received', data: bytes(text) });
const answered = (status: number, json: unknown = {}): Outcome => ({
  was: 'answered',
  answer: answerOf({ name: '', status, json }),
});
const LOST: Outcome = { was: 'lost', reason: 'cut' };

/** Hands a machine what the network does, until it ends or `enough`; what it hands on. */
function drive<T>(
  machine: Reconnector<T>,
  network: { open(r: Request): Outcome; read(): Outcome; fetch(r: Request): Outcome },
  enough: () => boolean = () => false,
): T[] {
  const got: T[] = [];
  for (let count = 0; count < 3000; count += 1) {
    const action = machine.next();
    if (action.do === 'emit') got.push(action.item);
    else if (enough()) return got;
    else if (action.do === 'finish') {
      expect(action.error).toBeUndefined();
      return got;
    } else if (action.do === 'open') machine.give(network.open(action.request));
    else if (action.do === 'read') machine.give(network.read());
    else if (action.do === 'fetch') machine.give(network.fetch(action.request));
    else machine.give({ was: 'waited' });
  }
  throw new Error('it does not end');
}

/** A session of two turns, `start` chunks in the first, seen through a faulty network. */
class Session {
  readonly log: JsonObject[];
  #blocks: Outcome[] = [];
  readonly #start: number;
  readonly #faults: string[];

  constructor(start: number, length: number, faults: string[]) {
    const first: JsonObject[] = Array.from({ length: start - 1 }, () => ({
      type: 'text',
      content: 'x',
    }));
    const second = Array.from({ length: length - 1 }, (_, n) => ({
      type: 'text',
      content: `${n} `,
    }));
    const all = [...first, { type: 'done', turn: 1 }, ...second, { type: 'done', turn: 2 }];
    this.log = all.map((chunk, at) => ({ ...chunk, position: at + 1 }));
    this.#start = start;
    this.#faults = [...faults];
  }

  open({ query = {} }: Request): Outcome {
    const fault = this.#faults.pop() ?? 'none';
    if (fault === 'refuse') return answered(503);
    if (fault === 'cut') return LOST;
    const after = Number(query.resume_from ?? this.#start);
    this.#blocks = this.#treat(fault, after);
    const headers = new Headers({ 'x-session-id': 's', 'x-turn': '2', 'x-log-epoch': 'e' });
    return { was: 'opened', headers };
  }

  read(): Outcome {
    return this.#blocks.shift() ?? LOST;
  }

  fetch({ method, query = {} }: Request): Outcome {
    const fault = this.#faults.pop() ?? 'none';
    if (fault === 'cut') return LOST;
    if (fault === 'silent') return { was: 'silent' };
    if (method === 'POST') return answered(202, { session_id: 's', turn: 2, status: 'running' });
    const after = Number(query.after);
    const events = this.log.slice(after, after + 5);
    return answered(200, { events: fault === 'gap' ? events.slice(1) : events, done: false });
  }

  #treat(fault: string, after: number): Outcome[] {
    const due = this.log.slice(after);
    const half = Math.floor(due.length / 2);
    const ended: Outcome = { was: 'ended' };
    let frames = due.map(chunkFrame);
    if (fault === 'silent') return [{ was: 'silent' }];
    if (fault === 'end') return [received(frames.slice(0, half).join('')), ended];
    if (fault === 'gap') frames = frames.filter((_, at) => at !== half);
    if (fault === 'repeat') {
      const seen = this.log.slice(Math.max(this.#start, after - 2), after);
      frames = [...seen.map(chunkFrame), ...frames];
    }
    if (fault === 'garble') frames[half] = `${frames[half]?.slice(0, -6)}\n\n`;
    if (fault === 'merge' && half > 1)
      frames = [chunkFrame(merged(due.slice(0, half))), ...frames.slice(half)];
    if (fault === 'split') return [...pieces(frames.join('')), LOST];
    return [...frames.map(received), ended];
  }
}

function merged(chunks: JsonObject[]): JsonObject {
  const content = chunks.map((chunk) => chunk.content).join('');
  return { type: 'text', content, from: chunks[0]?.position, position: chunks.at(-1)?.position };
}

function pieces(whole: string): Outcome[] {
  const half = whole.slice(0, Math.floor(whole.length / 2));
  return (half.match(/.{1,7}/gs) ?? []).map(received);
}

test('no fault loses, doubles or reorders chunks', () => {
  const run = (start: number, length: number, faults: string[]) => {
    const session = new Session(start, length, faults);
    const body = { agent_id: 'a', goal: 'g', session_id: 's' };
    const resumePoint = { idempotencyKey: 'k', sessionId: 's', position: 0 };
    const rules = rulesOf({ max_retries: 100, random: 0 }, () => 0);
    const got = drive(
      new SessionMachine(new SessionRequests({ body, resumePoint }), rules),
      session,
    );
    let due = start + 1;
    for (const chunk of got) {
      expect(chunk.from ?? chunk.position).toBe(due);
      due = chunk.position + 1;
    }
    expect(due).toBe(session.log.length + 1);
    const text = got.map((chunk) => (chunk.type === 'text' ? chunk.content : '')).join('');
    expect(text).toBe(Array.from({ length: length - 1 }, (_, n) => `${n} `).join(''));
  };
  const start = fc.integer({ min: 1, max: 5 });
  const length = fc.integer({ min: 1, max: 30 });
  fc.assert(fc.property(start, length, faultsOf(FAULTS), run), { numRuns: 400 });
});

/** A log of events, seen through a faulty network. */
class Events {
  #blocks: Outcome[] = [];
  readonly #wanted: boolean[];
  readonly #faults: string[];

  constructor(wanted: boolean[], faults: string[]) {
    this.#wanted = wanted;
    this.#faults = [...faults];
  }

  due(after: number): string[] {
    return this.#wanted.flatMap((wanted, at) => (wanted && at >= after ? [`c_${at + 1}`] : []));
  }

  open({ query = {}, headers = {} }: Request): Outcome {
    const fault = this.#faults.pop() ?? 'none';
    if (fault === 'refuse') return answered(503);
    if (fault === 'cut') return LOST;
    const place = headers['Last-Event-ID'] ?? query.since ?? '';
    this.#blocks = this.#treat(fault, this.due(Number(place.slice(2))).map(eventFrame));
    return { was: 'opened', headers: new Headers() };
  }

  read(): Outcome {
    return this.#blocks.shift() ?? LOST;
  }

  fetch({ query = {} }: Request): Outcome {
    const fault = this.#faults.pop() ?? 'none';
    if (fault === 'cut') return LOST;
    if (fault === 'silent') return { was: 'silent' };
    const place = query.cursor ?? query.since ?? '';
    const after = place.startsWith('9999') ? 0 : Number(place.slice(2));
    const looked = place.startsWith('9999') ? 0 : Math.min(after + 3, this.#wanted.length);
    const found = this.due(after).filter((cursor) => Number(cursor.slice(2)) <= looked);
    const events = found.map((cursor) => ({ id: `evt_${cursor.slice(2)}`, type: 'app.x', cursor }));
    const more = looked < this.#wanted.length;
    return answered(200, { events, next_cursor: `c_${looked}`, has_more: more });
  }

  #treat(fault: string, frames: string[]): Outcome[] {
    const half = Math.floor(frames.length / 2);
    const first = frames.slice(0, half).join('');
    if (fault === 'silent') return [{ was: 'silent' }];
    if (fault === 'end') return [received(first), { was: 'ended' }];
    if (fault === 'garble' && frames.length)
      return [received(`${first}${frames[half]?.slice(0, -6)}\n\n`)];
    if (fault === 'split') return [...pieces(frames.join('')), LOST];
    const sent = fault === 'repeat' ? frames.flatMap((one) => [one, one]) : frames;
    return [...sent.map(received), received(`id: c_${this.#wanted.length}\n\n`)];
  }
}

test('no fault loses, doubles or reorders events', () => {
  const run = (wanted: boolean[], faults: string[], fromNow: boolean) => {
    const network = new Events(wanted, faults);
    const rules = rulesOf({ max_retries: 200, random: 0 }, () => 0);
    const machine = new EventMachine(fromNow ? {} : { since: 'c_0' }, rules);
    const end = `c_${wanted.length}`;
    const got = drive(machine, network, () => machine.cursor === end);
    expect(got.map((event) => event.cursor)).toEqual(network.due(0));
  };
  const wanted = fc.array(fc.boolean(), { maxLength: 25 });
  const faults = faultsOf(['cut', 'end', 'silent', 'refuse', 'garble', 'split', 'repeat', 'none']);
  fc.assert(fc.property(wanted, faults, fc.boolean(), run), { numRuns: 400 });
});

const PARTS = [
  'data',
  'event',
  'id',
  'retry',
  ':',
  ' ',
  '\r',
  '\n',
  '\r\n',
  '\n\n',
  '\ufeff',
  '€',
  '\0',
  'x',
  '12',
  '\u2028',
];

test('the decoder does what the standard writes, however the bytes are split', () => {
  const run = (parts: string[], cuts: number[]) => {
    const stream = parts.join('');
    const whole = bytes(stream);
    const edges = [
      0,
      ...cuts.map((cut) => Math.min(cut, whole.length)).sort((a, b) => a - b),
      whole.length,
    ];
    const split = edges.slice(1).map((edge, at) => whole.subarray(edges[at], edge));
    const single = Array.from(whole, (_, at) => whole.subarray(at, at + 1));
    const expected = byTheStandard(stream);
    for (const way of [[whole], split, single]) {
      const decoder = new SseDecoder(1e6);
      const frames = way.flatMap((piece) => decoder.feed(piece));
      expect(frames.map(({ event, data, id }) => [event, data, id])).toEqual(expected);
    }
  };
  const parts = fc.array(fc.constantFrom(...PARTS), { maxLength: 60 });
  const cuts = fc.array(fc.nat({ max: 300 }), { maxLength: 12 });
  fc.assert(fc.property(parts, cuts, run), { numRuns: 400 });
});

/** The standard's own steps over the whole text, slow and plain. */
function byTheStandard(stream: string): string[][] {
  const events: string[][] = [];
  let [event, data, id] = ['', '', ''];
  const lines = stream.replace(/^\ufeff/, '').split(/\r\n|\r|\n/);
  for (const line of lines.slice(0, -1)) {
    if (line === '') {
      if (data) events.push([event || 'message', data.slice(0, -1), id]);
      [event, data] = ['', ''];
      continue;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'data') data += `${value}\n`;
    if (name === 'event') event = value;
    if (name === 'id' && !value.includes('\0')) id = value;
  }
  return events;
}
