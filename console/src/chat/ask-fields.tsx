/** The fields of a form that an ask's JSON Schema describes. */
import { ChoiceField, TextField } from '../ui/form.tsx';

type Values = Readonly<Record<string, string>>;

/** A property that one field can hold. */
interface Property {
  readonly type?: unknown;
  readonly title?: unknown;
  readonly description?: unknown;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
}

export interface AskForm {
  readonly properties: readonly (readonly [string, Property])[];
  readonly required: ReadonlySet<string>;
}

const ONE_FIELD = new Set<unknown>(['string', 'number', 'integer', 'boolean']);

/** The form of a schema; null, where its values are deeper than fields are. */
export function formOf(schema: Readonly<Record<string, unknown>> | undefined): AskForm | null {
  if (schema?.type !== 'object') return null;
  const properties = Object.entries(Object(schema.properties) as Record<string, Property>);
  const isFlat = properties.every(([, one]) => Array.isArray(one.enum) || ONE_FIELD.has(one.type));
  if (properties.length === 0 || !isFlat) return null;
  const required = Array.isArray(schema.required) ? schema.required.map(String) : [];
  return { properties, required: new Set(required) };
}

/** What stands in the fields at first. */
export function initialOf({ properties, required }: AskForm): Values {
  return Object.fromEntries(
    properties.map(([name, one]) => {
      const first = required.has(name) ? optionsOf(one)[0] : undefined;
      return [name, String(one.default ?? first ?? '')];
    }),
  );
}

/** The payload that the fields stand for. What was left out is not sent. */
export function payloadOf(form: AskForm, values: Values): Record<string, unknown> {
  const given = form.properties.filter(
    ([name, one]) => values[name] || (one.type === 'string' && form.required.has(name)),
  );
  return Object.fromEntries(
    given.map(([name, one]) => [name, payloadFor(one, values[name] ?? '')]),
  );
}

function payloadFor(property: Property, text: string): unknown {
  if (property.enum) return property.enum.find((one) => String(one) === text);
  if (property.type === 'boolean') return text === 'true';
  return property.type === 'string' ? text : Number(text);
}

function optionsOf(property: Property): readonly string[] {
  if (property.enum) return property.enum.map(String);
  return property.type === 'boolean' ? ['false', 'true'] : [];
}

const WORDS: Readonly<Record<string, string>> = { true: 'yes', false: 'no' };

export function AskFields(props: {
  form: AskForm;
  values: Values;
  onChange: (values: Values) => void;
}) {
  const { form, values, onChange } = props;
  return form.properties.map(([name, one]) => {
    const isRequired = form.required.has(name);
    const options = optionsOf(one);
    const common = {
      name,
      label: `${one.title ?? name}${isRequired ? '' : ' (optional)'}`,
      ...(typeof one.description === 'string' && { hint: one.description }),
      value: values[name] ?? '',
      required: isRequired,
      onChange: (value: string) => onChange({ ...values, [name]: value }),
    };
    if (options.length === 0) {
      return <TextField key={name} type={one.type === 'string' ? 'text' : 'number'} {...common} />;
    }
    const words = options.map((option) => [option, one.enum ? option : (WORDS[option] ?? option)]);
    const all = isRequired ? words : [['', '–'], ...words];
    return <ChoiceField key={name} options={Object.fromEntries(all)} {...common} />;
  });
}
