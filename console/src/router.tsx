import { ConnectionLost } from '@resonantgenesis/sdk';
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from '@tanstack/react-router';
import { useEffect } from 'react';
import { isPassing } from './api.ts';
import { may } from './credential/credential.ts';
import { Shell } from './shell.tsx';
import { Empty, ListState, Page } from './ui/parts.tsx';

/** Milliseconds until a page that could not be loaded is tried again. */
const AGAIN = 3_000;

/** A page that is loaded when somebody goes there. */
function page<T extends Record<string, unknown>, K extends keyof T & string>(
  load: () => Promise<T>,
  name: K,
) {
  return lazyRouteComponent(() => load().catch(explain), name);
}

/** Without a server a page waits for it; after a change of the server the console loads anew. */
async function explain(cause: unknown): Promise<never> {
  await fetch(import.meta.env.BASE_URL, { method: 'HEAD' }).catch(() => {
    throw new ConnectionLost('This page could not be loaded.', { cause });
  });
  throw cause;
}

/** In place of a page that failed. One that could not be loaded is tried again by itself. */
function Failed(props: { error: unknown }) {
  const error = props.error instanceof Error ? props.error : new Error(String(props.error));
  useEffect(() => {
    if (!isPassing(props.error)) return;
    const again = setInterval(() => void router.invalidate(), AGAIN);
    return () => clearInterval(again);
  }, [props.error]);
  const query = { isPending: false, error, refetch: () => router.invalidate() };
  return (
    <Page title="Not loaded">
      <ListState query={query} empty={null} />
    </Page>
  );
}

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => (
    <Page title="Not found">
      <Empty title="There is no such page">Choose one on the left.</Empty>
    </Page>
  ),
});

const routes = [
  createRoute({
    getParentRoute: () => root,
    path: '/',
    beforeLoad: () => {
      if (!may('metrics:read')) throw redirect({ to: '/play' });
    },
    component: page(() => import('./pages/overview.tsx'), 'Overview'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/play',
    validateSearch: (search: Record<string, unknown>): { session?: string; agent?: string } => ({
      ...(typeof search.session === 'string' && { session: search.session }),
      ...(typeof search.agent === 'string' && { agent: search.agent }),
    }),
    component: page(() => import('./pages/playground.tsx'), 'Playground'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/sessions',
    component: page(() => import('./pages/sessions.tsx'), 'Sessions'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/sessions/$sessionId',
    validateSearch: (search: Record<string, unknown>): { view?: string } =>
      typeof search.view === 'string' ? { view: search.view } : {},
    component: page(() => import('./pages/session.tsx'), 'SessionPage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/events',
    component: page(() => import('./pages/events.tsx'), 'Events'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/agents',
    component: page(() => import('./pages/agents.tsx'), 'Agents'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/teams',
    component: page(() => import('./pages/teams.tsx'), 'Teams'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/webhooks',
    component: page(() => import('./pages/webhooks.tsx'), 'Webhooks'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/webhooks/$webhookId',
    component: page(() => import('./pages/webhook.tsx'), 'WebhookPage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/files',
    component: page(() => import('./pages/files.tsx'), 'Files'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/workers',
    component: page(() => import('./pages/workers.tsx'), 'Workers'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/organizations',
    component: page(() => import('./pages/organizations.tsx'), 'Organizations'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/usage',
    component: page(() => import('./pages/usage.tsx'), 'UsagePage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/keys',
    component: page(() => import('./pages/keys.tsx'), 'Keys'),
  }),
];

export const router = createRouter({
  routeTree: root.addChildren(routes),
  basepath: '/console',
  defaultPreload: 'intent',
  defaultErrorComponent: Failed,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
