import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus } from 'lucide-react';
import { useState } from 'react';
import type { Listed } from '../api.ts';
import { call } from '../api.ts';
import { credential, may } from '../credential/credential.ts';
import {
  Ago,
  Confirm,
  Dialog,
  Empty,
  Field,
  ListState,
  Page,
  ShownOnce,
  sayWhy,
  Table,
} from '../ui/parts.tsx';

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
];
const SCOPES = [...NOUNS.flatMap((noun) => [`${noun}:read`, `${noun}:write`]), 'agents:serve'];
const LIVES: readonly [string, number][] = [
  ['never', 0],
  ['in a day', 86_400],
  ['in 30 days', 30 * 86_400],
  ['in a year', 365 * 86_400],
];

/** The organization's API keys. A key is shown once, when it is made. */
export function Keys() {
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ['keys'],
    queryFn: async () => (await call<Listed<Key>>('GET', '/v1/keys?limit=100')).data,
  });
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
      {(list.data ?? []).length === 0 ? (
        <ListState query={list} empty={<Empty title="No keys yet" />} />
      ) : (
        <Table label="Keys">
          <thead>
            <tr>
              <th>Name</th>
              <th>Scopes</th>
              <th>Made</th>
              <th>State</th>
              <th>
                <span className="visually-hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.data?.map((key) => (
              <tr key={key.id}>
                <td>
                  {key.name}
                  <div className="small muted mono">{key.id}</div>
                </td>
                <td className="mono small">{key.scopes.join(' ')}</td>
                <td className="muted">
                  <Ago time={key.created_at} />
                </td>
                <td>
                  {key.revoked_at ? (
                    <span className="badge bad">revoked</span>
                  ) : key.expires_at ? (
                    <span className="badge warn">
                      ends <Ago time={key.expires_at} />
                    </span>
                  ) : (
                    <span className="badge good">valid</span>
                  )}
                </td>
                <td className="actions">
                  {may('keys:write') && !key.revoked_at && (
                    <button
                      className="button quiet danger"
                      type="button"
                      onClick={() => setRevoking(key)}
                    >
                      Revoke
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
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
        onConfirm={() => {
          if (revoking !== null) call('DELETE', `/v1/keys/${revoking.id}`).then(changed, sayWhy);
        }}
      />
    </Page>
  );
}

function NewKey(props: { onClose: () => void }) {
  const own = credential.get()?.scopes ?? [];
  const offered = own.includes('*') ? ['*', ...SCOPES] : SCOPES.filter(may);
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState<readonly string[]>(['sessions:write', 'agents:read']);
  const [life, setLife] = useState(0);
  const [made, setMade] = useState<string | null>(null);

  async function make() {
    const answer = await call<{ key: string }>('POST', '/v1/keys', {
      name,
      scopes,
      ...(life > 0 && { expires_in: life }),
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
    <Dialog open onOpenChange={props.onClose} title="New key">
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          make().catch(sayWhy);
        }}
      >
        <Field label="Name">
          <input
            className="input"
            required
            value={name}
            onChange={(event) => setName(event.target.value)}
          />
        </Field>
        <fieldset className="panel padded">
          <legend className="small">Scopes</legend>
          <div style={{ columns: '3 140px' }}>
            {offered.map((scope) => (
              <label key={scope} className="row small mono" style={{ breakInside: 'avoid' }}>
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
        <Field label="Ends">
          <select
            className="input"
            value={life}
            onChange={(event) => setLife(Number(event.target.value))}
          >
            {LIVES.map(([word, seconds]) => (
              <option key={seconds} value={seconds}>
                {word}
              </option>
            ))}
          </select>
        </Field>
        <button className="button primary" type="submit" disabled={scopes.length === 0}>
          Make the key
        </button>
      </form>
    </Dialog>
  );
}
