import type { Agent, AgentParams } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { Pencil, Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { calls, queries } from '../api.ts';
import { may } from '../credential/credential.ts';
import { ChoiceField, Form, TextField } from '../ui/form.tsx';
import { List, useListing } from '../ui/list.tsx';
import { Confirm, Empty, Page, ShownOnce, say } from '../ui/parts.tsx';

const ENGINES = {
  llm: 'llm: a model and its tools',
  http: 'http: an endpoint of yours',
  worker: 'worker: a process of yours, which connects',
  guide: 'guide: the built-in example',
};

/** The agents of the organization and of the configuration. */
export function Agents() {
  const listing = useListing(['agents', 'list'], (cursor) =>
    calls.agents.list({ limit: 50, cursor }),
  );
  const [editing, setEditing] = useState<Agent | 'new' | null>(null);
  const [deleting, setDeleting] = useState<Agent | null>(null);
  const changed = () => queries.invalidateQueries({ queryKey: ['agents'] });
  const mayWrite = may('agents:write');

  return (
    <Page
      title="Agents"
      actions={
        mayWrite && (
          <button className="button primary" type="button" onClick={() => setEditing('new')}>
            <Plus aria-hidden /> New agent
          </button>
        )
      }
    >
      <List
        label="Agents"
        listing={listing}
        idOf={(agent) => agent.id}
        empty={
          <Empty title="No agents yet">An agent answers goals, with a model or as your code.</Empty>
        }
        columns={[
          {
            name: 'Name',
            cell: (agent) => (
              <>
                <Link to="/play" search={{ agent: agent.id }}>
                  {agent.name}
                </Link>
                {agent.description && <div className="small muted">{agent.description}</div>}
              </>
            ),
          },
          { name: 'Id', className: 'mono', cell: (agent) => agent.id },
          { name: 'Engine', cell: (agent) => <span className="badge">{agent.engine}</span> },
          { name: 'Model', className: 'muted', cell: (agent) => agent.model ?? '–' },
          {
            name: 'From',
            className: 'muted',
            cell: (agent) => (agent.source === 'api' ? 'the API' : 'the configuration'),
          },
        ]}
        actions={
          mayWrite &&
          ((agent) =>
            agent.source === 'api' &&
            agent.engine !== 'team' && (
              <>
                <button
                  className="button quiet icon"
                  type="button"
                  onClick={() => setEditing(agent)}
                >
                  <Pencil aria-label={`Edit ${agent.name}`} />
                </button>
                <button
                  className="button quiet icon"
                  type="button"
                  onClick={() => setDeleting(agent)}
                >
                  <Trash2 aria-label={`Delete ${agent.name}`} />
                </button>
              </>
            ))
        }
      />
      {editing !== null && (
        <AgentForm
          agent={editing === 'new' ? null : editing}
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
        description="Its sessions and their logs stay. New turns of it are refused."
        action="Delete"
        onConfirm={() => deleting && calls.agents.delete(deleting.id).then(changed)}
      />
    </Page>
  );
}

function AgentForm(props: { agent: Agent | null; onClose: () => void }) {
  const { agent } = props;
  const [id, setId] = useState('');
  const [engine, setEngine] = useState(agent?.engine ?? 'llm');
  const [form, setForm] = useState({
    name: agent?.name ?? '',
    instructions: agent?.instructions ?? '',
    model: agent?.model ?? '',
    tools: agent?.tools?.join(' ') ?? '',
    url: agent?.url ?? '',
  });
  const [secret, setSecret] = useState<string | null>(null);
  const set = (change: Partial<typeof form>) => setForm({ ...form, ...change });

  async function save() {
    const names = form.tools.split(/[\s,]+/).filter(Boolean);
    const params: AgentParams = {
      name: form.name,
      instructions: form.instructions || null,
      model: form.model || null,
      tools: names.length > 0 ? names : null,
      ...(engine === 'http' && { url: form.url }),
    };
    const saved =
      agent === null
        ? await calls.agents.create({ ...params, name: form.name, engine, ...(id && { id }) })
        : await calls.agents.update(agent.id, params);
    say(`${saved.name} is saved`);
    if (saved.secret) setSecret(saved.secret);
    else props.onClose();
  }

  if (secret !== null) {
    return (
      <ShownOnce
        title="The secret of the endpoint"
        description="Requests to it are signed with this. Copy it now: it is not shown again."
        secret={secret}
        onClose={props.onClose}
      />
    );
  }
  return (
    <Form
      title={agent ? `Edit ${agent.name}` : 'New agent'}
      action="Save"
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
      {agent === null && (
        <>
          <TextField
            label="Id"
            name="id"
            hint="Left out, the server makes one"
            isCode
            value={id}
            onChange={setId}
          />
          <ChoiceField
            label="Engine"
            name="engine"
            options={ENGINES}
            value={engine}
            onChange={setEngine}
          />
        </>
      )}
      {engine === 'http' && (
        <TextField
          label="URL"
          name="url"
          hint="The server posts turns to it, signed"
          required
          type="url"
          isCode
          value={form.url}
          onChange={(url) => set({ url })}
        />
      )}
      <TextField
        label="Instructions"
        name="instructions"
        lines
        value={form.instructions}
        onChange={(instructions) => set({ instructions })}
      />
      <TextField
        label="Model"
        name="model"
        isCode
        placeholder="openai:gpt-5-mini"
        value={form.model}
        onChange={(model) => set({ model })}
      />
      <TextField
        label="Tools"
        name="tools"
        hint="Names, with spaces between; empty: all that work"
        isCode
        value={form.tools}
        onChange={(tools) => set({ tools })}
      />
    </Form>
  );
}
