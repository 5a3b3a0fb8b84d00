import type { Webhook } from '@resonantgenesis/sdk';
import { useInfiniteQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Plus } from 'lucide-react';
import { useState } from 'react';
import { webhooks } from '../api.ts';
import { may } from '../credential/credential.ts';
import { useFollow } from '../follow.ts';
import {
  Ago,
  Dialog,
  Empty,
  Field,
  ListState,
  Page,
  ShownOnce,
  say,
  sayWhy,
  Table,
} from '../ui/parts.tsx';

/** The addresses to which the server sends events. */
export function Webhooks() {
  const queries = useQueryClient();
  const list = useInfiniteQuery({
    queryKey: ['webhooks', 'list'],
    queryFn: ({ pageParam }) => webhooks.list({ limit: 50, cursor: pageParam }),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.nextCursor ?? undefined,
  });
  useFollow('webhook.*', 'webhooks');
  const [making, setMaking] = useState(false);
  const rows = list.data?.pages.flatMap((page) => [...page.data]) ?? [];

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
      {rows.length === 0 ? (
        <ListState
          query={list}
          empty={
            <Empty title="No webhooks yet">
              A webhook is sent events as they happen, signed and in order.
            </Empty>
          }
        />
      ) : (
        <Table label="Webhooks">
          <thead>
            <tr>
              <th>Address</th>
              <th>State</th>
              <th>Events</th>
              <th>Made</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((webhook) => (
              <tr key={webhook.id}>
                <td className="address">
                  <Link
                    to="/webhooks/$webhookId"
                    params={{ webhookId: webhook.id }}
                    className="mono"
                  >
                    {webhook.url}
                  </Link>
                  {webhook.description && <div className="small muted">{webhook.description}</div>}
                </td>
                <td>
                  <WebhookState webhook={webhook} />
                </td>
                <td className="mono small">{webhook.events?.join(' ') ?? 'all'}</td>
                <td className="muted">
                  <Ago time={webhook.createdAt} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      {list.hasNextPage && (
        <button
          className="button"
          type="button"
          disabled={list.isFetchingNextPage}
          onClick={() => void list.fetchNextPage()}
        >
          {list.isFetchingNextPage ? 'Loading …' : 'Older webhooks'}
        </button>
      )}
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
        failing{nextTryAt !== null && ', next try'}
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
    <Dialog
      open
      onOpenChange={props.onClose}
      title={webhook === null ? 'New webhook' : 'Edit the webhook'}
    >
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          save().catch(sayWhy);
        }}
      >
        <Field
          label="URL"
          hint="On the public internet, with TLS, unless the server allows its host"
        >
          <input
            className="input mono"
            required
            type="url"
            placeholder="https://hooks.example/events"
            value={form.url}
            onChange={(event) => set({ url: event.target.value })}
          />
        </Field>
        <Field label="Events" hint="Types and patterns, with spaces between; empty: all">
          <input
            className="input mono"
            placeholder="session.* app.invoice.*"
            value={form.events}
            onChange={(event) => set({ events: event.target.value })}
          />
        </Field>
        <Field label="Description">
          <input
            className="input"
            value={form.description}
            onChange={(event) => set({ description: event.target.value })}
          />
        </Field>
        <Field label="Format">
          <select
            className="input"
            value={form.format}
            onChange={(event) => set({ format: event.target.value as Webhook['format'] })}
          >
            <option value="event">events as clients get them</option>
            <option value="cloudevents">CloudEvents</option>
          </select>
        </Field>
        <Field
          label="Headers"
          hint={
            webhook?.headers.length
              ? `Replace ${webhook.headers.join(', ')}; empty: nothing changes`
              : 'Sent with each delivery, one a line; values are never shown'
          }
        >
          <textarea
            className="input mono"
            placeholder="X-Tenant: 7"
            value={form.headers}
            onChange={(event) => set({ headers: event.target.value })}
          />
        </Field>
        <button className="button primary" type="submit">
          {webhook === null ? 'Make the webhook' : 'Save'}
        </button>
      </form>
    </Dialog>
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
