/** `@resonantgenesis/sdk/vue`. */
export type { AgentStream } from '../types.js';
