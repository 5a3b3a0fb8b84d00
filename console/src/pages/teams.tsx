import type { Team, TeamMember } from '@resonantgenesis/sdk';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ArrowUp, Pencil, Plus, Trash2, X } from 'lucide-react';
import { useState } from 'react';
import { client } from '../api.ts';
import { may } from '../credential/credential.ts';
import {
  Confirm,
  Dialog,
  Empty,
  Field,
  ListState,
  Page,
  say,
  sayWhy,
  Table,
} from '../ui/parts.tsx';

const STRATEGIES: Readonly<Record<Team['strategy'], string>> = {
  sequential: 'one after the other',
  parallel: 'all at once',
  hierarchical: 'as the lead says',
};

/** Agents that do a turn together. */
export function Teams() {
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ['teams'],
    queryFn: async () => [...(await client.teams.list({ limit: 100 })).data],
  });
  const [editing, setEditing] = useState<Team | 'new' | null>(null);
  const [deleting, setDeleting] = useState<Team | null>(null);
  // A team is an agent as well.
  const changed = () =>
    Promise.all([
      queries.invalidateQueries({ queryKey: ['teams'] }),
      queries.invalidateQueries({ queryKey: ['agents'] }),
    ]);
  const mayWrite = may('teams:write');

  return (
    <Page
      title="Teams"
      actions={
        mayWrite && (
          <button className="button primary" type="button" onClick={() => setEditing('new')}>
            <Plus aria-hidden /> New team
          </button>
        )
      }
    >
      {(list.data ?? []).length === 0 ? (
        <ListState
          query={list}
          empty={
            <Empty title="No teams yet">
              A team is asked as an agent is. Its members do the turn together.
            </Empty>
          }
        />
      ) : (
        <Table label="Teams">
          <thead>
            <tr>
              <th>Name</th>
              <th>Strategy</th>
              <th>Members</th>
              <th>
                <span className="visually-hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.data?.map((team) => (
              <tr key={team.id}>
                <td>
                  <Link to="/play" search={{ agent: team.id }}>
                    {team.name}
                  </Link>
                  <div className="small muted mono">{team.id}</div>
                  {team.description && <div className="small muted">{team.description}</div>}
                </td>
                <td>
                  <span className="badge">{team.strategy}</span>
                </td>
                <td>
                  {team.members.map((member) => (
                    <div key={member.agent_id}>
                      <span className="mono">{member.agent_id}</span>{' '}
                      <span className="small muted">{member.role}</span>{' '}
                      {team.lead === member.agent_id && <span className="badge live">lead</span>}
                    </div>
                  ))}
                </td>
                <td className="actions">
                  {mayWrite && (
                    <>
                      <button
                        className="button quiet icon"
                        type="button"
                        onClick={() => setEditing(team)}
                      >
                        <Pencil aria-label={`Edit ${team.name}`} />
                      </button>
                      <button
                        className="button quiet icon"
                        type="button"
                        onClick={() => setDeleting(team)}
                      >
                        <Trash2 aria-label={`Delete ${team.name}`} />
                      </button>
                    </>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      {editing !== null && (
        <TeamForm
          team={editing === 'new' ? null : editing}
          onClose={() => {
            setEditing(null);
            void changed();
          }}
        />
      )}
      <Confirm
        open={deleting !== null}
        onOpenChange={() => setDeleting(null)}
        title={`Delete ${deleting?.name}?`}
        description="Its members and its sessions stay. New turns of it are refused."
        action="Delete"
        onConfirm={() => {
          if (deleting !== null) client.teams.delete(deleting.id).then(changed, sayWhy);
        }}
      />
    </Page>
  );
}

function TeamForm(props: { team: Team | null; onClose: () => void }) {
  const { team } = props;
  const [id, setId] = useState('');
  const [form, setForm] = useState({
    name: team?.name ?? '',
    description: team?.description ?? '',
    strategy: team?.strategy ?? 'sequential',
    lead: team?.lead ?? '',
    onFailure: team?.onFailure ?? 'fail',
  });
  const [members, setMembers] = useState<readonly TeamMember[]>(team?.members ?? []);
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });
  const leads = members.map((member) => member.agent_id);
  const isLed = form.strategy === 'hierarchical';

  async function save() {
    const params = {
      name: form.name,
      description: form.description || null,
      strategy: form.strategy,
      members,
      lead: isLed ? form.lead : null,
      onFailure: form.onFailure,
    };
    const saved =
      team === null
        ? await client.teams.create({ ...params, ...(id && { id }) })
        : await client.teams.update(team.id, params);
    say(`${saved.name} is saved`);
    props.onClose();
  }

  return (
    <Dialog open onOpenChange={props.onClose} title={team ? `Edit ${team.name}` : 'New team'}>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          save().catch(sayWhy);
        }}
      >
        <Field label="Name">
          <input
            className="input"
            required
            value={form.name}
            onChange={(event) => set({ name: event.target.value })}
          />
        </Field>
        {team === null && (
          <Field label="Id" hint="Left out, the server makes one">
            <input
              className="input mono"
              value={id}
              onChange={(event) => setId(event.target.value)}
            />
          </Field>
        )}
        <Field label="Description">
          <input
            className="input"
            value={form.description}
            onChange={(event) => set({ description: event.target.value })}
          />
        </Field>
        <Field label="Strategy">
          <select
            className="input"
            value={form.strategy}
            onChange={(event) => set({ strategy: event.target.value as Team['strategy'] })}
          >
            {Object.entries(STRATEGIES).map(([strategy, words]) => (
              <option key={strategy} value={strategy}>
                {strategy}: {words}
              </option>
            ))}
          </select>
        </Field>
        <Members members={members} onChange={setMembers} />
        {isLed && (
          <Field label="Lead">
            <select
              className="input"
              required
              value={leads.includes(form.lead) ? form.lead : ''}
              onChange={(event) => set({ lead: event.target.value })}
            >
              <option value="">Choose a member</option>
              {leads.map((lead) => (
                <option key={lead}>{lead}</option>
              ))}
            </select>
          </Field>
        )}
        <Field label="When a member fails">
          <select
            className="input"
            value={form.onFailure}
            onChange={(event) => set({ onFailure: event.target.value as Team['onFailure'] })}
          >
            <option value="fail">the turn fails</option>
            <option value="continue">the others go on</option>
          </select>
        </Field>
        <button className="button primary" type="submit" disabled={members.length === 0}>
          Save
        </button>
      </form>
    </Dialog>
  );
}

