import type { Organization, OrganizationParams } from '@resonantgenesis/sdk';
import { KeyRound, Pencil, Plus, Power } from 'lucide-react';
import { useState } from 'react';
import { operator, queries } from '../api.ts';
import { AskForBootstrapKey, useAdministrator } from '../credential/administrator.tsx';
import { Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Confirm, Empty, IconButton, Page, ShownOnce, say, sayWhy } from '../ui/parts.tsx';

/** The separate tenants of the server, for its operator. */
export function Organizations() {
  const key = useAdministrator();
  if (key !== null) return <OfServer bootstrapKey={key} />;
  return (
    <Page title="Organizations">
      <AskForBootstrapKey>
        Organizations are managed by the operator of the server. No token can do it, only the
        server's bootstrap key.
      </AskForBootstrapKey>
    </Page>
  );
}

type Open = 'new' | { readonly what: 'rename' | 'key' | 'disable'; readonly of: Organization };

function OfServer(props: { bootstrapKey: string }) {
  const { organizations } = operator(props.bootstrapKey);
  const listing = useListing(['organizations'], (page) => organizations.list(page));
  const [open, setOpen] = useState<Open | null>(null);
  const [secret, setSecret] = useState<string | null>(null);
  const close = () => setOpen(null);

  async function done(words: string) {
    close();
    say(words);
    await queries.invalidateQueries({ queryKey: ['organizations'] });
  }

  async function change(of: Organization, params: OrganizationParams, words: string) {
    await organizations.update(of.id, params);
    await done(words);
  }

  return (
    <Page
      title="Organizations"
      actions={
        <button className="button primary" type="button" onClick={() => setOpen('new')}>
          <Plus aria-hidden /> New organization
        </button>
      }
    >
      <List
        label="Organizations"
        listing={listing}
        idOf={(organization) => organization.id}
        empty={<Empty title="No organizations" />}
        columns={[
          { name: 'Name', cell: (organization) => organization.name },
          { name: 'Id', className: 'mono', cell: (organization) => organization.id },
          {
            name: 'Made',
            className: 'muted',
            cell: (organization) => <Ago time={organization.createdAt} />,
          },
          {
            name: 'State',
            cell: ({ disabledAt }) =>
              disabledAt === null ? (
                <span className="badge good">enabled</span>
              ) : (
                <span className="badge bad">
                  disabled <Ago time={disabledAt} />
                </span>
              ),
          },
        ]}
        actions={(of) => (
          <>
            <IconButton
              icon={Pencil}
              name={`Rename ${of.name}`}
              onClick={() => setOpen({ what: 'rename', of })}
            />
            <IconButton
              icon={KeyRound}
              name={`New key of ${of.name}`}
              onClick={() => setOpen({ what: 'key', of })}
            />
            <IconButton
              icon={Power}
              name={`${of.disabledAt === null ? 'Disable' : 'Enable'} ${of.name}`}
              onClick={() =>
                of.disabledAt === null
                  ? setOpen({ what: 'disable', of })
                  : change(of, { disabled: false }, `${of.name} is enabled`).catch(sayWhy)
              }
            />
          </>
        )}
      />
      {open === 'new' && (
        <NameForm
          title="New organization"
          action="Make the organization"
          name=""
          onClose={close}
          onSave={async (name) => {
            setSecret((await organizations.create({ name })).key?.key ?? '');
            await done(`${name} is made`);
          }}
        />
      )}
      {open !== null && open !== 'new' && open.what === 'rename' && (
        <NameForm
          title={`Rename ${open.of.name}`}
          action="Save"
          name={open.of.name}
          onClose={close}
          onSave={(name) => change(open.of, { name }, `It is ${name} now`)}
        />
      )}
      {open !== null && open !== 'new' && open.what === 'key' && (
        <NameForm
          title={`New key of ${open.of.name}`}
          description="For an organization that has lost its keys. It has every scope in it."
          action="Make the key"
          name="recovery"
          onClose={close}
          onSave={async (name) => {
            const made = await organizations.createKey(open.of.id, { name, scopes: ['*'] });
            setSecret(made.key ?? '');
            await done(`The key of ${open.of.name} is made`);
          }}
        />
      )}
      {open !== null && open !== 'new' && (
        <Confirm
          open={open.what === 'disable'}
          onOpenChange={close}
          title={`Disable ${open.of.name}?`}
          description="Its keys and tokens are refused, and its open streams end within two seconds. Nothing is deleted; you can enable it again."
          action="Disable"
          onConfirm={() => change(open.of, { disabled: true }, `${open.of.name} is disabled`)}
        />
      )}
      {secret !== null && (
        <ShownOnce
          title="The key of the organization"
          description="It has every scope in the organization. Copy it now: it is not shown again."
          secret={secret}
          onClose={() => setSecret(null)}
        />
      )}
    </Page>
  );
}

function NameForm(props: {
  title: string;
  description?: string;
  action: string;
  name: string;
  onSave: (name: string) => Promise<void>;
  onClose: () => void;
}) {
  const [name, setName] = useState(props.name);
  return (
    <Form {...props} onSave={() => props.onSave(name)}>
      <TextField label="Name" name="name" required value={name} onChange={setName} />
    </Form>
  );
}
