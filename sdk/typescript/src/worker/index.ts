/** `@resonantgenesis/sdk/worker`: what handlers of `client.agents.serve` get, yield and throw. */
export type {
  AgentChunk,
  Answer,
  Handler,
  PastCall,
  PastStep,
  PastTurn,
  ServeOptions,
  Turn,
} from './values.js';
export { AgentError } from './values.js';
export type { Worker } from './worker.js';
