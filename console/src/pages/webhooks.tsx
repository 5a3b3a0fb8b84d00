import type { Webhook } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { Plus } from 'lucide-react';
import { useState } from 'react';
import { queries, webhooks } from '../api.ts';
import { may } from '../credential/credential.ts';
import { useFollow } from '../follow.ts';
import { ChoiceField, Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Empty, Page, ShownOnce, say } from '../ui/parts.tsx';

/** The addresses to which the server sends events. */
export function Webhooks() {
  const listing = useListing(['webhooks', 'list'], (cursor) =>
    webhooks.list({ limit: 50, cursor }),
  );
  useFollow('webhook.*', 'webhooks');
  const [making, setMaking] = useState(false);

  return (
    <Page
      title="Webhooks"
      actions={
        may('webhooks:write') && (
          <button className="button primary" type="button" onClick={() => setMaking(true)}>
            <Plus aria-hidden /> New webhook
          </button>
        )
      }
    >
      <List
        label="Webhooks"
        listing={listing}
        idOf={(webhook) => webhook.id}
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
      />
      {making && (
        <WebhookForm
          webhook={null}
          onClose={() => {
            setMaking(false);
            void queries.invalidateQueries({ queryKey: ['webhooks'] });
          }}
        />
      )}
    </Page>
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
  const [form, setForm] = useState({
    url: webhook?.url ?? '',
    description: webhook?.description ?? '',
    events: webhook?.events?.join(' ') ?? '',
    format: webhook?.format ?? 'event',
    headers: '',
  });
  const [secret, setSecret] = useState<string | null>(null);
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });

  async function save() {
    const patterns = form.events.split(/[\s,]+/).filter(Boolean);
    const params = {
      url: form.url,
      description: form.description,
      events: patterns.length > 0 ? patterns : null,
      format: form.format,
      ...(form.headers.trim() && { headers: headersOf(form.headers) }),
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
        name="url"
        hint="On the public internet, with TLS, unless the server allows its host"
        required
        type="url"
        isCode
        placeholder="https://hooks.example/events"
        value={form.url}
        onChange={(url) => set({ url })}
      />
      <TextField
        label="Events"
        name="events"
        hint="Types and patterns, with spaces between; empty: all"
        isCode
        placeholder="session.* app.invoice.*"
        value={form.events}
        onChange={(events) => set({ events })}
      />
      <TextField
        label="Description"
        name="description"
        value={form.description}
        onChange={(description) => set({ description })}
      />
      <ChoiceField
        label="Format"
        name="format"
        options={{ event: 'events as clients get them', cloudevents: 'CloudEvents' }}
        value={form.format}
        onChange={(format) => set({ format: format as Webhook['format'] })}
      />
      <TextField
        label="Headers"
        name="headers"
        hint={
          webhook?.headers.length
            ? `Replace ${webhook.headers.join(', ')}; empty: nothing changes`
            : 'Sent with each delivery, one a line; values are never shown'
        }
        lines
        isCode
        placeholder="X-Tenant: 7"
        value={form.headers}
        onChange={(headers) => set({ headers })}
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
