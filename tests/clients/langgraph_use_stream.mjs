// A page with the newer `useStream`; prints one JSON object for the test beside this file.
import { readFileSync } from 'node:fs';
import { useStream } from '@langchain/react';
import React from 'react';
import { act, create } from 'react-test-renderer';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
console.error = () => {}; // the hook reports the failures that this program makes
const found = {};
const said = (stream) => stream.messages.map((message) => [message.type, message.text]);
const asked = (content) => ({ messages: [{ type: 'human', content }] });
const pace = (count, wait) => ({ config: { configurable: { count, pace: wait } } });

/** Shows a page; `page.stream` is what the hook gave last. */
async function open(assistantId, opened = null) {
  const page = {};
  function Page() {
    const [threadId, setThreadId] = React.useState(opened);
    page.threadId = threadId;
    page.stream = useStream({
      apiUrl: `${base}/langgraph`,
      apiKey: key,
      assistantId,
      threadId,
      onThreadId: setThreadId,
      reconnectDelayMs: () => 20,
      fetch: (url, init) => (page.fetch ?? fetch)(url, init),
    });
    return page.stream.messages.length;
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
const close = (page) => act(async () => page.shown.unmount());

{
  const page = await open('guide');
  await submit(page, asked('What is 12% of 250?'));
  await until(() => !page.stream.isLoading && page.stream.messages.length === 4);
  found.whole = [said(page.stream), page.stream.toolCalls.map((call) => call.name)];
  await submit(page, asked('count to 3'));
  await until(() => !page.stream.isLoading && page.stream.messages.length === 6);
  found.second = said(page.stream).slice(4);
  await close(page);
}
{
  const page = await open('refunds');
  await submit(page, asked('o'), { config: { configurable: { paid: '/dev/null' } } });
  await until(() => !page.stream.isLoading && page.stream.interrupt);
  await close(page);
  // The page is loaded again, and answers there.
  const again = await open('refunds', page.threadId);
  await until(() => again.stream.interrupt);
  const [{ name }] =
    again.stream.interrupt.value.actionRequests ?? again.stream.interrupt.value.action_requests;
  await act(() =>
    again.stream.respond(
      { decisions: [{ type: 'approve' }] },
      { interruptId: again.stream.interrupt.id },
    ),
  );
  await until(() => !again.stream.isLoading && said(again.stream).at(-1)[1] === 'Paid.');
  found.interrupt = [
    name,
    said(again.stream).map(([type]) => type),
    again.stream.interrupts.length,
  ];
  await close(again);
}
const words = (count) =>
  Array.from({ length: count }, (_, at) => `word-${String(at + 1).padStart(6, '0')} `).join('');
{
  const page = await open('paced');
  await submit(page, asked('word'), pace(40, 30));
  await until(() => String(said(page.stream).at(-1)?.[1]).includes('word-000005'));
  await close(page);
  const again = await open('paced', page.threadId);
  const seen = new Set();
  await until(() => {
    seen.add(said(again.stream).at(-1)?.[1]);
    return !again.stream.isLoading && said(again.stream).at(-1)?.[1] === words(40);
  });
  found.reload = [said(again.stream).map(([type]) => type), seen.size > 5];
  await close(again);
}
{
  const page = await open('paced');
  await submit(page, asked('word'), pace(100000, 30));
  await until(() => String(said(page.stream).at(-1)?.[1]).includes('word-000003'));
  const other = await open('paced', page.threadId);
  await until(() => other.stream.isLoading);
  await act(() => page.stream.stop());
  await until(() => !page.stream.isLoading && !other.stream.isLoading);
  found.stopped = [page.stream.error === undefined, other.stream.error === undefined];
  await close(page);
  await close(other);
}
found.cuts = [];
for (const behind of [2, 3.5, 5, 6.5, 8]) {
  const page = await open('paced');
  const wire = cutting();
  // The streams of one page are several; the messages' one is cut.
  page.fetch = (url, init) =>
    String(init?.body).includes('messages') && String(url).endsWith('/stream/events')
      ? wire.fetch(url, init)
      : fetch(url, init);
  wire.behind = behind;
  await submit(page, asked('word'), pace(10, 40));
  await until(() => !page.stream.isLoading && said(page.stream).at(-1)?.[1] === words(10));
  found.cuts.push([wire.cut, said(page.stream).map(([type]) => type)]);
  await close(page);
}
{
  const page = await open('refusing');
  await submit(page, asked('go'));
  await until(() => page.stream.error);
  found.failed = [String(page.stream.error), page.stream.isLoading];
}
console.log(JSON.stringify(found));
process.exit(0);
