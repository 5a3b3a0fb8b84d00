import type { Agent, AgentParams, JsonObject } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { calls } from '../api.ts';
import { ChoiceField, Form, TextField, useFields, wordsOf } from '../ui/form.tsx';
import { useListing } from '../ui/list.tsx';
import { Managed } from '../ui/managed.tsx';
import { Empty, ShownOnce, say } from '../ui/parts.tsx';

const ENGINES = {
  llm: 'llm: a model and its tools',
  http: 'http: an endpoint of yours',
  worker: 'worker: a process of yours, which connects',
  guide: 'guide: the built-in example',
};

/** The agents of the organization and of the configuration. */
export function Agents() {
  const listing = useListing(['agents', 'list'], (page) => calls.agents.list(page));
  return (
    <Managed
      title="Agents"
      noun="agent"
      scope="agents:write"
      changes={['agents']}
      listing={listing}
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
        { name: 'Model', className: 'muted', cell: (agent) => agent.model },
        {
          name: 'From',
          className: 'muted',
          cell: (agent) => (agent.source === 'api' ? 'the API' : 'the configuration'),
        },
      ]}
      form={(agent, onClose) => <AgentForm agent={agent} onClose={onClose} />}
      rows={{
        nameOf: (agent) => agent.name,
        canChange: (agent) => agent.source === 'api' && agent.engine !== 'team',
        warning: 'Its sessions and their logs stay. New turns of it are refused.',
        onDelete: (agent) => calls.agents.delete(agent.id),
      }}
    />
  );
}

function AgentForm(props: { agent: Agent | null; onClose: () => void }) {
  const { agent } = props;
  const limitOf = (name: string) => String(agent?.defaults[name] ?? '');
  const { fields, field } = useFields({
    id: '',
    name: agent?.name ?? '',
    engine: agent?.engine ?? 'llm',
    instructions: agent?.instructions ?? '',
    model: agent?.model ?? '',
    tools: agent?.tools?.join(' ') ?? '',
    url: agent?.url ?? '',
    'defaults.max_steps': limitOf('max_steps'),
    'defaults.timeout_seconds': limitOf('timeout_seconds'),
    'defaults.concurrency': limitOf('concurrency'),
  });
  const [secret, setSecret] = useState<string | null>(null);
  const { id, name, engine } = fields;

  async function save() {
    const limits = {
      max_steps: fields['defaults.max_steps'],
      timeout_seconds: fields['defaults.timeout_seconds'],
      concurrency: fields['defaults.concurrency'],
    };
    const defaults: JsonObject = { ...agent?.defaults };
    for (const [limit, text] of Object.entries(limits)) {
      if (text) defaults[limit] = Number(text);
      else delete defaults[limit];
    }
    const params: AgentParams = {
      defaults,
      name,
      instructions: fields.instructions || null,
      model: fields.model || null,
      tools: wordsOf(fields.tools),
      ...(engine === 'http' && { url: fields.url }),
    };
    const saved =
      agent === null
        ? await calls.agents.create({ ...params, name, engine, ...(id && { id }) })
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
      <TextField label="Name" required {...field('name')} />
      {agent === null && (
        <>
          <TextField label="Id" hint="Left out, the server makes one" isCode {...field('id')} />
          <ChoiceField label="Engine" options={ENGINES} {...field('engine')} />
        </>
      )}
      {engine === 'http' && (
        <TextField
          label="URL"
          hint="The server posts turns to it, signed"
          required
          type="url"
          isCode
          {...field('url')}
        />
      )}
      <TextField label="Instructions" lines {...field('instructions')} />
      <TextField label="Model" isCode placeholder="openai:gpt-5-mini" {...field('model')} />
      <TextField
        label="Tools"
        hint="Names, with spaces between; empty: all that work"
        isCode
        {...field('tools')}
      />
      <div className="fields">
        <TextField label="Most steps" type="number" {...field('defaults.max_steps')} />
        <TextField label="Time-out (s)" type="number" {...field('defaults.timeout_seconds')} />
        <TextField label="Turns at once" type="number" {...field('defaults.concurrency')} />
      </div>
    </Form>
  );
}
