import { useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import type { KeyboardEvent } from 'react';
import { useEffect, useId, useState } from 'react';
import { calls } from '../api.ts';
import { may, signOut } from '../credential/credential.ts';
import { titleOf } from '../title.ts';
import { Dialog } from '../ui/parts.tsx';
import { useSettled } from '../ui/settled.ts';
import { toggleTheme } from '../ui/theme.ts';
import type { Page } from './keys.ts';
import './keyboard.css';

/** Commands that are shown at once. */
const MOST = 40;
/** Sessions that are offered, and characters of a search. */
const FOUND = 20;
const LONGEST = 200;

interface Command {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  /** The server has found it for what is typed. */
  readonly isFound?: boolean;
  run(): void;
}

interface PaletteProps {
  readonly pages: readonly Page[];
  readonly onClose: () => void;
  readonly onHelp: () => void;
}

/** One field that leads everywhere. */
export function Palette(props: PaletteProps) {
  const [query, setQuery] = useState('');
  const [at, setAt] = useState(0);
  const id = useId();
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = useCommands(props, query.trim())
    .filter(({ name, kind, isFound }) => {
      if (isFound) return true;
      const text = `${kind} ${name}`.toLowerCase();
      return words.every((word) => text.includes(word));
    })
    .slice(0, MOST);
  const chosen = found[Math.min(at, found.length - 1)];

  useEffect(() => {
    if (chosen) document.getElementById(id + chosen.id)?.scrollIntoView({ block: 'nearest' });
  }, [id, chosen]);

  function run(command: Command | undefined) {
    if (command === undefined) return;
    props.onClose();
    command.run();
  }

  function onKeyDown(event: KeyboardEvent) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && found.length > 0) {
      event.preventDefault();
      setAt((Math.min(at, found.length - 1) + step + found.length) % found.length);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      run(chosen);
    }
  }

  return (
    <Dialog open onOpenChange={props.onClose} title="Go to, ask, do">
      <input
        className="input"
        role="combobox"
        aria-label="Command"
        aria-expanded
        aria-controls={`${id}list`}
        aria-activedescendant={chosen && id + chosen.id}
        placeholder="A page, a session, an agent …"
        autoComplete="off"
        // A dialog gives the focus to what has the attribute, which React does not write.
        ref={(input) => input?.setAttribute('autofocus', '')}
        value={query}
        onKeyDown={onKeyDown}
        onChange={(event) => {
          setQuery(event.target.value);
          setAt(0);
        }}
      />
      <div className="commands" role="listbox" id={`${id}list`} aria-label="Commands">
        {found.map((command) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above has the keys
          // biome-ignore lint/a11y/useFocusableInteractive: the field above has the focus
          <div
            key={command.id}
            id={id + command.id}
            role="option"
            aria-selected={command === chosen}
            className="menu-item"
            onClick={() => run(command)}
          >
            <span className="grow">{command.name}</span>
            <span className="small muted">{command.kind}</span>
          </div>
        ))}
      </div>
      {found.length === 0 && (
        <p className="muted small" role="status">
          Nothing of that name, and no session with these words.
        </p>
      )}
    </Dialog>
  );
}

/** All that the credential may do. */
function useCommands({ pages, onHelp }: PaletteProps, query: string): readonly Command[] {
  const navigate = useNavigate();
  const search = useSettled(query);
  const sessions = useQuery({
    queryKey: ['palette', 'sessions', search],
    queryFn: async () => {
      const params = { limit: FOUND, ...(search && { search: search.slice(0, LONGEST) }) };
      return [...(await calls.sessions.list(params)).data];
    },
    enabled: may('sessions:read'),
  });
  const agents = useQuery({
    queryKey: ['agents'],
    queryFn: async () => [...(await calls.agents.list({ limit: 100 })).data],
    enabled: may('sessions:write') && may('agents:read'),
  });
  return [
    ...pages.map(({ to, name }) => ({
      id: to,
      name,
      kind: 'page',
      run: () => void navigate({ to }),
    })),
    ...(agents.data ?? []).map((agent) => ({
      id: `ask-${agent.id}`,
      name: `Ask ${agent.name}`,
      kind: 'agent',
      run: () => void navigate({ to: '/play', search: { agent: agent.id } }),
    })),
    { id: 'theme', name: 'Light or dark', kind: 'look', run: toggleTheme },
    { id: 'keys', name: 'Show the keys', kind: 'help', run: onHelp },
    {
      id: 'docs',
      name: 'Documentation',
      kind: 'help',
      run: () => location.assign('/docs/'),
    },
    { id: 'out', name: 'Sign out', kind: 'account', run: () => signOut() },
    ...(sessions.data ?? []).map((session) => ({
      id: session.sessionId,
      name: [titleOf(session), session.sessionId].filter(Boolean).join(' · '),
      kind: `session of ${session.agentId}, ${session.status}`,
      isFound: search !== '' && search === query,
      run: () =>
        void navigate({
          to: '/sessions/$sessionId',
          params: { sessionId: session.sessionId },
        }),
    })),
  ];
}
