import type { Webhook } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { webhooks } from '../api.ts';
import { useFollow } from '../follow.ts';
import { ChoiceField, Form, TextField, useFields, wordsOf } from '../ui/form.tsx';
import { useListing } from '../ui/list.tsx';
import { Managed } from '../ui/managed.tsx';
import { Ago, Empty, ShownOnce, say } from '../ui/parts.tsx';

/** The addresses to which the server sends events. */
export function Webhooks() {
  const listing = useListing(['webhooks', 'list'], (page) => webhooks.list(page));
  useFollow('webhook.*', 'webhooks');
  return (
    <Managed
      title="Webhooks"
      noun="webhook"
      scope="webhooks:write"
      changes={['webhooks']}
      listing={listing}
      empty={
        <Empty title="No webhooks yet">
          A webhook is sent events as they happen, signed and in order.
        </Empty>
      }
      columns={[
        {
          name: 'Address',
          className: 'address',
          cell: (webhook) => (
            <>
              <Link to="/webhooks/$webhookId" params={{ webhookId: webhook.id }} className="mono">
                {webhook.url}
              </Link>
              {webhook.description && <div className="small muted">{webhook.description}</div>}
            </>
          ),
        },
        { name: 'State', cell: (webhook) => <WebhookState webhook={webhook} /> },
        {
          name: 'Events',
          className: 'mono small',
          cell: (webhook) => webhook.events?.join(' ') ?? 'all',
        },
        { name: 'Made', className: 'muted', cell: (webhook) => <Ago time={webhook.createdAt} /> },
      ]}
      form={(_webhook, onClose) => <WebhookForm webhook={null} onClose={onClose} />}
    />
  );
}

const REASONS: Readonly<Record<string, string>> = {
  gone: 'disabled: the receiver is gone',
  failing: 'disabled: the receiver failed for too long',
};

export function WebhookState(props: { webhook: Webhook }) {
  const { enabled, disabledReason, failingSince, nextTryAt, resending } = props.webhook;
  if (disabledReason !== null) {
    return <span className="badge bad">{REASONS[disabledReason] ?? disabledReason}</span>;
  }
  if (!enabled) return <span className="badge">disabled</span>;
  if (failingSince !== null) {
    return (
      <span className="badge warn">
        failing{nextTryAt !== null && ', next try '}
        {nextTryAt !== null && <Ago time={nextTryAt} />}
      </span>
    );
  }
  if (resending) return <span className="badge live">resending</span>;
  return <span className="badge good">enabled</span>;
}

/** Makes a webhook, or changes one. */
export function WebhookForm(props: { webhook: Webhook | null; onClose: () => void }) {
  const { webhook } = props;
  const { fields, field } = useFields({
    url: webhook?.url ?? '',
    description: webhook?.description ?? '',
    events: webhook?.events?.join(' ') ?? '',
    format: webhook?.format ?? 'event',
    headers: '',
  });
  const [secret, setSecret] = useState<string | null>(null);

  async function save() {
    const params = {
      url: fields.url,
      description: fields.description,
      events: wordsOf(fields.events),
      format: fields.format as Webhook['format'],
      ...(fields.headers.trim() && { headers: headersOf(fields.headers) }),
    };
    if (webhook === null) {
      setSecret((await webhooks.create(params)).secret ?? '');
      return;
    }
    await webhooks.update(webhook.id, params);
    say('The webhook is saved');
    props.onClose();
  }

  if (secret !== null) {
    return (
      <ShownOnce
        title="The secret of the webhook"
        description="Its deliveries are signed with this. Copy it now: it is not shown again."
        secret={secret}
        onClose={props.onClose}
      />
    );
  }
  return (
    <Form
      title={webhook === null ? 'New webhook' : 'Edit the webhook'}
      action={webhook === null ? 'Make the webhook' : 'Save'}
      onSave={save}
      onClose={props.onClose}
    >
      <TextField
        label="URL"
        hint="On the public internet, with TLS, unless the server allows its host"
        required
        type="url"
        isCode
        placeholder="https://hooks.example/events"
        {...field('url')}
      />
      <TextField
        label="Events"
        hint="Types and patterns, with spaces between; empty: all"
        isCode
        placeholder="session.* app.invoice.*"
        {...field('events')}
      />
      <TextField label="Description" {...field('description')} />
      <ChoiceField
        label="Format"
        options={{ event: 'events as clients get them', cloudevents: 'CloudEvents' }}
        {...field('format')}
      />
      <TextField
        label="Headers"
        hint={
          webhook?.headers.length
            ? `Replace ${webhook.headers.join(', ')}; empty: nothing changes`
            : 'Sent with each delivery, one a line; values are never shown'
        }
        lines
        isCode
        placeholder="X-Tenant: 7"
        {...field('headers')}
      />
    </Form>
  );
}

/** Throws Error for a line without a colon. */
function headersOf(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':');
      if (colon < 1) throw new Error(`A header is “Name: value”, not “${line}”.`);
      return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
    }),
  );
}
