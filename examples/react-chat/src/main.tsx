import { ResonantGenesisProvider } from '@resonantgenesis/sdk/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import '../../shared/chat.css';
import { client } from '../../shared/client';
import { App } from './App';

const root = document.getElementById('root');
if (root === null) {
  throw new Error('the page has no #root');
}
createRoot(root).render(
  <StrictMode>
    <ResonantGenesisProvider client={client}>
      <App />
    </ResonantGenesisProvider>
  </StrictMode>,
);
