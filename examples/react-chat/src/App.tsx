import { useReach, useSession } from '@resonantgenesis/sdk/react';
import { useCallback, useEffect, useMemo, useState } from 'react';
import { bannerOf } from '../../shared/banner';
import {
  agentId,
  context,
  putSessionInAddress,
  refusal,
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
  const away = useReach();
  const [refused, setRefused] = useState<Error | null>(null);
  const isOffline = !isOnline || session.connection === 'offline';
  const banner = bannerOf({
    isOffline,
    away,
    // What the conversation says already is not said twice.
    refused: session.error === null ? refused : null,
    isUnsent: session.turns.some(({ status }) => status === 'sending'),
  });

  useEffect(() => {
    void refusal().then(setRefused);
  }, []);

  // The first message has made the session: from now on a reload finds it.
  useEffect(() => {
    if (session.sessionId !== null) {
      setSessionId(session.sessionId);
      putSessionInAddress(session.sessionId);
    }
  }, [session.sessionId]);

  const { fork } = session;
  const branch = useCallback(
    (turn: number) => {
      fork({ turn }).then((made) => setSessionId(made.sessionId), setRefused);
    },
    [fork],
  );
  // The turns that others have taken the place of are left out.
  const turns = useMemo(
    () => session.turns.filter(({ replacedBy }) => replacedBy === undefined),
    [session.turns],
  );

  const startAnew = () => {
    setSessionId(null);
    putSessionInAddress(null);
  };

  return (
    <main className="chat">
      <header>
        <h1>Agent chat</h1>
        <span
          className="state"
          data-state={away && !isOffline ? 'reconnecting' : session.connection}
        >
          {agentId}
        </span>
        <button type="button" onClick={startAnew} disabled={sessionId === null}>
          New chat
        </button>
      </header>
      <div role="status">
        {banner !== null && <p className={`banner ${banner.kind}`}>{banner.text}</p>}
      </div>
      <ChatTurns
        turns={turns}
        error={session.error}
        retry={session.retry}
        regenerate={session.regenerate}
        branch={branch}
        isWaiting={isOffline || away !== null}
      />
      <ChatComposer
        isStreaming={session.isStreaming}
        send={session.send}
        steer={session.steer}
        cancel={session.cancel}
      />
    </main>
  );
}
