import type { ApiKey } from '@resonantgenesis/sdk';
import { SCOPES } from '@resonantgenesis/sdk/admin';
import { Plus } from 'lucide-react';
import { useState } from 'react';
import { admin, queries } from '../api.ts';
import { credential, may } from '../credential/credential.ts';
import { ChoiceField, Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Confirm, Empty, Page, ShownOnce } from '../ui/parts.tsx';

/** Seconds that a key lives, in words. */
const LIVES = {
  '': 'never',
  86400: 'in a day',
  2592000: 'in 30 days',
  31536000: 'in a year',
};

/** The organization's API keys. A key is shown once, when it is made. */
export function Keys() {
  const listing = useListing(['keys'], (page) => admin.keys.list(page));
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<ApiKey | null>(null);
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
          {
            name: 'Scopes',
            cell: (key) =>
              key.scopes.includes('*') ? (
                'everything'
              ) : (
                <span className="mono">{key.scopes.join(' ')}</span>
              ),
          },
          { name: 'Made', className: 'muted', cell: (key) => <Ago time={key.createdAt} /> },
          { name: 'State', cell: (key) => <KeyState of={key} /> },
        ]}
        actions={
          may('keys:write') &&
          ((key) =>
            !key.revokedAt && (
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
        onConfirm={() => revoking && admin.keys.revoke(revoking.id).then(changed)}
      />
    </Page>
  );
}

function KeyState(props: { of: ApiKey }) {
  const { revokedAt, expiresAt } = props.of;
  if (revokedAt) return <span className="badge bad">revoked</span>;
  if (!expiresAt) return <span className="badge good">valid</span>;
  const has = Date.parse(expiresAt) > Date.now() ? 'ends' : 'ended';
  return (
    <span className={`badge ${has === 'ends' ? 'warn' : ''}`}>
      {has} <Ago time={expiresAt} />
    </span>
  );
}

/** What a client needs that asks an agent. Without `sessions:read` it could not resume. */
const STREAMING = ['sessions:read', 'sessions:write', 'agents:read'];

function NewKey(props: { onClose: () => void }) {
  const own = credential.get()?.scopes ?? [];
  const offered = own.includes('*') ? SCOPES : SCOPES.filter(may);
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<readonly string[]>(STREAMING);
  const [life, setLife] = useState('');
  const [made, setMade] = useState<string | null>(null);

  async function make() {
    const expiresIn = life ? Number(life) : undefined;
    setMade((await admin.keys.create({ name, scopes, expiresIn })).key ?? '');
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
      <fieldset className="group">
        <legend>Scopes</legend>
        <div className="scopes">
          {offered.map((scope) => (
            <label key={scope} className="row mono">
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
