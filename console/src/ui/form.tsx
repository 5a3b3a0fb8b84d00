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
        <div className="row end">
          <button className="button" type="button" onClick={props.onClose}>
            Cancel
          </button>
          <button className="button primary" type="submit" disabled={busy || props.isIncomplete}>
            {props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function fieldsOf(error: Error | null): Readonly<Record<string, string>> {
  const fields = error instanceof StreamError ? error.details.fields : undefined;
  return Object(fields) as Record<string, string>;
}

/** The texts of a form by the API's names of its fields. `field` is what a field's component takes. */
export function useFields<Fields extends Readonly<Record<string, string>>>(initial: Fields) {
  const [fields, setFields] = useState<Readonly<Record<keyof Fields, string>>>(initial);
  const field = (name: keyof Fields & string) => ({
    name,
    value: fields[name],
    onChange: (value: string) => setFields({ ...fields, [name]: value }),
  });
  return { fields, field };
}

/** What a person wrote with spaces or commas between; null: nothing. */
export function wordsOf(text: string): readonly string[] | null {
  const words = text.split(/[\s,]+/).filter(Boolean);
  return words.length > 0 ? words : null;
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

interface ChoiceProps {
  readonly value: string;
  readonly onChange: (value: string) => void;
  /** From value to words. */
  readonly options: Readonly<Record<string, string>>;
  readonly required?: boolean;
  readonly disabled?: boolean;
  /** As wide as its words. */
  readonly fits?: boolean;
}

/** A choice of one among few. `label` is for those who do not see it; left out: a label is around. */
export function Choice(props: ChoiceProps & { label?: string }) {
  const { label, options, fits, onChange, ...rest } = props;
  return (
    <select
      {...rest}
      className={`input ${fits ? 'fit' : ''}`}
      aria-label={label}
      onChange={(event) => onChange(event.target.value)}
    >
      {Object.entries(options).map(([option, words]) => (
        <option key={option} value={option}>
          {words}
        </option>
      ))}
    </select>
  );
}

/** A choice with its label in a form. */
export function ChoiceField(props: Labelled & ChoiceProps) {
  const { label, name, hint, ...choice } = props;
  return (
    <Field label={label} name={name} {...(hint !== undefined && { hint })}>
      <Choice {...choice} />
    </Field>
  );
}
