import { useChat } from '@ai-sdk/react';
import type { UIMessage } from 'ai';
import { type FormEvent, useState } from 'react';
import { agent, cancel, id, transport } from './chat.ts';

export function App({ messages: loaded }: { messages: UIMessage[] }) {
  const { messages, sendMessage, regenerate, status, error } = useChat({
    id,
    transport,
    messages: loaded,
    resume: loaded.at(-1)?.role === 'user',
  });
  const [text, setText] = useState('');
  const busy = status === 'submitted' || status === 'streaming';
  const last = messages.at(-1);

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
      {error && <p role="alert">{error.message}</p>}
      <form onSubmit={submit}>
        <input aria-label="Message" value={text} onChange={(each) => setText(each.target.value)} />
        {busy && last?.role === 'assistant' && (
          <button type="button" onClick={() => void cancel(last)}>
            Stop
          </button>
        )}
        {!busy && last?.role === 'assistant' && (
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
    </section>
  );
}
