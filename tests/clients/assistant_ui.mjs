// assistant-ui's data stream runtime, unmodified, on a page without a screen; prints one JSON
// object for the test.
import { readFileSync } from 'node:fs';
import { AssistantRuntimeProvider } from '@assistant-ui/core/react';
import { useDataStreamRuntime } from '@assistant-ui/react-data-stream';
import { createElement } from 'react';
import { create } from 'react-test-renderer';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
console.error = () => {}; // the renderer says that it is an old one
let runtime;

function Page({ agent, credential }) {
  runtime = useDataStreamRuntime({
    api: `${base}/v1/agents/${agent}/chat`,
    headers: { Authorization: `Bearer ${credential}` },
    onError: () => {},
  });
  return createElement(AssistantRuntimeProvider, { runtime });
}

const until = async (condition) => {
  while (!condition()) await new Promise((done) => setTimeout(done, 10));
};
const messages = () => runtime.thread.getState().messages;

async function open(agent, credential = key) {
  runtime = undefined;
  create(createElement(Page, { agent, credential }));
  await until(() => runtime && !runtime.thread.getState().isLoading);
}

/** How an answer ends that does not end well; this client cannot go on with one. */
async function ends(agent, credential) {
  await open(agent, credential);
  runtime.thread.append({ role: 'user', content: [{ type: 'text', text: 'count to 9' }] });
  await until(() => messages().length === 2 && messages().at(-1).status.type !== 'running');
  const { type, error } = messages().at(-1).status;
  return [type, String(error?.message ?? error)];
}

await open('guide');
for (const text of ['What is 12% of 250?', 'count to 3']) {
  const before = messages().length;
  runtime.thread.append({ role: 'user', content: [{ type: 'text', text }] });
  await until(
    () => messages().length === before + 2 && messages().at(-1).status.type !== 'running',
  );
}
const whole = messages();
const found = [await ends('refusing', key), await ends('guide', 'wrong')];
const wire = cutting();
globalThis.fetch = wire.fetch;
wire.after = 700;
found.push(await ends('guide', key));
console.log(JSON.stringify({ messages: whole, ends: found }));
process.exit(0);
