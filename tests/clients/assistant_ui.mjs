// assistant-ui's data stream runtime, unmodified, on a page without a screen; prints one JSON
// object for the test.
import { readFileSync } from 'node:fs';
import { ExportedMessageRepository } from '@assistant-ui/core';
import { AssistantRuntimeProvider } from '@assistant-ui/core/react';
import { useDataStreamRuntime } from '@assistant-ui/react-data-stream';
import { AssistantMessageAccumulator, UIMessageStreamDecoder } from 'assistant-stream';
import { createElement } from 'react';
import { create } from 'react-test-renderer';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const headers = { Authorization: `Bearer ${key}` };
console.error = () => {}; // the renderer says that it is an old one

const until = async (condition) => {
  while (!(await condition())) await new Promise((done) => setTimeout(done, 10));
};

/** A page with the chat of an agent. */
async function open(agent, { credential = key, tools, ...options } = {}) {
  const page = { api: `${base}/v1/agents/${agent}/chat` };
  function Page() {
    page.runtime = useDataStreamRuntime({
      api: page.api,
      headers: { Authorization: `Bearer ${credential}` },
      onError: () => {},
      onResponse: (response) => {
        page.session = response.headers.get('X-Session-Id');
      },
      ...options,
    });
    return createElement(AssistantRuntimeProvider, { runtime: page.runtime });
  }
  create(createElement(Page));
  await until(() => page.runtime && !page.runtime.thread.getState().isLoading);
  if (tools) page.runtime.registerModelContextProvider({ getModelContext: () => ({ tools }) });
  page.messages = () => page.runtime.thread.getState().messages;
  page.last = () => page.messages().at(-1);
  page.text = () => textOf(page.last());
  page.send = (text) =>
    page.runtime.thread.append({ role: 'user', content: [{ type: 'text', text }] });
  page.ask = async (text) => {
    const before = page.messages().length;
    page.send(text);
    await until(() => page.messages().length === before + 2);
    await page.ended();
  };
  page.ended = () => until(() => page.last().status?.type !== 'running');
  return page;
}

const textOf = (message) =>
  message.content
    .filter((part) => part.type === 'text')
    .map((part) => part.text)
    .join('');

const calls = (message) => message.content.filter((part) => part.type === 'tool-call');

const cancel = (session) =>
  fetch(`${base}/v1/sessions/${session}/cancel`, {
    method: 'POST',
    headers: { ...headers, 'Content-Type': 'application/json' },
    body: '{}',
  });

const session = async (id) => (await fetch(`${base}/v1/sessions/${id}`, { headers })).json();

/** How an answer ends that does not end well. */
async function ends(agent, credential) {
  const page = await open(agent, { credential });
  await page.ask('count to 9');
  const { type, error } = page.last().status;
  return [type, String(error?.message ?? error)];
}

/** A person stops the answer, and so does another page: neither takes it for a whole one. */
async function cancels() {
  const found = [];
  const stopping = await open('slow', { onCancel: () => cancel(stopping.session) });
  stopping.send('a');
  await until(() => stopping.last()?.role === 'assistant' && stopping.text().length > 20);
  stopping.runtime.thread.cancelRun();
  await until(async () => (await session(stopping.session)).status === 'cancelled');
  found.push(stopping.last().status);
  const watching = await open('slow');
  watching.send('b');
  await until(() => watching.last()?.role === 'assistant' && watching.text().length > 20);
  await cancel(watching.session);
  await watching.ended();
  found.push(watching.last().status);
  return found;
}

async function decided(page, approved) {
  await until(() => page.last().status.type === 'requires-action');
  const message = page.last();
  const [call] = calls(message);
  page.runtime.thread
    .getMessageById(message.id)
    .getMessagePartByToolCallId(call.toolCallId)
    .respondToToolApproval({ approved, reason: 'so' });
  await until(() => ['complete', 'incomplete'].includes(page.last().status.type));
  const [{ result, isError, toolName }, ...more] = calls(page.last());
  return [page.last().status.type, page.text(), toolName, result, isError, more.length];
}

async function approvals() {
  const found = [];
  for (const approved of [true, false]) {
    const page = await open('refunds', { body: { context: { paid: '/dev/null' } } });
    await page.ask('pay back');
    found.push(await decided(page, approved));
  }
  return found;
}

