/** `@resonantgenesis/sdk/admin`: keys, organizations, usage, nodes, workers, metrics, tools, logs. */
export {
  Admin,
  type Keys,
  type Logs,
  type Metrics,
  type Organizations,
  type Subjects,
  type Tools,
  type UsageReports,
  type Workers,
} from './admin.js';
export { SCOPES, type Scope } from './scopes.js';
