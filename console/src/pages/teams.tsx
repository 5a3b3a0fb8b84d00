import type { Team, TeamMember } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ArrowUp, Pencil, Plus, Trash2, X } from 'lucide-react';
import { useState } from 'react';
import { calls, queries } from '../api.ts';
import { may } from '../credential/credential.ts';
import { ChoiceField, Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Confirm, Empty, Page, say } from '../ui/parts.tsx';

const STRATEGIES: Readonly<Record<Team['strategy'], string>> = {
  sequential: 'sequential: one after the other',
  parallel: 'parallel: all at once',
  hierarchical: 'hierarchical: as the lead says',
};

/** Agents that do a turn together. */
export function Teams() {
  const listing = useListing(['teams'], (cursor) => calls.teams.list({ limit: 50, cursor }));
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
      <List
        label="Teams"
        listing={listing}
        idOf={(team) => team.id}
        empty={
          <Empty title="No teams yet">
            A team is asked as an agent is. Its members do the turn together.
          </Empty>
        }
        columns={[
          {
            name: 'Name',
            cell: (team) => (
              <>
                <Link to="/play" search={{ agent: team.id }}>
                  {team.name}
                </Link>
                <div className="small muted mono">{team.id}</div>
                {team.description && <div className="small muted">{team.description}</div>}
              </>
            ),
          },
          { name: 'Strategy', cell: (team) => <span className="badge">{team.strategy}</span> },
          {
            name: 'Members',
            cell: (team) =>
              team.members.map((member) => (
                <div key={member.agent_id}>
                  <span className="mono">{member.agent_id}</span>{' '}
                  <span className="small muted">{member.role}</span>{' '}
                  {team.lead === member.agent_id && <span className="badge live">lead</span>}
                </div>
              )),
          },
        ]}
        actions={
          mayWrite &&
          ((team) => (
            <>
              <button className="button quiet icon" type="button" onClick={() => setEditing(team)}>
                <Pencil aria-label={`Edit ${team.name}`} />
              </button>
              <button className="button quiet icon" type="button" onClick={() => setDeleting(team)}>
                <Trash2 aria-label={`Delete ${team.name}`} />
              </button>
            </>
          ))
        }
      />
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
        onConfirm={() => deleting && calls.teams.delete(deleting.id).then(changed)}
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
        ? await calls.teams.create({ ...params, ...(id && { id }) })
        : await calls.teams.update(team.id, params);
    say(`${saved.name} is saved`);
    props.onClose();
  }

  return (
    <Form
      title={team ? `Edit ${team.name}` : 'New team'}
      action="Save"
      isIncomplete={members.length === 0}
      onSave={save}
      onClose={props.onClose}
    >
      <TextField
        label="Name"
        name="name"
        required
        value={form.name}
        onChange={(name) => set({ name })}
      />
      {team === null && (
        <TextField
          label="Id"
          name="id"
          hint="Left out, the server makes one"
          isCode
          value={id}
          onChange={setId}
        />
      )}
      <TextField
        label="Description"
        name="description"
        value={form.description}
        onChange={(description) => set({ description })}
      />
      <ChoiceField
        label="Strategy"
        name="strategy"
        options={STRATEGIES}
        value={form.strategy}
        onChange={(strategy) => set({ strategy: strategy as Team['strategy'] })}
      />
      <Members members={members} onChange={setMembers} />
      {isLed && (
        <ChoiceField
          label="Lead"
          name="lead"
          required
          options={{
            '': 'Choose a member',
            ...Object.fromEntries(leads.map((lead) => [lead, lead])),
          }}
          value={leads.includes(form.lead) ? form.lead : ''}
          onChange={(lead) => set({ lead })}
        />
      )}
      <ChoiceField
        label="When a member fails"
        name="on_failure"
        options={{ fail: 'the turn fails', continue: 'the others go on' }}
        value={form.onFailure}
        onChange={(onFailure) => set({ onFailure: onFailure as Team['onFailure'] })}
      />
    </Form>
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
    queryFn: async () => [...(await calls.agents.list({ limit: 100 })).data],
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
