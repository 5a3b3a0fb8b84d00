/** The guide's hook and ours, side by side; with `?strict` in strict mode. */
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { ResonantGenesisProvider, useAgentStream, useEvents } from '@resonantgenesis/sdk/react';
import { StrictMode, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { useGuideStream } from './guide-hook';

const query = new URLSearchParams(location.search);
const agentId = query.get('agent') ?? 'guide';
const goal = query.get('goal') ?? '';
/** Turns may be over before the page has subscribed. */
const LOADED = new Date(performance.timeOrigin);
const client = new ResonantGenesis({ apiKey: process.env.API_KEY });
// For tests of what no hook shows.
Object.assign(globalThis, { client });

interface Shown {
  content: string;
  isStreaming: boolean;
  error: Error | null;
}

function ChatMessage({ id, content, isStreaming, error }: Shown & { id: string }) {
  if (error) {
    return (
      <div id={id} className="error">
        {error.message}
      </div>
    );
  }
  return (
    <div id={id} className="message">
      <p>{content}</p>
      {isStreaming && <span className="cursor">▌</span>}
    </div>
  );
}

function Guides() {
  return <ChatMessage id="guide" {...useGuideStream(agentId, goal)} />;
}

function Ours() {
  const { content, isStreaming, error } = useAgentStream(agentId, goal, {
    subject: query.get('subject') ?? undefined,
  });
  return <ChatMessage id="ours" content={content} isStreaming={isStreaming} error={error} />;
}

/** Shows how often strict mode lets an effect run. */
function Strictness() {
  const [runs, setRuns] = useState(0);
  useEffect(() => setRuns((before) => before + 1), []);
  return <output id="runs">{runs}</output>;
}

function Happened() {
  const { events } = useEvents({
    channels: ['sessions'],
    events: ['session.completed'],
    since: LOADED,
  });
  return (
    <ul id="events">
      {events.map(({ id, type }) => (
        <li key={id}>{type}</li>
      ))}
    </ul>
  );
}

const page = (
  <ResonantGenesisProvider client={client}>
    {query.has('guide') && <Guides />}
    <Ours />
    <Strictness />
    <Happened />
  </ResonantGenesisProvider>
);

const root = document.getElementById('app');
if (root !== null) {
  createRoot(root).render(query.has('strict') ? <StrictMode>{page}</StrictMode> : page);
}
