/** `verifyWebhook` takes what a library of Standard Webhooks signs, and nothing else. */
import { createHmac } from 'node:crypto';
import {
  newWebhookSecret,
  verifyWebhook,
  WebhookVerificationError,
} from '@resonantgenesis/sdk/webhooks';
import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';

const BODY = '{"id":"evt_1","type":"app.a","data":{"name":"Zoë"}}';
const NOW = 1_800_000_000;
const [SECRET, OTHER] = [newWebhookSecret(), newWebhookSecret()];

function standard(secrets: string[], body = BODY, at = NOW): Record<string, string> {
  const signed = secrets.map((one) => new Webhook(one).sign('evt_1', new Date(at * 1000), body));
  return {
    'Webhook-Id': 'evt_1',
    'Webhook-Timestamp': `${at}`,
    'Webhook-Signature': signed.join(' '),
  };
}

function plain(secret: string, body = BODY, at = NOW): Record<string, string> {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const digest = createHmac('sha256', key).update(`${at}.${body}`).digest('hex');
  return { 'X-Webhook-Timestamp': `${at}`, 'X-Webhook-Signature': `sha256=${digest}` };
}

test.each([
  ['the standard’s headers', standard([SECRET])],
  ['several signatures', standard([OTHER, SECRET])],
  ['our own headers', plain(SECRET)],
])('what is signed is taken: %s', (_, headers) => {
  for (const body of [BODY, new TextEncoder().encode(BODY)]) {
    for (const given of [headers, new Headers(headers)]) {
      expect(verifyWebhook(body, given, SECRET, { now: NOW }).data).toEqual({ name: 'Zoë' });
    }
  }
  const secrets = [newWebhookSecret(), SECRET];
  expect(verifyWebhook(BODY, headers, secrets, { now: NOW + 299 }).type).toBe('app.a');
});

test.each([
  ['nothing', {}],
  ['another secret', standard([OTHER])],
  ['another secret of ours', plain(OTHER)],
  ['another body', standard([SECRET], `${BODY} `)],
  ['an old request', standard([SECRET], BODY, NOW - 301)],
  ['one of the future', plain(SECRET, BODY, NOW + 301)],
  ['another time', { ...standard([SECRET]), 'Webhook-Timestamp': `${NOW + 1}` }],
  ['no time', { ...standard([SECRET]), 'Webhook-Timestamp': 'now' }],
  ['another id', { ...standard([SECRET]), 'Webhook-Id': 'evt_2' }],
  ['another scheme', { ...standard([SECRET]), 'Webhook-Signature': 'v1a,abc' }],
  [
    'one of two',
    { ...plain(SECRET), 'Webhook-Signature': 'v1,abc', 'Webhook-Timestamp': `${NOW}` },
  ],
])('all else is refused: %s', (_, headers) => {
  expect(() => verifyWebhook(BODY, headers, SECRET, { now: NOW })).toThrow(
    WebhookVerificationError,
  );
});

test('a signed body that is no event, and a secret that is none', () => {
  for (const body of ['[]', 'nothing']) {
    expect(() => verifyWebhook(body, standard([SECRET], body), SECRET, { now: NOW })).toThrow(
      WebhookVerificationError,
    );
  }
  expect(() => verifyWebhook(BODY, standard([SECRET]), 'whsec_?', { now: NOW })).toThrow(TypeError);
});
