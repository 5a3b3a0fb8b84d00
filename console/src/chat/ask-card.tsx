import type { Ask } from '@resonantgenesis/sdk';
import { useState } from 'react';
import { Ago, Json, sayWhy } from '../ui/parts.tsx';
import { AskFields, formOf, initialOf, payloadOf } from './ask-fields.tsx';

const TITLES = {
  approval: 'Approval needed',
  input: 'The agent asks',
  tool: 'A tool of the client is called',
} as const;

/**
 * What a turn asks, answered in place. `onAnswer` gets true or false, or a payload; without it the card
 * only shows what is asked.
 */
export function AskCard(props: {
  ask: Ask;
  onAnswer: ((payload: unknown) => Promise<void>) | undefined;
}) {
  const { ask, onAnswer } = props;
  const [busy, setBusy] = useState(false);
  const choices = Array.isArray(ask.schema?.enum) ? ask.schema.enum.map(String) : null;
  const isText = ask.schema === undefined || ask.schema.type === 'string';
  const [text, setText] = useState(choices?.[0] ?? '');
  const form = formOf(ask.schema);
  const [values, setValues] = useState(() => (form ? initialOf(form) : {}));

  async function answer(payload: unknown) {
    setBusy(true);
    try {
      await onAnswer?.(payload);
    } catch (error) {
      sayWhy(error);
    } finally {
      setBusy(false);
    }
  }

  function send() {
    if (form) return answer(payloadOf(form, values));
    if (isText) return answer(text);
    try {
      return answer(JSON.parse(text));
    } catch {
      return sayWhy('This must be JSON.');
    }
  }

  return (
    <form
      className="ask"
      aria-label={TITLES[ask.kind]}
      onSubmit={(event) => {
        event.preventDefault();
        void (ask.kind === 'approval' ? answer(true) : send());
      }}
    >
      <div className="row spread">
        <strong>{TITLES[ask.kind]}</strong>
        <span className="small muted">
          ends <Ago time={ask.expiresAt} />
        </span>
      </div>
      {ask.message && <p>{ask.message}</p>}
      {ask.tool && <code>{ask.tool}</code>}
      {ask.args && <Json value={ask.args} />}
      {onAnswer &&
        ask.kind !== 'approval' &&
        (form ? (
          <AskFields form={form} values={values} onChange={setValues} />
        ) : choices ? (
          <select
            className="input"
            aria-label="Your answer"
            value={text}
            onChange={(event) => setText(event.target.value)}
          >
            {choices.map((choice) => (
              <option key={choice}>{choice}</option>
            ))}
          </select>
        ) : (
          <textarea
            className={`input ${isText ? '' : 'mono'}`}
            aria-label="Your answer"
            placeholder={isText ? 'Your answer' : 'Your answer as JSON'}
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        ))}
      {onAnswer && (
        <div className="row">
          <button className="button primary" type="submit" disabled={busy}>
            {ask.kind === 'approval' ? 'Approve' : 'Send'}
          </button>
          <button
            className="button danger"
            type="button"
            disabled={busy}
            onClick={() => void answer(false)}
          >
            Decline
          </button>
        </div>
      )}
    </form>
  );
}
