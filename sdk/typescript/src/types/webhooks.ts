/** Addresses to which the server sends events, and what was sent there. */
import type { JsonObject, PageParams } from './base.js';

export interface Webhook {
  readonly id: string;
  readonly url: string;
  readonly description: string;
  /** Types and patterns; null: every type but `webhook.*`. */
  readonly events: readonly string[] | null;
  readonly filters: JsonObject;
  readonly format: 'event' | 'cloudevents';
  /** Names of the headers that are sent with each delivery. */
  readonly headers: readonly string[];
  readonly enabled: boolean;
  /** Why the server disabled it: `gone` or `failing`. */
  readonly disabledReason: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** Of the last event that it has got, or is not sent. */
  readonly cursor: string;
  readonly resending: boolean;
  /** Of the event that its receiver does not take. */
  readonly failingSince: string | null;
  readonly attempts: number;
  readonly nextTryAt: string | null;
  readonly lostBefore: string | null;
  /** What signs its deliveries: only where it is new. */
  readonly secret?: string;
}

export interface WebhookParams {
  url?: string | undefined;
  description?: string | undefined;
  events?: readonly string[] | null | undefined;
  filters?: JsonObject | undefined;
  format?: 'event' | 'cloudevents' | undefined;
  headers?: Readonly<Record<string, string>> | undefined;
  enabled?: boolean | undefined;
}

export interface CreateWebhookParams extends WebhookParams {
  url: string;
  /** `whsec_` and base64 of 24 to 64 bytes; the server's own if left out. */
  secret?: string | undefined;
}

export interface UpdateWebhookParams extends WebhookParams {
  /** Leave out what is not delivered yet. */
  skipMissed?: boolean | undefined;
}

/** One attempt to deliver an event. `error` null: the receiver has taken it. */
export interface WebhookDelivery {
  readonly id: string;
  readonly eventId: string;
  readonly eventType: string;
  readonly attempt: number;
  readonly status: number | null;
  readonly error: string | null;
  readonly answer: string | null;
  readonly durationMs: number;
  readonly createdAt: string;
  readonly nextTryAt: string | null;
}

export interface DeliveriesParams extends PageParams {
  /** Only those that failed, or that did not. */
  failed?: boolean | undefined;
}

/** One event, or those from `since` to `until`: times (RFC 3339) or cursors. */
export type ResendParams = { eventId: string } | { since: string; until?: string | undefined };
