/** The small parts that pages are made of. */
import { CircleAlert, Copy, Inbox, X } from 'lucide-react';
import type { ReactNode } from 'react';
import { useEffect, useId, useRef, useSyncExternalStore } from 'react';

export function Field(props: { label: string; hint?: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is its child
    <label className="field">
      <span>{props.label}</span>
      {props.children}
      {props.hint && <small className="muted">{props.hint}</small>}
    </label>
  );
}

export function Page(props: { title: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <div className="page">
      <header className="row spread">
        <h1>{props.title}</h1>
        <div className="row">{props.actions}</div>
      </header>
      {props.children}
    </div>
  );
}

export function Empty(props: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Inbox aria-hidden />
      <h2>{props.title}</h2>
      <div className="muted">{props.children}</div>
    </div>
  );
}

/** A table that scrolls sideways where it must, also by the keyboard. */
export function Table(props: { label: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse
    <section className="panel scroll-x" aria-label={props.label} tabIndex={0}>
      <table className="table">{props.children}</table>
    </section>
  );
}

/** What a list shows while it has no rows: that it loads, why it failed, or that it is empty. */
export function ListState(props: {
  query: { isPending: boolean; error: Error | null; refetch: () => unknown };
  empty: ReactNode;
}) {
  const { query } = props;
  if (query.isPending) {
    return (
      <div className="stack panel padded" role="status" aria-label="Loading">
        <div className="skeleton" />
        <div className="skeleton" />
        <div className="skeleton" />
      </div>
    );
  }
  if (query.error !== null) {
    return (
      <div className="empty" role="alert">
        <CircleAlert aria-hidden />
        <h2>This could not be loaded</h2>
        <p className="muted">{query.error.message}</p>
        <button className="button" type="button" onClick={() => query.refetch()}>
          Try again
        </button>
      </div>
    );
  }
  return props.empty;
}

/** A dialog of the browser's own: it keeps the focus, and Escape closes it. */
export function Dialog(props: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: string | undefined;
  children: ReactNode;
}) {
  const place = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    if (props.open) place.current?.showModal();
  }, [props.open]);
  if (!props.open) return null;
  return (
    <dialog
      ref={place}
      className="dialog"
      aria-labelledby={title}
      onClose={() => props.onOpenChange(false)}
    >
      <div className="stack">
        <div className="row spread">
          <h2 id={title}>{props.title}</h2>
          <button
            className="button quiet icon"
            type="button"
            onClick={() => props.onOpenChange(false)}
          >
            <X aria-label="Close" />
          </button>
        </div>
        {props.description && <p className="muted">{props.description}</p>}
        {props.children}
      </div>
    </dialog>
  );
}

/** Asks before something is lost. */
export function Confirm(props: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description: string;
  action: string;
  onConfirm: () => void;
}) {
  return (
    <Dialog {...props}>
      <div className="row end">
        <button className="button" type="button" onClick={() => props.onOpenChange(false)}>
          Keep
        </button>
        <button
          className="button primary danger"
          type="button"
          onClick={() => {
            props.onConfirm();
            props.onOpenChange(false);
          }}
        >
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}

/** A secret that the server tells this once. */
export function ShownOnce(props: {
  title: string;
  description: string;
  secret: string;
  onClose: () => void;
}) {
  return (
    <Dialog open onOpenChange={props.onClose} title={props.title} description={props.description}>
      <div className="row">
        <code className="pre grow">{props.secret}</code>
        <button className="button" type="button" onClick={() => copy(props.secret).catch(sayWhy)}>
          <Copy aria-hidden /> Copy
        </button>
      </div>
      <button className="button primary" type="button" onClick={props.onClose}>
        I have it
      </button>
    </Dialog>
  );
}

const LOOK: Readonly<Record<string, string>> = {
  success: 'good',
  completed: 'good',
  running: 'live',
  streaming: 'live',
  sending: 'live',
  queued: 'live',
  waiting: 'warn',
  cancelled: '',
  failed: 'bad',
  timeout: 'bad',
};

export function Status(props: { status: string }) {
  const look = LOOK[props.status] ?? '';
  return (
    <span className={`badge ${look}`}>
      <span className={`dot ${look === 'live' ? 'pulse' : ''}`} aria-hidden />
      {props.status}
    </span>
  );
}

export function Json(props: { value: unknown }) {
  return <pre className="pre">{JSON.stringify(props.value, null, 2)}</pre>;
}

// -- short messages ------------------------------------------------------------------------

interface Toast {
  readonly id: number;
  readonly text: string;
  readonly bad: boolean;
}
const SHOWN_FOR = 5_000;
let toasts: readonly Toast[] = [];
let lastId = 0;
const listeners = new Set<() => void>();

function setToasts(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

export function say(text: string, bad = false): void {
  lastId += 1;
  const id = lastId;
  setToasts([...toasts.slice(-3), { id, text, bad }]);
  setTimeout(() => setToasts(toasts.filter((toast) => toast.id !== id)), SHOWN_FOR);
}

/** Says why something failed. */
export function sayWhy(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), true);
}

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div className="toasts" role="status" aria-live="polite">
      {shown.map((toast) => (
        <div key={toast.id} className={`toast ${toast.bad ? 'bad' : ''}`}>
          {toast.text}
        </div>
      ))}
    </div>
  );
}

// -- words -----------------------------------------------------------------------------------

const AGO = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

export function Ago(props: { time: string }) {
  const seconds = (Date.parse(props.time) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 1];
  return (
    <time dateTime={props.time} title={new Date(props.time).toLocaleString()}>
      {AGO.format(Math.round(seconds / size), unit)}
    </time>
  );
}

export const number = new Intl.NumberFormat('en');

export async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  say('Copied');
}
