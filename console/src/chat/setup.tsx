/** What a turn is asked with besides its goal. */
import type { ExecuteParams } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { admin } from '../api.ts';
import { may } from '../credential/credential.ts';
import { Field } from '../ui/parts.tsx';

export interface Setup {
  readonly context: string;
  readonly maxSteps: string;
  readonly timeout: string;
  readonly model: string;
  /** Null: the agent's own. */
  readonly tools: readonly string[] | null;
}
export const NO_SETUP: Setup = { context: '', maxSteps: '', timeout: '', model: '', tools: null };

/** The parameters of an execute. Throws an Error for people if the context is no object. */
export function paramsOf(setup: Setup): Partial<ExecuteParams> {
  return {
    ...(setup.context.trim() && { context: contextOf(setup.context) }),
    ...(setup.maxSteps && { maxSteps: Number(setup.maxSteps) }),
    ...(setup.timeout && { timeoutSeconds: Number(setup.timeout) }),
    ...(setup.model && { model: setup.model }),
    ...(setup.tools && { tools: [...setup.tools] }),
  };
}

function contextOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (value instanceof Object && !Array.isArray(value)) return { ...value };
  } catch {
    // Said below.
  }
  throw new Error('The context must be a JSON object, such as {"locale": "en"}.');
}

/** The form of it. */
export function SetupFields(props: { setup: Setup; onChange: (setup: Setup) => void }) {
  const { setup, onChange } = props;
  return (
    <>
      <Field label="Context" hint="A JSON object that the agent reads">
        <textarea
          className="input mono"
          placeholder="{}"
          value={setup.context}
          onChange={(event) => onChange({ ...setup, context: event.target.value })}
        />
      </Field>
      <Field label="Most steps">
        <input
          className="input"
          type="number"
          min={1}
          placeholder="the agent's own"
          value={setup.maxSteps}
          onChange={(event) => onChange({ ...setup, maxSteps: event.target.value })}
        />
      </Field>
      <Field label="Time-out in seconds">
        <input
          className="input"
          type="number"
          min={1}
          placeholder="the agent's own"
          value={setup.timeout}
          onChange={(event) => onChange({ ...setup, timeout: event.target.value })}
        />
      </Field>
      <Field label="Model">
        <input
          className="input"
          placeholder="the agent's own"
          value={setup.model}
          onChange={(event) => onChange({ ...setup, model: event.target.value })}
        />
      </Field>
      {may('agents:read') && (
        <ToolsField tools={setup.tools} onChange={(tools) => onChange({ ...setup, tools })} />
      )}
    </>
  );
}

function ToolsField(props: { tools: Setup['tools']; onChange: (tools: Setup['tools']) => void }) {
  const { tools, onChange } = props;
  const offered = useQuery({
    queryKey: ['tools'],
    queryFn: async () => (await admin.tools.list()).data,
    enabled: tools !== null,
  });
  return (
    <fieldset className="field group">
      <legend>Tools</legend>
      <label className="row small">
        <input
          type="checkbox"
          checked={tools === null}
          onChange={() => onChange(tools === null ? [] : null)}
        />
        The agent's own
      </label>
      {tools !== null && offered.error && (
        <small className="problem">{offered.error.message}</small>
      )}
      {tools !== null &&
        offered.data?.map(({ name, description, problem }) => (
          <label key={name} className="row small" title={problem ?? description}>
            <input
              type="checkbox"
              disabled={problem !== null}
              checked={tools.includes(name)}
              onChange={() =>
                onChange(
                  tools.includes(name) ? tools.filter((one) => one !== name) : [...tools, name],
                )
              }
            />
            <code>{name}</code>
          </label>
        ))}
    </fieldset>
  );
}
