import { CopilotChat, CopilotKitProvider } from '@copilotkit/react-core/v2';
import '@copilotkit/react-core/v2/styles.css';
import { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { agent, id, newToken, RENEWAL } from './chat.ts';

function App({ token: first }: { token: string }) {
  const [token, setToken] = useState(first);
  useEffect(() => {
    const timer = setInterval(() => void newToken().then(setToken, () => {}), RENEWAL);
    return () => clearInterval(timer);
  }, []);
  return (
    <CopilotKitProvider runtimeUrl="/copilotkit" headers={{ Authorization: `Bearer ${token}` }}>
      <CopilotChat agentId={agent} threadId={id} />
    </CopilotKitProvider>
  );
}

const root = document.getElementById('root');
if (root === null) throw new Error('the page has no #root');
createRoot(root).render(<App token={await newToken()} />);