/** Tools that the page runs: one that answers, one that fails. */
async function frontendTools() {
  const found = [];
  for (const execute of [
    async () => ({ city: 'Ulm' }),
    async () => {
      throw new Error('no permission');
    },
  ]) {
    const parameters = { type: 'object', properties: {} };
    const tools = { location: { type: 'frontend', description: 'Where', parameters, execute } };
    const page = await open('location', { tools });
    await page.ask('where?');
    await until(() => page.last().status.type === 'complete');
    found.push([page.text(), calls(page.last()).length, page.messages().length]);
  }
  return found;
}

/** The chat as the server has it, for assistant-ui's local runtime. */
function history(api, id) {
  const url = `${api}/${encodeURIComponent(id)}`;
  return {
    async load() {
      const messages = await (await fetch(`${url}/messages`, { headers })).json();
      return {
        ...ExportedMessageRepository.fromArray(
          messages.map(({ id, role, parts }) => ({
            id,
            role,
            content: parts.flatMap((part) => {
              if (part.type === 'text') return [{ type: 'text', text: part.text }];
              if (!part.toolCallId) return [];
              const { toolCallId, type, input: args, output: result } = part;
              const toolName = type.slice('tool-'.length);
              return [{ type: 'tool-call', toolCallId, toolName, args, result }];
            }),
          })),
        ),
        unstable_resume: messages.at(-1)?.role === 'user',
      };
    },
    async *resume({ abortSignal: signal }) {
      const response = await fetch(`${url}/stream?startIndex=0`, { headers, signal });
      yield* response.body
        .pipeThrough(new UIMessageStreamDecoder())
        .pipeThrough(new AssistantMessageAccumulator());
    },
    async append() {},
  };
}

/** A page that is loaded in mid-answer shows the messages before, and then the answer live. */
async function reload() {
  const body = { id: 'reloaded', context: { words_per_second: 50 } };
  const page = await open('guide', { body });
  await page.ask('What is 12% of 250?');
  page.send('count to 10000');
  await until(() => page.messages().length === 4 && page.text().length > 20);
  const seen = page.text();
  const adapters = { history: history(page.api, 'reloaded') };
  const other = await open('guide', { body, adapters });
  await until(() => other.messages().length === 4 && other.text().length > seen.length);
  await cancel(page.session);
  await Promise.all([page.ended(), other.ended()]);
  return {
    roles: other.messages().map(({ role }) => role),
    result: calls(other.messages()[1])[0].result.result,
    same: [other.text() === page.text(), other.text().startsWith(seen)],
    output: (await session(page.session)).output === other.text(),
  };
}

/** A page that is loaded while the turn waits shows the request, and answers it. */
async function reloadWaiting() {
  const body = { id: 'waiting', context: { paid: '/dev/null' } };
  const page = await open('refunds', { body });
  await page.ask('pay back');
  const other = await open('refunds', {
    body,
    adapters: { history: history(page.api, 'waiting') },
  });
  await until(() => other.messages().length === 2);
  return decided(other, true);
}

/** Two pages that ask in one chat at once. */
async function tabs() {
  const body = { id: 'tabs' };
  const pages = [await open('slow', { body }), await open('slow', { body })];
  for (const page of pages) page.send('go');
  await until(() => pages.some((page) => page.last()?.status?.type === 'incomplete'));
  const refused = pages.find((page) => page.last()?.status?.type === 'incomplete');
  const answered = pages.find((page) => page !== refused);
  await until(() => answered.text().length > 20);
  await cancel(answered.session);
  await answered.ended();
  return String(refused.last().status.error.message);
}

const guide = await open('guide', { body: { id: 'whole' } });
await guide.ask('What is 12% of 250?');
await guide.ask('count to 3');
const found = { messages: guide.messages() };
found.ends = [await ends('refusing'), await ends('guide', 'wrong')];
found.cancels = await cancels();
found.approvals = await approvals();
found.tools = await frontendTools();
found.reload = await reload();
found.waiting = await reloadWaiting();
found.tabs = await tabs();
// A cut behind every frame, and inside of every one.
const wire = cutting();
globalThis.fetch = wire.fetch;
found.cuts = [];
for (let behind = 0.5; ; behind += 0.5) {
  const page = await open('guide');
  wire.behind = behind;
  wire.cut = false;
  await page.ask('count to 4');
  if (!wire.cut) break; // behind the last frame
  found.cuts.push([page.last().status.type, page.text()]);
}
console.log(JSON.stringify(found));
process.exit(0);
