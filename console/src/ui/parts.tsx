/** The small parts that pages are made of. Lists are in `list.tsx`, forms in `form.tsx`. */
import { useReach } from '@resonantgenesis/sdk/react';
import type { LucideIcon } from 'lucide-react';
import { CircleAlert, CloudOff, Copy, Inbox, X } from 'lucide-react';
import type { ReactNode } from 'react';
import {
  createContext,
  useContext,
  useId,
  useLayoutEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
import { isPassing } from '../api.ts';
import './theme.css';
import './ui.css';
import './table.css';
import './form.css';

/** What the server says of each field of the form around, by the API's name of the field. */
export const Problems = createContext<Readonly<Record<string, string>>>({});

/** A labelled control. `name`: the API's name of the field, whose problem is shown here. */
export function Field(props: { label: string; name?: string; hint?: string; children: ReactNode }) {
  const problem = useContext(Problems)[props.name ?? ''];
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is its child
    <label className="field">
      <span>{props.label}</span>
      {props.children}
      {problem && (
        <small className="problem" role="alert">
          {problem}
        </small>
      )}
      {props.hint && <small className="muted">{props.hint}</small>}
    </label>
  );
}

export function Page(props: { title: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <div className="page">
      <title>{`${props.title} · ResonantGenesis`}</title>
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

/** A button that is a picture alone; its name is told on hovering, and to those who do not see it. */
export function IconButton(props: {
  icon: LucideIcon;
  name: string;
  onClick: () => void;
  look?: 'quiet' | 'danger' | '';
  disabled?: boolean;
}) {
  const { icon: Icon, name, onClick, look = 'quiet', disabled } = props;
  return (
    <button
      className={`button icon ${look}`}
      type="button"
      title={name}
      aria-label={name}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon aria-hidden />
    </button>
  );
}

/** A line of `<dl className="facts">`. */
export function Fact(props: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}

/** A table that scrolls sideways where it must, also by the keyboard. `rows`: of all, where not all
 * are drawn; -1: more than are known. */
export function Table(props: { label: string; rows?: number; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse
    <section className="panel scroll-x" aria-label={props.label} tabIndex={0}>
      <table className="table" aria-rowcount={props.rows}>
        {props.children}
      </table>
    </section>
  );
}

/** What is shown in place of what a query brings: that it loads, why it failed, or `empty`. */
export function ListState(props: {
  query: { isPending: boolean; error: Error | null; refetch: () => unknown };
  empty: ReactNode;
}) {
  const { isPending, error, refetch } = props.query;
  const problem = useReach();
  if (isPassing(error) || (isPending && problem !== null)) {
    return (
      <div className="empty" role="status">
        <CloudOff aria-hidden />
        <h2>The server cannot be reached</h2>
        <p className="muted">
          Check the network, and that the server runs. This page tries again by itself every few
          seconds.
        </p>
        <button className="button" type="button" onClick={() => refetch()}>
          Try now
        </button>
      </div>
    );
  }
  if (isPending) {
    return (
      <div className="stack panel padded" role="status" aria-label="Loading">
        <div className="skeleton" />
        <div className="skeleton" />
        <div className="skeleton" />
      </div>
    );
  }
  if (error !== null) {
    return (
      <div className="empty" role="alert">
        <CircleAlert aria-hidden />
        <h2>This could not be loaded</h2>
        <p className="muted">{error.message}</p>
        <button className="button" type="button" onClick={() => refetch()}>
          Try again
        </button>
      </div>
    );
  }
  return props.empty;
}

/** A dialog of the browser's own: it keeps the focus, gives it back, and Escape closes it. */
export function Dialog(props: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: string | undefined;
  children: ReactNode;
}) {
  const place = useRef<HTMLDialogElement>(null);
  const title = useId();
  useLayoutEffect(() => {
    const dialog = place.current;
    if (!props.open || dialog === null) return;
    dialog.showModal();
    // Whoever opens a form wants to write, and not to close it.
    dialog.querySelector<HTMLElement>('form :is(input, select, textarea)')?.focus();
    return () => dialog.close();
  }, [props.open]);
  if (!props.open) return null;
  return (
    <dialog
      ref={place}
      className="dialog"
      aria-labelledby={title}
      // The browser tells of a closing when the next key may have come already: `onClose` is for
      // those who close it without a key.
      onKeyDown={(event) => {
        if (event.key !== 'Escape') return;
        event.preventDefault();
        props.onOpenChange(false);
      }}
      onClose={() => place.current?.open || props.onOpenChange(false)}
    >
      <div className="stack">
        <div className="row spread">
          <h2 id={title}>{props.title}</h2>
          <IconButton icon={X} name="Close" onClick={() => props.onOpenChange(false)} />
        </div>
        {props.description && <p className="muted">{props.description}</p>}
        {props.children}
      </div>
    </dialog>
  );
}

/** Asks before something is lost, and stays open until that is done. */
export function Confirm(props: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description: string;
  action: string;
  onConfirm: () => unknown;
}) {
  const [busy, setBusy] = useState(false);
  async function confirm() {
    setBusy(true);
    try {
      await props.onConfirm();
      props.onOpenChange(false);
    } catch (error) {
      sayWhy(error);
    } finally {
      setBusy(false);
    }
  }
  return (
    <Dialog {...props}>
      <div className="row end">
        <button className="button" type="button" onClick={() => props.onOpenChange(false)}>
          Keep
        </button>
        <button
          className="button primary danger"
          type="button"
          disabled={busy}
          onClick={() => void confirm()}
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

/** A figure with its name. */
export function Stat(props: { name: string; value: string; note?: ReactNode }) {
  return (
    <div className="panel stat">
      <span className="muted small">{props.name}</span>
      <b>{props.value}</b>
      {props.note && <div className="small">{props.note}</div>}
    </div>
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

const tickers = new Set<() => void>();
let ticking: ReturnType<typeof setInterval> | undefined;

/** Calls back once a second; one timer serves the whole page. */
function onTick(listener: () => void): () => void {
  tickers.add(listener);
  ticking ??= setInterval(() => {
    for (const each of tickers) each();
  }, 1_000);
  return () => {
    tickers.delete(listener);
    if (tickers.size > 0) return;
    clearInterval(ticking);
    ticking = undefined;
  };
}

function wordsOf(time: string): string {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ['second', 1];
  return AGO.format(Math.round(seconds / size), unit);
}

/** How long ago a time is, or how far away, as it goes by. */
export function Ago(props: { time: string }) {
  const words = useSyncExternalStore(onTick, () => wordsOf(props.time));
  return (
    <time dateTime={props.time} title={new Date(props.time).toLocaleString()}>
      {words}
    </time>
  );
}

export const number = new Intl.NumberFormat('en');

const THREE = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/** Seconds, in words. */
export function duration(seconds: number): string {
  return seconds < 1 ? `${THREE.format(seconds * 1000)} ms` : `${THREE.format(seconds)} s`;
}

const BYTES = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

/** A size in bytes, in words. */
export function size(bytes: number): string {
  const power = bytes < 1_000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), 4);
  return `${BYTES.format(bytes / 1_000 ** power)} ${['bytes', 'KB', 'MB', 'GB', 'TB'][power]}`;
}

export async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  say('Copied');
}
