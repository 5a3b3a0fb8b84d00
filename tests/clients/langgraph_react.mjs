// A page with LangGraph's `useStream`; prints one JSON object for the test beside this file.
import { readFileSync } from 'node:fs';
import { useStream } from '@langchain/langgraph-sdk/react';
import React from 'react';
import { act, create } from 'react-test-renderer';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
// What a browser has, and the hook looks for.
const kept = new Map();
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
globalThis.window = globalThis;
globalThis.sessionStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
  removeItem: (name) => kept.delete(name),
};
console.error = () => {}; // the hook reports the failures that this program makes
const found = {};
const said = (stream) => stream.messages.map((message) => [message.type, message.content]);
const asked = (content) => ({ messages: [{ type: 'human', content }] });

/** Shows a page; `page.stream` is what the hook gave last. */
async function open(assistantId, opened) {
  const page = {};
  function Page() {
    const [threadId, setThreadId] = React.useState(opened);
    page.threadId = threadId;
    page.stream = useStream({
      apiUrl: `${base}/langgraph`,
      apiKey: key,
      assistantId,
      threadId,
      messagesKey: 'messages',
      reconnectOnMount: true,
      fetchStateHistory: true,
      onThreadId: setThreadId,
    });
    return said(page.stream).length;
  }
  await act(async () => {
    page.shown = create(React.createElement(Page));
  });
  return page;
}

async function until(condition) {
  while (!condition()) await act(() => new Promise((done) => setTimeout(done, 20)));
}
const submit = (page, values, options) =>
  act(async () => {
    page.stream.submit(values, options);
  });

{
  const page = await open('guide');
  await submit(page, asked('count to 3'));
  await until(() => !page.stream.isLoading && page.stream.messages.length === 2);
  found.whole = said(page.stream);
}
{
  const page = await open('refunds');
  await submit(page, asked('o'), { context: { paid: '/dev/null' } });
  await until(() => !page.stream.isLoading && page.stream.interrupt);
  found.asked = page.stream.interrupt.value.action_requests[0].name;
  await submit(page, undefined, { command: { resume: { decisions: [{ type: 'approve' }] } } });
  await until(() => !page.stream.isLoading && said(page.stream).at(-1)?.[1] === 'Paid.');
  found.answered = said(page.stream).at(-1)[1];
}
{
  const page = await open('paced');
  await submit(page, asked('word'), { context: { count: 60, pace: 40 } });
  await until(() => String(said(page.stream).at(-1)?.[1]).includes('word-000005'));
  // The page is closed in mid-answer, and opened again.
  await act(async () => page.shown.unmount());
  const again = await open('paced', page.threadId);
  await until(
    () => !again.stream.isLoading && String(said(again.stream).at(-1)?.[1]).includes('word-000060'),
  );
  const expected = Array.from(
    { length: 60 },
    (_, at) => `word-${String(at + 1).padStart(6, '0')} `,
  );
  found.reload = [
    said(again.stream).map(([type]) => type),
    said(again.stream)[1][1] === expected.join(''),
  ];
}
{
  const page = await open('refusing');
  await submit(page, asked('go'));
  await until(() => page.stream.error);
  found.failed = String(page.stream.error);
}
console.log(JSON.stringify(found));
process.exit(0);
