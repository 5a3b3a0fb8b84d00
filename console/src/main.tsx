import { ResonantGenesisProvider } from '@resonantgenesis/sdk/react';
import { QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode, useSyncExternalStore } from 'react';
import { createRoot } from 'react-dom/client';
import { client, queries } from './api.ts';
import { credential } from './credential/credential.ts';
import { SignIn } from './credential/sign-in.tsx';
import { router } from './router.tsx';
import { Toasts } from './ui/parts.tsx';
import { applyTheme } from './ui/theme.ts';

applyTheme();

function Console() {
  const who = useSyncExternalStore(credential.subscribe, credential.get);
  if (who === null) return <SignIn />;
  return (
    <QueryClientProvider client={queries}>
      <ResonantGenesisProvider client={client}>
        <RouterProvider router={router} />
      </ResonantGenesisProvider>
    </QueryClientProvider>
  );
}

const root = document.getElementById('root');
if (root === null) throw new Error('the page has no #root');
createRoot(root).render(
  <StrictMode>
    <Console />
    <Toasts />
  </StrictMode>,
);
