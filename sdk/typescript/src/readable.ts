import { InvalidRequest } from './errors.js';
import type { ResumableStream } from './types.js';

/** A stream of the platform that takes over the iteration; nothing is read before it is asked for. */
export function readableOf<T>(stream: ResumableStream<T>): ReadableStream<T> {
  if (typeof ReadableStream !== 'function') {
    throw new InvalidRequest('there is no ReadableStream here: iterate over the stream');
  }
  const iterator = stream[Symbol.asyncIterator]();
  return new ReadableStream<T>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await stream.close();
      },
    },
    { highWaterMark: 0 },
  );
}
