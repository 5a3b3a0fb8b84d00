// A run of an agent with AG-UI's own client.
import { HttpAgent } from '@ag-ui/client';

const base = process.env.RESONANTGENESIS_BASE_URL ?? 'http://127.0.0.1:8080';
const agent = new HttpAgent({
  url: `${base}/v1/agents/guide/ag-ui`,
  headers: { Authorization: `Bearer ${process.env.RESONANTGENESIS_API_KEY}` },
  threadId: crypto.randomUUID(),
});
const content = process.argv.slice(2).join(' ') || 'What is 12% of 250?';
agent.addMessage({ id: crypto.randomUUID(), role: 'user', content });
await agent.runAgent(
  {},
  {
    onTextMessageContentEvent: ({ event }) => void process.stdout.write(event.delta),
    onToolCallStartEvent: ({ event }) => process.stdout.write(`[${event.toolCallName}]\n`),
  },
);
process.stdout.write('\n');
