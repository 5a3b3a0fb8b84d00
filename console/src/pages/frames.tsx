import type { SessionData } from '@resonantgenesis/sdk';
import { Copy } from 'lucide-react';
import { useEffect, useState } from 'react';
import { calls } from '../api.ts';
import { freshToken } from '../credential/credential.ts';
import { Choice } from '../ui/form.tsx';
import { copy, IconButton, number, sayWhy } from '../ui/parts.tsx';
import '../log/log.css';

/** Characters of a stream that are shown, and milliseconds that it may take. */
const SHOWN = 60_000;
const PATIENCE = 30_000;
/** Milliseconds between two renders while a stream is read. */
const PAUSE = 100;
const JSON_TYPE = 'application/json';

/** One turn of a session. */
interface Place {
  readonly session: SessionData;
  readonly turn: number;
}

/** Gives the pieces of a stream as they come. */
type Pieces = (place: Place, signal: AbortSignal) => AsyncIterable<string>;

interface View {
  readonly name: string;
  /** Who reads it, and where. */
  readonly readers: string;
  readonly pieces: Pieces;
}

const VIEWS: readonly View[] = [
  {
    name: 'Server-Sent Events',
    readers: 'EventSource, our SDKs, the guide’s code',
    pieces: ({ session, turn }, signal) =>
      body(`/v1/sessions/${session.sessionId}/stream?turn=${turn}`, signal),
  },
  {
    name: 'Compact',
    readers: 'The same, with neighbouring text merged',
    pieces: ({ session, turn }, signal) =>
      body(`/v1/sessions/${session.sessionId}/stream?turn=${turn}&compact=true`, signal),
  },
  { name: 'WebSocket', readers: 'One socket for any number of sessions', pieces: messages },
  {
    name: 'AI SDK',
    readers: 'useChat of Vercel’s AI SDK, assistant-ui',
    pieces: ({ session, turn }, signal) => {
      const run = `${session.sessionId}.${turn}`;
      return body(`/v1/agents/${session.agentId}/chat/${run}/stream?startIndex=0`, signal);
    },
  },
  {
    name: 'OpenAI Responses',
    readers: 'OpenAI’s SDKs',
    pieces: ({ session, turn }, signal) =>
      body(`/openai/v1/responses/resp_${session.sessionId}.${turn}?stream=true`, signal),
  },
  { name: 'AG-UI', readers: 'AG-UI’s clients, CopilotKit', pieces: run },
];

/** The bytes of one turn as the clients of each protocol get them. */
export default function Frames(props: { session: SessionData }) {
  const { session } = props;
  const [turn, setTurn] = useState(session.turns);
  const turns = Array.from({ length: session.turns }, (_, index) => index + 1);
  if (session.turns === 0) return <p className="muted">There is no turn yet.</p>;
  return (
    <div className="stack">
      <div className="row small">
        <span>Turn</span>
        <Choice
          fits
          label="Turn"
          options={Object.fromEntries(turns.map((one) => [one, String(one)]))}
          value={String(turn)}
          onChange={(chosen) => setTurn(Number(chosen))}
        />
        <span className="muted">One log, and what a client of each kind gets of it.</span>
      </div>
      <div className="frames">
        {VIEWS.map((view) => (
          <Frame key={`${view.name} ${turn}`} view={view} session={session} turn={turn} />
        ))}
      </div>
    </div>
  );
}

function Frame(props: { view: View } & Place) {
  const { view, session, turn } = props;
  const { text, state } = useText(view.pieces, session, turn);
  const count = text.split(/\n\n+/).filter((frame) => frame.trim()).length;
  return (
    <section className="panel frame" aria-label={view.name}>
      <header>
        <div className="row spread">
          <h2>{view.name}</h2>
          <IconButton
            icon={Copy}
            name={`Copy the frames of ${view.name}`}
            onClick={() => copy(text).catch(sayWhy)}
          />
        </div>
        <p className="small muted">{view.readers}</p>
        <p className="small muted">
          {number.format(count)} {count === 1 ? 'frame' : 'frames'}, {number.format(text.length)}{' '}
          characters{state && `, ${state}`}
        </p>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse */}
      <pre className="pre" tabIndex={0}>
        {text || (state ?? 'Nothing: this client would be told that it has all.')}
      </pre>
    </section>
  );
}

