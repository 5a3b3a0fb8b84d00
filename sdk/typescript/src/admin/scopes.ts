/** What a key may do. `:write` includes `:read`, and `*` everything. A test holds the server to the list. */
const NOUNS = [
  'agents',
  'sessions',
  'events',
  'files',
  'teams',
  'webhooks',
  'usage',
  'keys',
  'tokens',
  'subjects',
] as const;

export type Scope =
  | '*'
  | `${(typeof NOUNS)[number]}:${'read' | 'write'}`
  | 'agents:serve'
  | 'metrics:read'
  | 'audit:read';

/** All scopes of the API. */
export const SCOPES: readonly Scope[] = [
  '*',
  ...NOUNS.flatMap((noun) => [`${noun}:read`, `${noun}:write`] as const),
  'agents:serve',
  'metrics:read',
  'audit:read',
];
