/** A download over any network gives the file's bytes, each once, or says that it cannot. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Outcome } from '../../src/core/actions.js';
import { DownloadMachine } from '../../src/core/download-machine.js';
import { Sha256 } from '../../src/core/sha256.js';
import { StreamError } from '../../src/errors.js';
import { settingsOf } from '../../src/settings.js';
import type { StoredFile } from '../../src/types.js';
import { content, sha256 } from '../files/support.js';

const FAULTS = [
  ...['none', 'refused', 'lost', 'silent', 'cut', 'stall', 'whole', 'flip', 'long', 'shifted'],
  ...['no-part', 'other-tag', 'weak-tag', 'packed-part'],
] as const;
type Fault = (typeof FAULTS)[number];

/** One file behind a network that treats each connection as it is told. */
class World {
  readonly ranges: (string | undefined)[] = [];
  readonly got: number[] = [];
  readonly machine: DownloadMachine;
  #waiting: Outcome[] = [];
  readonly #content: Uint8Array;
  readonly #faults: [Fault, number][];

  constructor(bytes: Uint8Array, faults: [Fault, number][], maxRetries = 4) {
    this.#content = bytes;
    this.#faults = faults;
    const file = { id: 'f', name: 'a', size: bytes.length, sha256: sha256(bytes) } as StoredFile;
    this.machine = new DownloadMachine(file, { ...settingsOf({}), maxRetries });
  }

  /** To the end; the error if it is one. */
  run(): StreamError | undefined {
    for (;;) {
      const action = this.machine.next();
      if (action.do === 'emit') this.got.push(...action.item);
      else if (action.do === 'finish') return action.error;
      else if (action.do === 'wait') this.machine.give({ was: 'waited' });
      else if (action.do === 'open') this.machine.give(this.#open(action.request.headers ?? {}));
      else this.machine.give(this.#waiting.shift() ?? { was: 'ended' });
    }
  }

  #open(asked: Readonly<Record<string, string>>): Outcome {
    this.ranges.push(asked.Range);
    const [fault, at] = this.#faults.shift() ?? (['none', 0] as const);
    const answered = (status: number): Outcome => {
      return { was: 'answered', answer: { status, headers: new Headers(), body: undefined } };
    };
    if (fault === 'refused') return answered(503);
    if (fault === 'no-part' && asked.Range) return answered(416);
    if (fault === 'lost') return { was: 'lost', reason: 'no' };
    if (fault === 'silent') return { was: 'silent' };
    const size = this.#content.length;
    const tag = sha256(this.#content);
    const headers = new Headers({ etag: `${fault === 'weak-tag' ? 'W/' : ''}"${tag}"` });
    if (fault === 'other-tag') headers.set('etag', '"other"');
    let body = this.#content.slice();
    if (asked.Range && fault !== 'whole') {
      const from = Number(asked.Range.slice(6, -1)) + (fault === 'shifted' ? 1 : 0);
      headers.set('content-range', `bytes ${from}-${size - 1}/${size}`);
      if (fault === 'packed-part') headers.set('content-encoding', 'gzip');
      body = body.subarray(from);
    }
    const cut = body.length ? at % body.length : 0;
    if (fault === 'flip' && body.length) body[cut] = (body[cut] ?? 0) ^ 1;
    if (fault === 'cut' || fault === 'stall') body = body.subarray(0, cut);
    const parts = [body.subarray(0, cut), body.subarray(cut)];
    if (fault === 'long') parts.push(new Uint8Array(9));
    const end: Outcome = fault === 'stall' ? { was: 'silent' } : { was: 'ended' };
    this.#waiting = [...parts.map((data): Outcome => ({ was: 'received', data })), end];
    return { was: 'opened', headers };
  }
}

const faults = fc.array(fc.tuple(fc.constantFrom(...FAULTS), fc.nat(300)), { maxLength: 8 });

test('whole, or an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), faults, (bytes, plan) => {
      const spoilt = plan.some(([fault]) => fault === 'flip');
      const world = new World(bytes, [...plan]);
      const error = world.run();
      if (error) {
        expect(error).toBeInstanceOf(StreamError);
        expect(world.got.length).toBeLessThan(bytes.length);
      } else expect(world.got).toEqual([...bytes]);
      if (!spoilt) expect(world.got).toEqual([...bytes.subarray(0, world.got.length)]);
    }),
  );
});

test('what has come is not asked for again, and the retries start anew with it', () => {
  const cuts = Array.from({ length: 20 }, (): [Fault, number] => ['cut', 3]);
  const world = new World(content(100), cuts, 1);
  expect(world.run()).toBeUndefined();
  expect(world.ranges.slice(0, 4)).toEqual([undefined, 'bytes=3-', 'bytes=6-', 'bytes=9-']);
});

test('a server without parts sends the whole, of which the rest is taken', () => {
  const plan: [Fault, number][] = [
    ['cut', 30],
    ['no-part', 0],
    ['cut', 60],
    ['none', 0],
  ];
  const world = new World(content(100), plan);
  expect(world.run()).toBeUndefined();
  expect(world.got).toEqual([...content(100)]);
  expect(world.ranges).toEqual([undefined, 'bytes=30-', undefined, undefined]);
});

test('the retries are bounded where nothing new comes', () => {
  const plan: [Fault, number][] = [['cut', 50], ['no-part', 0], ...Array(9).fill(['cut', 20])];
  const world = new World(content(100), plan, 3);
  expect(world.run()).toMatchObject({ code: 'CONNECTION_LOST' });
  expect([world.ranges.length, world.got.length]).toEqual([4, 50]);
  const lost = new World(content(100), Array(9).fill(['lost', 0]), 3);
  expect(lost.run()).toMatchObject({ code: 'CONNECTION_LOST' });
  expect(lost.ranges).toHaveLength(4);
});

test('SHA-256 of what comes in pieces', () => {
  const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 });
  fc.assert(
    fc.property(pieces, fc.nat(7), (all, offset) => {
      const hash = new Sha256();
      for (const piece of all) {
        // A view into something larger, as they come from a socket.
        const room = new Uint8Array(piece.length + offset);
        room.set(piece, offset);
        hash.update(room.subarray(offset));
      }
      expect(hash.digest()).toBe(sha256(Buffer.concat(all)));
    }),
  );
  const large = content(1_000_003);
  const hash = new Sha256();
  hash.update(large);
  expect(hash.digest()).toBe(sha256(large));
});
