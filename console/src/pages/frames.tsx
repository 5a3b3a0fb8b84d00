import type { SessionData } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { credential } from '../credential/credential.ts';
import '../log/log.css';

/** Characters of a stream that are shown, and milliseconds that it may take. */
const SHOWN = 60_000;
const PATIENCE = 15_000;

interface View {
  readonly name: string;
  readonly path: (session: SessionData, turn: number) => string;
}

const VIEWS: readonly View[] = [
  {
    name: 'Server-Sent Events',
    path: (session, turn) => `/v1/sessions/${session.sessionId}/stream?turn=${turn}`,
  },
  {
    name: 'Compact',
    path: (session, turn) => `/v1/sessions/${session.sessionId}/stream?turn=${turn}&compact=true`,
  },
  {
    name: 'AI SDK',
    path: (session) =>
      `/v1/agents/${session.agentId}/chat/${session.sessionId}/stream?startIndex=0`,
  },
  {
    name: 'OpenAI Responses',
    path: (session, turn) =>
      `/openai/v1/responses/resp_${session.sessionId}.${turn}?stream=true&starting_after=0`,
  },
];

/** The bytes of one turn as the clients of each protocol get them. */
export default function Frames(props: { session: SessionData }) {
  const { session } = props;
  const [turn, setTurn] = useState(session.turns);
  return (
    <div className="stack">
      <label className="row small">
        Turn
        <select
          className="input"
          style={{ width: 'auto' }}
          value={turn}
          onChange={(event) => setTurn(Number(event.target.value))}
        >
          {Array.from({ length: session.turns }, (_, index) => index + 1).map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </label>
      <div className="frames">
        {VIEWS.map((view) => (
          <Frame key={view.name} name={view.name} path={view.path(session, turn)} />
        ))}
      </div>
    </div>
  );
}

function Frame(props: { name: string; path: string }) {
  const bytes = useQuery({
    queryKey: ['frames', props.path],
    queryFn: () => read(props.path),
    staleTime: 0,
  });
  return (
    <section className="stack">
      <h2>{props.name}</h2>
      <pre className="pre" style={{ maxHeight: 520 }}>
        {bytes.error ? bytes.error.message : (bytes.data ?? 'reading …')}
      </pre>
    </section>
  );
}

async function read(path: string): Promise<string> {
  const answer = await fetch(path, {
    headers: { Authorization: `Bearer ${credential.get()?.token}`, Accept: 'text/event-stream' },
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 204) return 'Nothing to show: this client would be told that it has all.';
  if (!answer.ok || answer.body === null) return `${answer.status}\n${await answer.text()}`;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
    if (text.length > SHOWN) {
      await reader.cancel();
      return `${text.slice(0, SHOWN)}\n… more follows`;
    }
  }
}
