/** `@resonantgenesis/sdk/react`. */
export type { AgentStream } from '../types.js';
