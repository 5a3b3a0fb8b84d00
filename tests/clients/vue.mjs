// The AI SDK's chat for Vue, unmodified, from its own package.
import { readFileSync } from 'node:fs';
import { Chat } from '@ai-sdk/vue';
import { DefaultChatTransport } from 'ai7';
import { computed } from 'vue';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const api = `${base}/v1/agents/guide/chat`;
const headers = { Authorization: `Bearer ${key}` };
const transport = new DefaultChatTransport({ api, headers });
const chat = new Chat({ id: 'vue', transport });
const shown = computed(() => chat.messages.map((message) => message.parts.at(-1).text));
await chat.sendMessage({ text: 'count to 3' });
await chat.regenerate();
const before = shown.value;
const loaded = await (await fetch(`${api}/vue/messages`, { headers })).json();
const page = new Chat({ id: 'vue', transport, messages: loaded });
await page.resumeStream();
await page.sendMessage({ text: 'count to 4' });
await chat.sendMessage({ text: 'What is 12% of 250?' });
const call = chat.messages.at(-1).parts.find((part) => part.toolCallId);
const failures = [];
for (const [agent, credential] of [
  ['refusing', key],
  ['guide', 'wrong'],
]) {
  const failing = new Chat({
    transport: new DefaultChatTransport({
      api: `${base}/v1/agents/${agent}/chat`,
      headers: { Authorization: `Bearer ${credential}` },
    }),
  });
  await failing.sendMessage({ text: 'go' });
  const { message } = failing.error;
  failures.push(message.startsWith('{') ? JSON.parse(message).error.code : message);
}
console.log(
  JSON.stringify({
    shown: before,
    page: page.messages.map((message) => message.parts.at(-1).text),
    status: [chat.status, page.status],
    tool: [call.state, call.output.result],
    failures,
  }),
);
