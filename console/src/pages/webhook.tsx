import type { Webhook, WebhookDelivery } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, useNavigate } from '@tanstack/react-router';
import { KeyRound, Pencil, Play, Power, Send, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { queries, webhooks } from '../api.ts';
import { may } from '../credential/credential.ts';
import { useFollow } from '../follow.ts';
import { Choice } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import {
  Ago,
  Confirm,
  Dialog,
  Empty,
  Fact,
  IconButton,
  Json,
  ListState,
  number,
  Page,
  ShownOnce,
  say,
  sayWhy,
} from '../ui/parts.tsx';
import { WebhookForm, WebhookState } from './webhooks.tsx';

const route = getRouteApi('/webhooks/$webhookId');
/** The server sends a test at once and does not keep its event, so that it cannot be resent. */
const TEST = 'webhook.test';
const OUTCOMES = { '': 'every attempt', failed: 'failed', taken: 'succeeded' };

/** One webhook: what it is sent, and what came of each attempt. */
export function WebhookPage() {
  const { webhookId } = route.useParams();
  const shown = useQuery({
    queryKey: ['webhooks', webhookId],
    queryFn: () => webhooks.get(webhookId),
  });
  useFollow('webhook.*', 'webhooks');
  if (shown.data === undefined) {
    return (
      <Page title="Webhook">
        <ListState query={shown} empty={<Empty title="There is no such webhook" />} />
      </Page>
    );
  }
  const webhook = shown.data;
  return (
    <Page
      title={webhook.description || new URL(webhook.url).host}
      actions={may('webhooks:write') && <Actions webhook={webhook} />}
    >
      <dl className="facts">
        <Fact name="State">
          <WebhookState webhook={webhook} />
        </Fact>
        <Fact name="Address">
          <code>{webhook.url}</code>
        </Fact>
        <Fact name="Events">
          <code>{webhook.events?.join(' ') ?? 'all'}</code>
          {webhook.format === 'cloudevents' && ', as CloudEvents'}
        </Fact>
        {webhook.headers.length > 0 && (
          <Fact name="Headers">
            <code>{webhook.headers.join(', ')}</code>
          </Fact>
        )}
        <Fact name="Id">
          <code>{webhook.id}</code>
        </Fact>
      </dl>
      {webhook.lostBefore !== null && (
        <p className="notice warn">
          Events from before <Ago time={webhook.lostBefore} /> were not kept long enough to be sent.
        </p>
      )}
      <Deliveries webhook={webhook} />
    </Page>
  );
}

function Actions(props: { webhook: Webhook }) {
  const { webhook } = props;
  const navigate = useNavigate();
  const [editing, setEditing] = useState(false);
  const [asking, setAsking] = useState<'delete' | 'rotate' | null>(null);
  const [secret, setSecret] = useState<string | null>(null);
  const changed = () => queries.invalidateQueries({ queryKey: ['webhooks'] });

  async function test() {
    const { error, status } = await webhooks.test(webhook.id);
    say(error ?? `The receiver has taken the test: ${status}`, error !== null);
    await changed();
  }

  async function enable(enabled: boolean, skipMissed = false) {
    await webhooks.update(webhook.id, { enabled, ...(skipMissed && { skipMissed }) });
    await changed();
  }

  async function rotate() {
    setSecret((await webhooks.rotate(webhook.id)).secret ?? '');
  }

  async function remove() {
    await webhooks.delete(webhook.id);
    say('The webhook is gone');
    await navigate({ to: '/webhooks' });
  }

  return (
    <>
      <button className="button" type="button" onClick={() => test().catch(sayWhy)}>
        <Send aria-hidden /> Send a test
      </button>
      {webhook.enabled ? (
        <button className="button" type="button" onClick={() => enable(false).catch(sayWhy)}>
          <Power aria-hidden /> Disable
        </button>
      ) : (
        <>
          <button className="button" type="button" onClick={() => enable(true).catch(sayWhy)}>
            <Play aria-hidden /> Enable
          </button>
          <button
            className="button"
            type="button"
            title="Leaves out what has not been delivered"
            onClick={() => enable(true, true).catch(sayWhy)}
          >
            Enable from now on
          </button>
        </>
      )}
      <button className="button" type="button" onClick={() => setAsking('rotate')}>
        <KeyRound aria-hidden /> Rotate secret
      </button>
      <IconButton icon={Pencil} name="Edit" look="" onClick={() => setEditing(true)} />
      <IconButton icon={Trash2} name="Delete" look="danger" onClick={() => setAsking('delete')} />
      {editing && (
        <WebhookForm
          webhook={webhook}
          onClose={() => {
            setEditing(false);
            void changed();
          }}
        />
      )}
      {secret !== null && (
        <ShownOnce
          title="The new secret"
          description="For a day both secrets sign. Copy it now: it is not shown again."
          secret={secret}
          onClose={() => setSecret(null)}
        />
      )}
      <Confirm
        open={asking === 'rotate'}
        onOpenChange={() => setAsking(null)}
        title="Rotate the secret?"
        description="For a day deliveries are signed by the old secret and by the new one."
        action="Rotate"
        onConfirm={rotate}
      />
      <Confirm
        open={asking === 'delete'}
        onOpenChange={() => setAsking(null)}
        title="Delete this webhook?"
        description="Its deliveries go with it. What has not been delivered is never sent."
        action="Delete"
        onConfirm={remove}
      />
    </>
  );
}

function Deliveries(props: { webhook: Webhook }) {
  const { webhook } = props;
  const [failed, setFailed] = useState('');
  const [open, setOpen] = useState<WebhookDelivery | null>(null);
  const listing = useListing(['webhooks', webhook.id, 'deliveries', failed], (page) =>
    webhooks.deliveries(webhook.id, {
      ...page,
      ...(failed && { failed: failed === 'failed' }),
    }),
  );

  async function resend(eventId: string) {
    await webhooks.resend(webhook.id, { eventId });
    say('The event is sent again');
    await queries.invalidateQueries({ queryKey: ['webhooks'] });
  }

  return (
    <>
      <div className="row spread">
        <h2>Deliveries</h2>
        <Choice
          fits
          label="Deliveries that"
          options={OUTCOMES}
          value={failed}
          onChange={setFailed}
        />
      </div>
      <List
        label="Deliveries"
        listing={listing}
        idOf={(delivery) => delivery.id}
        empty={
          <Empty title="Nothing was sent yet">Send a test, or wait for the first event.</Empty>
        }
        columns={[
          {
            name: 'Event',
            cell: (delivery) => (
              <button className="link mono" type="button" onClick={() => setOpen(delivery)}>
                {delivery.eventType}
              </button>
            ),
          },
          { name: 'Attempt', isFigure: true, cell: (delivery) => delivery.attempt },
          {
            name: 'Answer',
            cell: (delivery) => (
              <span className={`badge ${delivery.error === null ? 'good' : 'bad'}`}>
                {delivery.status ?? 'no answer'}
              </span>
            ),
          },
          {
            name: 'Took',
            className: 'muted nowrap',
            isFigure: true,
            cell: (delivery) => `${number.format(delivery.durationMs)} ms`,
          },
          {
            name: 'When',
            className: 'muted',
            cell: (delivery) => <Ago time={delivery.createdAt} />,
          },
          {
            name: 'Next try',
            className: 'muted',
            cell: ({ nextTryAt }) =>
              nextTryAt !== null && Date.parse(nextTryAt) > Date.now() && <Ago time={nextTryAt} />,
          },
        ]}
        actions={
          may('webhooks:write') &&
          webhook.enabled &&
          ((delivery) =>
            delivery.eventType !== TEST && (
              <button
                className="link"
                type="button"
                onClick={() => resend(delivery.eventId).catch(sayWhy)}
              >
                Resend
              </button>
            ))
        }
      />
      <Dialog
        open={open !== null}
        onOpenChange={() => setOpen(null)}
        title={open?.eventType ?? ''}
        description={open?.error ?? 'The receiver has taken the event.'}
      >
        {open?.answer && (
          <>
            <h2>What the receiver said</h2>
            <pre className="pre">{open.answer}</pre>
          </>
        )}
        <h2>The attempt</h2>
        <Json value={open && { ...open, answer: undefined, error: undefined }} />
      </Dialog>
    </>
  );
}
