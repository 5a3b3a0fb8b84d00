/** `@resonantgenesis/sdk/worker`: what handlers of `client.agents.serve` get, yield and throw. */
export type {
  AgentChunk,
  Answer,
  ApproveOptions,
  AskOptions,
  Handler,
  PastCall,
  PastStep,
  PastTurn,
  ServeOptions,
  Turn,
  Worker,
} from './values.js';
export { AgentError, NotAnswered } from './values.js';
