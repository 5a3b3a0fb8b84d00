/** Contents, and ways of giving and taking them. */
import { createHash } from 'node:crypto';
import type { StoredFile } from '@resonantgenesis/sdk';
import { clientOf } from '../support/clients.js';

export const MIB = 1024 * 1024;

/** Bytes in which no two places look alike, so that a piece in the wrong one is seen. */
export function content(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = seed;
  for (let at = 0; at < words.length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[at] = state ^ at;
  }
  return new Uint8Array(words.buffer, 0, size);
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export async function* pieces(bytes: Uint8Array, size = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** A file that is there, sent without any trouble. */
export function stored(bytes: Uint8Array, name = 'data.bin'): Promise<StoredFile> {
  return clientOf().files.upload(bytes, { name });
}

export function isRising(numbers: readonly number[]): boolean {
  return numbers.every((number, at) => at === 0 || number > (numbers[at - 1] ?? 0));
}
