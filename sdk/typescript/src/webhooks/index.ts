/** `@resonantgenesis/sdk/webhooks`: to manage webhooks, and to check what they bring. */
export type { VerifyOptions, WebhookEvent } from './verify.js';
export { newWebhookSecret, verifyWebhook, WebhookVerificationError } from './verify.js';
export { Webhooks } from './webhooks.js';
