// assistant-ui's data stream runtime, unmodified, on a page without a screen; prints one JSON
// object for the test.
import { readFileSync } from 'node:fs';
import { AssistantRuntimeProvider } from '@assistant-ui/core/react';
import { useDataStreamRuntime } from '@assistant-ui/react-data-stream';
import { createElement } from 'react';
import { create } from 'react-test-renderer';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
console.error = () => {}; // the renderer says that it is an old one
let runtime;

function Page() {
  runtime = useDataStreamRuntime({
    api: `${base}/v1/agents/guide/chat`,
    headers: { Authorization: `Bearer ${key}` },
  });
  return createElement(AssistantRuntimeProvider, { runtime });
}

const until = async (condition) => {
  while (!condition()) await new Promise((done) => setTimeout(done, 10));
};
const messages = () => runtime.thread.getState().messages;

create(createElement(Page));
await until(() => runtime && !runtime.thread.getState().isLoading);
for (const text of ['What is 12% of 250?', 'count to 3']) {
  const before = messages().length;
  runtime.thread.append({ role: 'user', content: [{ type: 'text', text }] });
  await until(
    () => messages().length === before + 2 && messages().at(-1).status.type !== 'running',
  );
}
console.log(JSON.stringify({ messages: messages() }));
process.exit(0);
