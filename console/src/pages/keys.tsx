import { Plus } from 'lucide-react';
import { useState } from 'react';
import { call, listed, queries } from '../api.ts';
import { credential, may } from '../credential/credential.ts';
import { ChoiceField, Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Confirm, Empty, Page, ShownOnce } from '../ui/parts.tsx';

interface Key {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
}

const NOUNS = [
  'agents',
  'sessions',
  'events',
  'files',
  'teams',
  'webhooks',
  'usage',
  'keys',
  'tokens',
  'subjects',
];
const SCOPES = [
  ...NOUNS.flatMap((noun) => [`${noun}:read`, `${noun}:write`]),
  'agents:serve',
  'metrics:read',
  'audit:read',
];
/** Seconds that a key lives, in words. */
const LIVES = {
  '': 'never',
  86400: 'in a day',
  2592000: 'in 30 days',
  31536000: 'in a year',
};

/** The organization's API keys. A key is shown once, when it is made. */
export function Keys() {
  const listing = useListing(['keys'], (cursor) => listed<Key>('/v1/keys', cursor));
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key | null>(null);
  const changed = () => queries.invalidateQueries({ queryKey: ['keys'] });

  return (
    <Page
      title="Keys"
      actions={
        may('keys:write') && (
          <button className="button primary" type="button" onClick={() => setMaking(true)}>
            <Plus aria-hidden /> New key
          </button>
        )
      }
    >
      <List
        label="Keys"
        listing={listing}
        idOf={(key) => key.id}
        empty={<Empty title="No keys yet">A program signs in with a key.</Empty>}
        columns={[
          {
            name: 'Name',
            cell: (key) => (
              <>
                {key.name}
                <div className="small muted mono">{key.id}</div>
              </>
            ),
          },
          { name: 'Scopes', className: 'mono small', cell: (key) => key.scopes.join(' ') },
          { name: 'Made', className: 'muted', cell: (key) => <Ago time={key.created_at} /> },
          { name: 'State', cell: (key) => <KeyState of={key} /> },
        ]}
        actions={
          may('keys:write') &&
          ((key) =>
            !key.revoked_at && (
              <button
                className="button quiet danger"
                type="button"
                onClick={() => setRevoking(key)}
              >
                Revoke
              </button>
            ))
        }
      />
      {making && (
        <NewKey
          onClose={() => {
            setMaking(false);
            void changed();
          }}
        />
      )}
      <Confirm
        open={revoking !== null}
        onOpenChange={() => setRevoking(null)}
        title={`Revoke ${revoking?.name}?`}
        description="Whoever uses it is refused within two seconds, and so are its client tokens. This cannot be undone."
        action="Revoke"
        onConfirm={() => revoking && call('DELETE', `/v1/keys/${revoking.id}`).then(changed)}
      />
    </Page>
  );
}

function KeyState(props: { of: Key }) {
  const { revoked_at, expires_at } = props.of;
  if (revoked_at) return <span className="badge bad">revoked</span>;
  if (!expires_at) return <span className="badge good">valid</span>;
  const has = Date.parse(expires_at) > Date.now() ? 'ends' : 'ended';
  return (
    <span className={`badge ${has === 'ends' ? 'warn' : ''}`}>
      {has} <Ago time={expires_at} />
    </span>
  );
}

function NewKey(props: { onClose: () => void }) {
  const own = credential.get()?.scopes ?? [];
  const offered = own.includes('*') ? ['*', ...SCOPES] : SCOPES.filter(may);
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<readonly string[]>(['sessions:write', 'agents:read']);
  const [life, setLife] = useState('');
  const [made, setMade] = useState<string | null>(null);

  async function make() {
    const answer = await call<{ key: string }>('POST', '/v1/keys', {
      name,
      scopes,
      ...(life && { expires_in: Number(life) }),
    });
    setMade(answer.key);
  }

  if (made !== null) {
    return (
      <ShownOnce
        title="The new key"
        description="Copy it now: it is not shown again."
        secret={made}
        onClose={props.onClose}
      />
    );
  }
  return (
    <Form
      title="New key"
      action="Make the key"
      isIncomplete={scopes.length === 0}
      onSave={make}
      onClose={props.onClose}
    >
      <TextField label="Name" name="name" required value={name} onChange={setName} />
      <fieldset className="panel padded">
        <legend className="small">Scopes</legend>
        <div className="scopes">
          {offered.map((scope) => (
            <label key={scope} className="row small mono">
              <input
                type="checkbox"
                checked={scopes.includes(scope)}
                onChange={() =>
                  setScopes(
                    scopes.includes(scope)
                      ? scopes.filter((one) => one !== scope)
                      : [...scopes, scope],
                  )
                }
              />
              {scope}
            </label>
          ))}
        </div>
      </fieldset>
      <ChoiceField label="Ends" name="expires_in" options={LIVES} value={life} onChange={setLife} />
    </Form>
  );
}
