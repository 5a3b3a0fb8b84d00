import type { Agent, AgentParams } from '@resonantgenesis/sdk';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Pencil, Plus, Trash2 } from 'lucide-react';
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
  ShownOnce,
  say,
  sayWhy,
  Table,
} from '../ui/parts.tsx';

const ENGINES = ['llm', 'http', 'worker', 'guide'];

/** The agents of the organization and of the configuration. */
export function Agents() {
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ['agents'],
    queryFn: async () => [...(await client.agents.list({ limit: 100 })).data],
  });
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
      {(list.data ?? []).length === 0 ? (
        <ListState query={list} empty={<Empty title="No agents yet" />} />
      ) : (
        <Table label="Agents">
          <thead>
            <tr>
              <th>Name</th>
              <th>Id</th>
              <th>Engine</th>
              <th>Model</th>
              <th>From</th>
              <th>
                <span className="visually-hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.data?.map((agent) => (
              <tr key={agent.id}>
                <td>
                  <Link to="/play" search={{ agent: agent.id }}>
                    {agent.name}
                  </Link>
                  {agent.description && <div className="small muted">{agent.description}</div>}
                </td>
                <td className="mono">{agent.id}</td>
                <td>
                  <span className="badge">{agent.engine}</span>
                </td>
                <td className="muted">{agent.model ?? '–'}</td>
                <td className="muted">{agent.source}</td>
                <td className="actions">
                  {mayWrite && agent.source === 'api' && agent.engine !== 'team' && (
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
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
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
        onConfirm={() => {
          if (deleting !== null) client.agents.delete(deleting.id).then(changed, sayWhy);
        }}
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
        ? await client.agents.create({ ...params, name: form.name, engine, ...(id && { id }) })
        : await client.agents.update(agent.id, params);
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
    <Dialog open onOpenChange={props.onClose} title={agent ? `Edit ${agent.name}` : 'New agent'}>
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
        {agent === null && (
          <>
            <Field label="Id" hint="Left out, the server makes one">
              <input
                className="input mono"
                value={id}
                onChange={(event) => setId(event.target.value)}
              />
            </Field>
            <Field label="Engine">
              <select
                className="input"
                value={engine}
                onChange={(event) => setEngine(event.target.value)}
              >
                {ENGINES.map((one) => (
                  <option key={one}>{one}</option>
                ))}
              </select>
            </Field>
          </>
        )}
        {engine === 'http' && (
          <Field label="URL" hint="The server posts turns to it, signed">
            <input
              className="input mono"
              required
              type="url"
              value={form.url}
              onChange={(event) => set({ url: event.target.value })}
            />
          </Field>
        )}
        <Field label="Instructions">
          <textarea
            className="input"
            value={form.instructions}
            onChange={(event) => set({ instructions: event.target.value })}
          />
        </Field>
        <Field label="Model">
          <input
            className="input mono"
            placeholder="openai:gpt-5-mini"
            value={form.model}
            onChange={(event) => set({ model: event.target.value })}
          />
        </Field>
        <Field label="Tools" hint="Names, with spaces between; empty: all that work">
          <input
            className="input mono"
            value={form.tools}
            onChange={(event) => set({ tools: event.target.value })}
          />
        </Field>
        <button className="button primary" type="submit">
          Save
        </button>
      </form>
    </Dialog>
  );
}
