/** The organization's webhooks, for programs that manage them: pages of browsers need no byte of it. */
import { camel, createRequest, itemRequest, listRequest, pageOf } from '../core/messages.js';
import { settingsOf } from '../settings.js';
import { Transport } from '../transport.js';
import type {
  ClientOptions,
  CreateWebhookParams,
  DeliveriesParams,
  Page,
  PageParams,
  ResendParams,
  UpdateWebhookParams,
  Webhook,
  WebhookDelivery,
} from '../types.js';
import { newWebhookSecret } from './verify.js';

const WEBHOOKS = '/v1/webhooks';

/** Addresses to which the server sends events. The options are the client's. Everything throws StreamError. */
export class Webhooks {
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(settingsOf(options));
  }

  /**
   * A webhook, which is sent what happens from now on. Its `secret` is shown this once: when the answer
   * was lost on the way, this throws Conflict.
   */
  async create(params: CreateWebhookParams): Promise<Webhook> {
    return camel(await this.#transport.call(createRequest(WEBHOOKS, params)));
  }

  async get(webhookId: string): Promise<Webhook> {
    return camel(await this.#transport.call(itemRequest('GET', WEBHOOKS, webhookId)));
  }

  /** One page, newest first. */
  async list(params: PageParams = {}): Promise<Page<Webhook>> {
    return pageOf(await this.#transport.call(listRequest(WEBHOOKS, params)));
  }

  /** Changes the fields that are given. Enabled again, it goes on where it was. */
  async update(webhookId: string, params: UpdateWebhookParams): Promise<Webhook> {
    const request = itemRequest('PATCH', WEBHOOKS, webhookId, '', params);
    return camel(await this.#transport.call(request));
  }

  async delete(webhookId: string): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', WEBHOOKS, webhookId));
  }

  /** Gives it another secret, which the answer shows. For a day both sign. */
  async rotate(webhookId: string, secret = newWebhookSecret()): Promise<Webhook> {
    const request = itemRequest('POST', WEBHOOKS, webhookId, '/rotate', { secret });
    return camel(await this.#transport.call(request));
  }

  /** Sends an event of type `webhook.test` at once; what came of it. */
  async test(webhookId: string): Promise<WebhookDelivery> {
    return camel(await this.#transport.call(itemRequest('POST', WEBHOOKS, webhookId, '/test')));
  }

  /** One page of attempts, newest first. */
  async deliveries(
    webhookId: string,
    params: DeliveriesParams = {},
  ): Promise<Page<WebhookDelivery>> {
    const { path } = itemRequest('GET', WEBHOOKS, webhookId, '/deliveries');
    return pageOf(await this.#transport.call(listRequest(path, params)));
  }

  /** Sends events again, in order and before any other. */
  async resend(webhookId: string, params: ResendParams): Promise<Webhook> {
    const request = itemRequest('POST', WEBHOOKS, webhookId, '/resend', params);
    return camel(await this.#transport.call(request));
  }
}