/** The members in their order, each agent once. */
function Members(props: {
  members: readonly TeamMember[];
  onChange: (members: readonly TeamMember[]) => void;
}) {
  const { members, onChange } = props;
  const agents = useQuery({
    queryKey: ['agents'],
    queryFn: async () => [...(await client.agents.list({ limit: 100 })).data],
  });
  const free = (agents.data ?? []).filter(
    (agent) => agent.engine !== 'team' && members.every((member) => member.agent_id !== agent.id),
  );
  return (
    <fieldset className="panel padded stack">
      <legend className="small">Members</legend>
      {agents.error && <p className="notice bad">{agents.error.message}</p>}
      {members.map((member, index) => (
        <div key={member.agent_id} className="row member">
          <span className="mono">{member.agent_id}</span>
          <input
            className="input grow"
            placeholder="Role"
            aria-label={`Role of ${member.agent_id}`}
            value={member.role ?? ''}
            onChange={(event) =>
              onChange(members.with(index, { ...member, role: event.target.value || null }))
            }
          />
          <button
            className="button quiet icon"
            type="button"
            disabled={index === 0}
            onClick={() => onChange(members.toSpliced(index, 1).toSpliced(index - 1, 0, member))}
          >
            <ArrowUp aria-label={`Move ${member.agent_id} up`} />
          </button>
          <button
            className="button quiet icon"
            type="button"
            onClick={() => onChange(members.toSpliced(index, 1))}
          >
            <X aria-label={`Leave ${member.agent_id} out`} />
          </button>
        </div>
      ))}
      <select
        className="input"
        aria-label="Add a member"
        value=""
        onChange={(event) => onChange([...members, { agent_id: event.target.value }])}
      >
        <option value="">Add a member …</option>
        {free.map((agent) => (
          <option key={agent.id} value={agent.id}>
            {agent.name}
          </option>
        ))}
      </select>
    </fieldset>
  );
}
