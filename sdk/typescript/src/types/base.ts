/** What the other shapes are made of. */

/** A value, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** A JSON object of somebody else's making. */
export type JsonObject = Record<string, unknown>;
