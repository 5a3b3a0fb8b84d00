import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from '@tanstack/react-router';
import { Shell } from './shell.tsx';
import { Empty, Page } from './ui/parts.tsx';

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
      throw redirect({ to: '/play' });
    },
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/play',
    validateSearch: (search: Record<string, unknown>): { session?: string; agent?: string } => ({
      ...(typeof search.session === 'string' && { session: search.session }),
      ...(typeof search.agent === 'string' && { agent: search.agent }),
    }),
    component: lazyRouteComponent(() => import('./pages/playground.tsx'), 'Playground'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/sessions',
    component: lazyRouteComponent(() => import('./pages/sessions.tsx'), 'Sessions'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/sessions/$sessionId',
    validateSearch: (search: Record<string, unknown>): { view?: string } =>
      typeof search.view === 'string' ? { view: search.view } : {},
    component: lazyRouteComponent(() => import('./pages/session.tsx'), 'SessionPage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/events',
    component: lazyRouteComponent(() => import('./pages/events.tsx'), 'Events'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/agents',
    component: lazyRouteComponent(() => import('./pages/agents.tsx'), 'Agents'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/teams',
    component: lazyRouteComponent(() => import('./pages/teams.tsx'), 'Teams'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/webhooks',
    component: lazyRouteComponent(() => import('./pages/webhooks.tsx'), 'Webhooks'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/webhooks/$webhookId',
    component: lazyRouteComponent(() => import('./pages/webhook.tsx'), 'WebhookPage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/usage',
    component: lazyRouteComponent(() => import('./pages/usage.tsx'), 'UsagePage'),
  }),
  createRoute({
    getParentRoute: () => root,
    path: '/keys',
    component: lazyRouteComponent(() => import('./pages/keys.tsx'), 'Keys'),
  }),
];

export const router = createRouter({
  routeTree: root.addChildren(routes),
  basepath: '/console',
  defaultPreload: 'intent',
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
