import { Chat, useChat } from '@ai-sdk/react';
import type { UIMessage } from 'ai';
import { type FormEvent, useEffect, useState } from 'react';
import { agent, cancel, id, isCut, problem, transport } from './chat.ts';

export function App({ messages: loaded }: { messages: UIMessage[] }) {
  // With a transport alone the hook forgets that a resumed answer comes from its start, and adds it
  // to what it has shown.
  const [chat] = useState(() => new Chat({ id, transport, messages: loaded }));
  const { messages, sendMessage, regenerate, resumeStream, status, error } = useChat({
    chat,
    resume: loaded.at(-1)?.role === 'user',
  });
  const [text, setText] = useState('');
  const busy = status === 'submitted' || status === 'streaming';
  const last = messages.at(-1);

  // An answer that was cut off goes on: the server has it, also after a restart.
  const begun = last?.role === 'assistant';
  const goesOn = begun && isCut(error);
  useEffect(() => {
    if (!begun || !isCut(error)) return;
    const timer = setTimeout(() => void resumeStream(), 1_000);
    return () => clearTimeout(timer);
  }, [begun, error, resumeStream]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (busy || text.trim() === '') return;
    void sendMessage({ text });
    setText('');
  }

  return (
    <main>
      <h1>{agent}</h1>
      {messages.map((message) => (
        <Message key={message.id} message={message} />
      ))}
      {error && <p role="alert">{goesOn ? 'Connecting again …' : error.message}</p>}
      <form onSubmit={submit}>
        <input aria-label="Message" value={text} onChange={(each) => setText(each.target.value)} />
        {busy && begun && (
          <button type="button" onClick={() => void cancel(last)}>
            Stop
          </button>
        )}
        {!busy && !goesOn && begun && (
          <button type="button" onClick={() => void regenerate()}>
            Again
          </button>
        )}
      </form>
    </main>
  );
}

function Message({ message }: { message: UIMessage }) {
  return (
    <section className={message.role}>
      {message.parts.map((part, index) => {
        const key = `${message.id}.${index}`;
        if (part.type === 'text') return <p key={key}>{part.text}</p>;
        if (part.type.startsWith('tool-') && 'state' in part) {
          return <pre key={key}>{`${part.type.slice(5)}: ${part.state}`}</pre>;
        }
        return null;
      })}
      {problem(message) && <p role="alert">{problem(message)}</p>}
    </section>
  );
}
