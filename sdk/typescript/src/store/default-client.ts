import { ResonantGenesis } from '../index.js';

let client: ResonantGenesis | undefined;

/** The client of pages that name none: everything about it comes from the environment. */
export function defaultClient(): ResonantGenesis {
  client ??= new ResonantGenesis();
  return client;
}
