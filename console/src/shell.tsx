import { useReach } from '@resonantgenesis/sdk/react';
import { Link, Outlet } from '@tanstack/react-router';
import {
  Activity,
  BookOpen,
  Bot,
  Building2,
  ChartColumn,
  Cpu,
  FileText,
  Gauge,
  KeyRound,
  LogOut,
  Menu,
  MessagesSquare,
  MoonStar,
  Radio,
  Search,
  Users,
  Webhook,
} from 'lucide-react';
import { useMemo, useRef, useState } from 'react';
import { may, signOut } from './credential/credential.ts';
import { Keyboard, openPalette } from './keyboard/keyboard.tsx';
import { IconButton } from './ui/parts.tsx';
import { toggleTheme } from './ui/theme.ts';
import './shell.css';

const PAGES = [
  { to: '/', name: 'Overview', group: 'see', icon: Gauge, scope: 'metrics:read' },
  { to: '/play', name: 'Playground', group: 'see', icon: MessagesSquare, scope: 'sessions:write' },
  { to: '/sessions', name: 'Sessions', group: 'see', icon: Activity, scope: 'sessions:read' },
  { to: '/events', name: 'Events', group: 'see', icon: Radio, scope: 'events:read' },
  { to: '/agents', name: 'Agents', group: 'make', icon: Bot, scope: 'agents:read' },
  { to: '/teams', name: 'Teams', group: 'make', icon: Users, scope: 'teams:read' },
  { to: '/workers', name: 'Workers', group: 'make', icon: Cpu, scope: 'agents:read' },
  { to: '/webhooks', name: 'Webhooks', group: 'run', icon: Webhook, scope: 'webhooks:read' },
  { to: '/files', name: 'Files', group: 'run', icon: FileText, scope: 'files:read' },
  { to: '/usage', name: 'Usage', group: 'run', icon: ChartColumn, scope: 'usage:read' },
  { to: '/keys', name: 'Keys', group: 'run', icon: KeyRound, scope: 'keys:read' },
  // A token cannot know whether its key is the bootstrap key, which has every scope.
  { to: '/organizations', name: 'Organizations', group: 'run', icon: Building2, scope: '*' },
] as const;

/** The frame: navigation of what the credential may see, and the page. */
export function Shell() {
  const problem = useReach();
  const main = useRef<HTMLElement>(null);
  const pages = useMemo(() => PAGES.filter((page) => may(page.scope)), []);
  const [open, setOpen] = useState(false);
  return (
    <div className="shell">
      <button className="button skip" type="button" onClick={() => main.current?.focus()}>
        Skip to the page
      </button>
      <Keyboard pages={pages} />
      <nav className="side" aria-label="Pages">
        <button
          className="button quiet icon menu-button"
          type="button"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          <Menu aria-label="Pages" />
        </button>
        <Link to="/" className="brand" aria-label="ResonantGenesis">
          <img src={`${import.meta.env.BASE_URL}logo.svg`} alt="" />
          <span>ResonantGenesis</span>
        </Link>
        <div className={`pages ${open ? 'open' : ''}`}>
          {pages.map((page, index) => (
            <Link
              key={page.to}
              to={page.to}
              className={`nav ${index > 0 && page.group !== pages[index - 1]?.group ? 'apart' : ''}`}
              activeOptions={{ exact: page.to === '/' }}
              onClick={() => setOpen(false)}
            >
              <page.icon aria-hidden />
              <span>{page.name}</span>
            </Link>
          ))}
        </div>
        <div className="foot row">
          <IconButton icon={Search} name="Go to, ask, do (Ctrl K)" onClick={openPalette} />
          <a className="button quiet icon" href="/docs/" title="Documentation">
            <BookOpen aria-label="Documentation" />
          </a>
          <IconButton icon={MoonStar} name="Light or dark" onClick={toggleTheme} />
          <IconButton icon={LogOut} name="Sign out" onClick={() => signOut()} />
        </div>
      </nav>
      <main className="main" ref={main} tabIndex={-1}>
        {problem && (
          <p className="notice warn" role="status">
            The server cannot be reached; trying again. Nothing is lost. ({problem.message})
          </p>
        )}
        <Outlet />
      </main>
    </div>
  );
}
