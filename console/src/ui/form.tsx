/** A form in a dialog. What the server finds wrong stands at its field, the rest above the button. */
import { StreamError } from '@resonantgenesis/sdk';
import type { ChangeEvent, ReactNode } from 'react';
import { useState } from 'react';
import { Dialog, Field, Problems } from './parts.tsx';

export function Form(props: {
  title: string;
  description?: string;
  action: string;
  isIncomplete?: boolean;
  /** Throws what the server answers. */
  onSave: () => Promise<void>;
  onClose: () => void;
  children: ReactNode;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  const fields = fieldsOf(error);

  async function save() {
    setBusy(true);
    setError(null);
    try {
      await props.onSave();
    } catch (problem) {
      setError(problem instanceof Error ? problem : new Error(String(problem)));
    } finally {
      setBusy(false);
    }
  }

  return (
    <Dialog open onOpenChange={props.onClose} title={props.title} description={props.description}>
      <form
        className="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <Problems value={fields}>{props.children}</Problems>
        {error !== null && (
          <p className="notice bad" role="alert">
            {error.message}
          </p>
        )}
        <button className="button primary" type="submit" disabled={busy || props.isIncomplete}>
          {props.action}
        </button>
      </form>
    </Dialog>
  );
}

function fieldsOf(error: Error | null): Readonly<Record<string, string>> {
  const fields = error instanceof StreamError ? error.details.fields : undefined;
  return Object(fields) as Record<string, string>;
}

interface Labelled {
  readonly label: string;
  readonly name: string;
  readonly hint?: string;
}

/** A line of text, or several with `lines`. */
export function TextField(
  props: Labelled & {
    value: string;
    onChange: (value: string) => void;
    required?: boolean;
    type?: 'text' | 'url' | 'password' | 'number';
    placeholder?: string;
    isCode?: boolean;
    lines?: boolean;
  },
) {
  const { value, onChange, required, type, placeholder, isCode, lines, ...labels } = props;
  const common = {
    className: `input ${isCode ? 'mono' : ''}`,
    value,
    required,
    placeholder,
    autoComplete: 'off',
    onChange: (event: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) =>
      onChange(event.target.value),
  };
  return (
    <Field {...labels}>
      {lines ? <textarea {...common} /> : <input {...common} type={type} />}
    </Field>
  );
}

/** A choice of one among few; `options` from value to words. */
export function ChoiceField(
  props: Labelled & {
    value: string;
    onChange: (value: string) => void;
    options: Readonly<Record<string, string>>;
    required?: boolean;
  },
) {
  const { value, onChange, options, required, ...labels } = props;
  return (
    <Field {...labels}>
      <select
        className="input"
        value={value}
        required={required}
        onChange={(event) => onChange(event.target.value)}
      >
        {Object.entries(options).map(([option, words]) => (
          <option key={option} value={option}>
            {words}
          </option>
        ))}
      </select>
    </Field>
  );
}
