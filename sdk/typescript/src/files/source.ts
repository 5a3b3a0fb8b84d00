/** What is uploaded: how large it is, as far as that is known, and its pieces one by one. */
import { InvalidRequest } from '../errors.js';
import type { UploadSource } from '../types.js';

/** Bytes that are handed on at once, at most. */
const PIECE = 256 * 1024;

/** Reads once from the beginning. */
export interface Pieces {
  /** The next piece; undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** Nothing more is wanted. */
  close(): Promise<void>;
}

export interface Source {
  readonly size: number | undefined;
  /** Whether `open` may be called more than once. */
  readonly repeatable: boolean;
  open(): Pieces;
}

/** Throws InvalidRequest for what is no source. */
export function sourceOf(source: UploadSource): Source {
  if (source instanceof Blob) {
    return { size: source.size, repeatable: true, open: () => small(ofStream(source.stream())) };
  }
  if (source instanceof Uint8Array) {
    return { size: source.length, repeatable: true, open: () => ofBytes(source) };
  }
  const once = { size: undefined, repeatable: false };
  // A stream first: in some browsers it is no iterable.
  if (typeof ReadableStream === 'function' && source instanceof ReadableStream)
    return { ...once, open: () => small(ofStream(source)) };
  if (typeof source?.[Symbol.asyncIterator] === 'function') {
    return { ...once, open: () => small(ofIterator(source[Symbol.asyncIterator]())) };
  }
  throw new InvalidRequest('the source is no Blob, Uint8Array, ReadableStream or AsyncIterable');
}

function ofBytes(bytes: Uint8Array): Pieces {
  let at = 0;
  return {
    async next() {
      const piece = bytes.subarray(at, at + PIECE);
      at += piece.length;
      return piece.length ? piece : undefined;
    },
    async close() {
      at = bytes.length;
    },
  };
}

function ofStream(stream: ReadableStream<Uint8Array>): Pieces {
  const reader = stream.getReader();
  return {
    async next() {
      const { value } = await reader.read();
      return value && checked(value);
    },
    close: () => reader.cancel(),
  };
}

function ofIterator(iterator: AsyncIterator<Uint8Array>): Pieces {
  return {
    async next() {
      const { done, value } = await iterator.next();
      return done ? undefined : checked(value);
    },
    async close() {
      await iterator.return?.();
    },
  };
}

/** None of them holds up others for long, and progress is seen: some Blobs come in one piece. */
function small({ next, close }: Pieces): Pieces {
  let rest: Uint8Array | undefined;
  return {
    async next() {
      if (!rest?.length) rest = await next();
      const piece = rest?.subarray(0, PIECE);
      rest = rest?.subarray(PIECE);
      return piece;
    },
    close,
  };
}

/** Text would be sent in an encoding that nobody chose. */
function checked(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  throw new InvalidRequest('the source gives something else than Uint8Array');
}
