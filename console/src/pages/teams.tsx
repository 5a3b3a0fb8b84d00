import type { Team, TeamMember } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { ArrowUp, X } from 'lucide-react';
import { useState } from 'react';
import { useAgents } from '../agents.ts';
import { calls } from '../api.ts';
import { Choice, ChoiceField, Form, TextField, useFields } from '../ui/form.tsx';
import { useListing } from '../ui/list.tsx';
import { Managed } from '../ui/managed.tsx';
import { Empty, IconButton, say } from '../ui/parts.tsx';

const STRATEGIES: Readonly<Record<Team['strategy'], string>> = {
  sequential: 'sequential: one after the other',
  parallel: 'parallel: all at once',
  hierarchical: 'hierarchical: as the lead says',
};

/** Agents that do a turn together. */
export function Teams() {
  const listing = useListing(['teams'], (page) => calls.teams.list(page));
  return (
    <Managed
      title="Teams"
      noun="team"
      scope="teams:write"
      // A team is an agent as well.
      changes={['teams', 'agents']}
      listing={listing}
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
      form={(team, onClose) => <TeamForm team={team} onClose={onClose} />}
      rows={{
        nameOf: (team) => team.name,
        warning: 'Its members and its sessions stay. New turns of it are refused.',
        onDelete: (team) => calls.teams.delete(team.id),
      }}
    />
  );
}

function TeamForm(props: { team: Team | null; onClose: () => void }) {
  const { team } = props;
  const { fields, field } = useFields({
    id: '',
    name: team?.name ?? '',
    description: team?.description ?? '',
    strategy: team?.strategy ?? 'sequential',
    lead: team?.lead ?? '',
    on_failure: team?.onFailure ?? 'fail',
  });
  const [members, setMembers] = useState<readonly TeamMember[]>(team?.members ?? []);
  const leads = members.map((member) => member.agent_id);
  const isLed = fields.strategy === 'hierarchical';

  async function save() {
    const params = {
      name: fields.name,
      description: fields.description || null,
      strategy: fields.strategy as Team['strategy'],
      members,
      lead: isLed ? fields.lead : null,
      onFailure: fields.on_failure as Team['onFailure'],
    };
    const saved =
      team === null
        ? await calls.teams.create({ ...params, ...(fields.id && { id: fields.id }) })
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
      <TextField label="Name" required {...field('name')} />
      {team === null && (
        <TextField label="Id" hint="Left out, the server makes one" isCode {...field('id')} />
      )}
      <TextField label="Description" {...field('description')} />
      <ChoiceField label="Strategy" options={STRATEGIES} {...field('strategy')} />
      <Members members={members} onChange={setMembers} />
      {isLed && (
        <ChoiceField
          label="Lead"
          required
          options={{
            '': 'Choose a member',
            ...Object.fromEntries(leads.map((lead) => [lead, lead])),
          }}
          {...field('lead')}
          value={leads.includes(fields.lead) ? fields.lead : ''}
        />
      )}
      <ChoiceField
        label="When a member fails"
        options={{ fail: 'the turn fails', continue: 'the others go on' }}
        {...field('on_failure')}
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
  const agents = useAgents();
  const free = (agents.data ?? []).filter(
    (agent) => agent.engine !== 'team' && members.every((member) => member.agent_id !== agent.id),
  );
  return (
    <fieldset className="group stack">
      <legend>Members</legend>
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
          <IconButton
            icon={ArrowUp}
            name={`Move ${member.agent_id} up`}
            disabled={index === 0}
            onClick={() => onChange(members.toSpliced(index, 1).toSpliced(index - 1, 0, member))}
          />
          <IconButton
            icon={X}
            name={`Leave ${member.agent_id} out`}
            onClick={() => onChange(members.toSpliced(index, 1))}
          />
        </div>
      ))}
      <Choice
        label="Add a member"
        options={{
          '': 'Add a member …',
          ...Object.fromEntries(free.map((agent) => [agent.id, agent.name])),
        }}
        value=""
        onChange={(id) => onChange([...members, { agent_id: id }])}
      />
    </fieldset>
  );
}
