import { useSession } from '@resonantgenesis/sdk/react';
import { useEffect, useState } from 'react';
import {
  agentId,
  context,
  putSessionInAddress,
  sessionInAddress,
  transport,
} from '../../shared/client';
import { ChatComposer } from './ChatComposer';
import { ChatTurns } from './ChatTurns';
import { useOnline } from './useOnline';

export function App() {
  const [sessionId, setSessionId] = useState(sessionInAddress);
  const session = useSession(sessionId, {
    agentId,
    context,
    storage: 'session',
    transport,
  });
  const isOnline = useOnline();

  // The first message has made the session: from now on a reload finds it.
  useEffect(() => {
    if (session.sessionId !== null) {
      setSessionId(session.sessionId);
      putSessionInAddress(session.sessionId);
    }
  }, [session.sessionId]);

  const startAnew = () => {
    setSessionId(null);
    putSessionInAddress(null);
  };

  return (
    <main className="chat">
      <header>
        <h1>Agent chat</h1>
        <span className="state" data-state={session.connection}>
          {agentId}
        </span>
        <button type="button" onClick={startAnew} disabled={sessionId === null}>
          New chat
        </button>
      </header>
      {(!isOnline || session.connection === 'offline') && (
        <div className="offline" role="status">
          You are offline. The agent goes on; what it says meanwhile comes when you are back.
        </div>
      )}
      <ChatTurns turns={session.turns} error={session.error} retry={session.retry} />
      <ChatComposer isStreaming={session.isStreaming} send={session.send} cancel={session.cancel} />
    </main>
  );
}
