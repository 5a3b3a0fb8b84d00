/**
 * The shapes that callers see. Names are camelCase here and the wire's inside; what an agent or an
 * event carries as free-form data (`args`, `result`, `data`, `metadata`, `context`) is left as it is.
 */
export type * from './types/admin.js';
export type * from './types/base.js';
export type * from './types/chunks.js';
export type * from './types/client.js';
export type * from './types/conversation.js';
export type * from './types/events.js';
export type * from './types/files.js';
export type * from './types/offline.js';
export type * from './types/realtime.js';
export type * from './types/resources.js';
export type * from './types/sessions.js';
export type * from './types/streams.js';
export type * from './types/webhooks.js';
