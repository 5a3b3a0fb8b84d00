/** `@resonantgenesis/sdk`: see README.md. */
export type * from './types.js';
