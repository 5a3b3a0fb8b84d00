/** Webhooks are managed at the real server. */
import { NotFound } from '@resonantgenesis/sdk';
import { Webhooks } from '@resonantgenesis/sdk/webhooks';
import { expect, inject, test } from 'vitest';
import { KEY } from '../support/server.js';

test('a webhook: made, changed, tried out, sent again, deleted', async () => {
  const options = { apiKey: KEY, baseUrl: inject('serverUrl') };
  const webhooks = new Webhooks(options);
  const made = await webhooks.create({
    url: 'https://hooks.example/',
    events: ['app.nothing.*'],
    headers: { 'X-Tenant': '7' },
  });
  expect(made).toMatchObject({ enabled: true, headers: ['X-Tenant'], resending: false });
  expect(made.secret).toMatch(/^whsec_/);
  expect((await webhooks.update(made.id, { description: 'mine' })).description).toBe('mine');
  expect((await webhooks.get(made.id)).secret).toBeUndefined();
  expect([...(await webhooks.list({ limit: 500 }))].map((one) => one.id)).toContain(made.id);
  const rotated = await webhooks.rotate(made.id);
  expect(rotated.secret).not.toBe(made.secret);
  expect((await webhooks.rotate(made.id, rotated.secret)).secret).toBe(rotated.secret);
  const tried = await webhooks.test(made.id);
  expect(tried).toMatchObject({ eventType: 'webhook.test', status: null, attempt: 1 });
  expect(tried.error).toContain('could not be asked');
  expect([...(await webhooks.deliveries(made.id, { failed: true }))]).toEqual([tried]);
  await webhooks.resend(made.id, { since: '2026-01-01' });
  await webhooks.delete(made.id);
  await expect(webhooks.get(made.id)).rejects.toBeInstanceOf(NotFound);
});
