/** All items of a list that comes in pages; loaded on demand. No I/O. */
import { InvalidRequest } from '../errors.js';
import type { Page } from '../types.js';

/** The items of all pages; `ask` gets the page behind a cursor, first without. */
export async function* allPages<T>(
  ask: (cursor: string | undefined) => Promise<Page<T>>,
): AsyncGenerator<T, void> {
  for (let cursor: string | undefined, more = true; more; ) {
    const page: Page<T> = await ask(cursor);
    yield* page.data;
    more = page.hasMore && page.nextCursor !== null && page.nextCursor !== cursor;
    cursor = page.nextCursor ?? undefined;
  }
}

/** Items as a list. Throws InvalidRequest (PAYLOAD_TOO_LARGE) where there are more than `limit`. */
export async function listOf<T extends object>(
  items: AsyncIterable<T>,
  limit = Infinity,
): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) {
    if (found.length >= limit) {
      const details = { limit, cursor: (found.at(-1) as { cursor?: string } | undefined)?.cursor };
      throw new InvalidRequest(
        'too many events for a list: iterate, or go on from details.cursor',
        { code: 'PAYLOAD_TOO_LARGE', details },
      );
    }
    found.push(item);
  }
  return found;
}
