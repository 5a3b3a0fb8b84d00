/** One server for all integration tests; those that stop or restart one have their own. */
import type { TestProject } from 'vitest/node';
import { startServer } from './server.js';

declare module 'vitest' {
  interface ProvidedContext {
    serverUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startServer({
    // So that silence is seen in 2 s, a turn of half a second outlasts the answer, and a worker that
    // was killed is given up soon.
    RESONANTGENESIS_LIMITS__HEARTBEAT: '1',
    RESONANTGENESIS_LIMITS__ANSWER_WAIT: '0.2',
    RESONANTGENESIS_LIMITS__WORKER_GRACE: '1',
  });
  project.provide('serverUrl', server.url);
  return () => server.dispose();
}
