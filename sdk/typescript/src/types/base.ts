/** What the other types are made of: promises, JSON, pages, values that can be watched. */

/** A value, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** A value that changes and can be watched; what a page binds to. */
export interface Readable<S> {
  /** The newest published state: the same object until the next change, never changed itself. */
  readonly getSnapshot: () => S;
  /** `listener` is called after changes. Returns what stops that. */
  readonly subscribe: (listener: () => void) => () => void;
}

/** A JSON object of somebody else's making. */
export type JsonObject = Record<string, unknown>;

/** One page of a list; iterable. `nextCursor` asks for the next one. */
export interface Page<T> extends Iterable<T> {
  readonly data: readonly T[];
  readonly nextCursor: string | null;
  readonly hasMore: boolean;
}

export interface PageParams {
  limit?: number | undefined;
  cursor?: string | undefined;
}