/** What has come so far, and the state of it; null once it has ended. */
function useText(pieces: Pieces, session: SessionData, turn: number) {
  const [text, setText] = useState('');
  const [state, setState] = useState<string | null>('reading …');
  const { sessionId, agentId } = session;
  // biome-ignore lint/correctness/useExhaustiveDependencies: of a session only the ids matter
  useEffect(() => {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(PATIENCE)]);
    let read = '';
    const timer = setInterval(() => setText(read), PAUSE);
    async function follow(): Promise<string | null> {
      for await (const piece of pieces({ session, turn }, signal)) {
        read += piece;
        if (read.length > SHOWN) return 'and more';
      }
      return null;
    }
    follow()
      .catch((error: unknown) => {
        if (signal.aborted) return stop.signal.aborted ? null : 'still going on';
        return error instanceof Error ? error.message : String(error);
      })
      .then((ended) => {
        clearInterval(timer);
        if (stop.signal.aborted) return;
        setText(read.slice(0, SHOWN));
        setState(ended);
      });
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [pieces, sessionId, agentId, turn]);
  return { text, state };
}

async function* body(path: string, signal: AbortSignal, sent?: object): AsyncGenerator<string> {
  const answer = await fetch(path, {
    headers: {
      Authorization: `Bearer ${await freshToken()}`,
      Accept: 'text/event-stream',
      ...(sent && { 'Content-Type': JSON_TYPE }),
    },
    signal,
    ...(sent && { method: 'POST', body: JSON.stringify(sent) }),
  });
  if (!answer.ok) {
    const error = (await answer.json().catch(() => null))?.error;
    throw new Error(`${answer.status}: ${error?.message ?? answer.statusText}`);
  }
  if (answer.status === 204 || answer.body === null) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

/** Of the runs of a thread only those of the turn. A turn that has asked is several. */
async function* run({ session, turn }: Place, signal: AbortSignal): AsyncGenerator<string> {
  const { sessionId, agentId } = session;
  const sent = { threadId: sessionId, runId: 'console', messages: [] };
  let rest = '';
  let isShown = false;
  const named = `"runId":"run_${sessionId}.${turn}.`;
  for await (const piece of body(`/copilotkit/agent/${agentId}/connect`, signal, sent)) {
    const frames = (rest + piece).split('\n\n');
    rest = frames.pop() ?? '';
    for (const frame of frames) {
      if (frame.includes('"RUN_STARTED"')) isShown = frame.includes(named);
      if (isShown) yield `${frame}\n\n`;
    }
  }
}

/** The messages of a socket both ways, from its sign-in to the end of the turn. */
async function* messages({ session, turn }: Place, signal: AbortSignal): AsyncGenerator<string> {
  const { sessionId } = session;
  const [first] = await calls.sessions.steps(sessionId, { turn });
  const after = (first?.position ?? 1) - 1;
  const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/v1/ws`);
  const waiting: string[] = [];
  let wake = () => {};
  let isOver = false;
  const say = (message: object, shown: object = message) => {
    socket.send(JSON.stringify(message));
    waiting.push(`→ ${JSON.stringify(shown)}\n\n`);
  };
  const token = await freshToken();
  socket.onopen = () => {
    say({ type: 'auth', token }, { type: 'auth', token: '…' });
    say({ type: 'subscribe', channels: [`session:${sessionId}`], resume_from: after });
    wake();
  };
  socket.onmessage = ({ data: text }) => {
    waiting.push(`← ${text}\n\n`);
    const { type, turn: ended } = JSON.parse(text);
    isOver ||= (type === 'done' || type === 'waiting') && ended === turn;
    wake();
  };
  socket.onclose = () => {
    isOver = true;
    wake();
  };
  signal.addEventListener('abort', () => socket.close());
  try {
    for (;;) {
      yield* waiting.splice(0);
      signal.throwIfAborted();
      if (isOver) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    socket.close();
  }
}
