// A run of an agent with AG-UI's own client.
import { HttpAgent } from '@ag-ui/client';

const base = process.env.RESONANTGENESIS_BASE_URL ?? 'http://127.0.0.1:8080';
const threadId = crypto.randomUUID();
const agent = new HttpAgent({
  url: `${base}/v1/agents/guide/ag-ui`,
  headers: { Authorization: `Bearer ${process.env.RESONANTGENESIS_API_KEY}` },
  threadId,
});
const content = process.argv.slice(2).join(' ') || 'What is 12% of 250?';
agent.addMessage({ id: crypto.randomUUID(), role: 'user', content });

// The client cannot go on with a run whose connection broke. The thread has the run all the same.
function fail(error) {
  const body = JSON.stringify({ threadId, runId: 'again', messages: [] });
  const where = `${base}/copilotkit/agent/guide/connect`;
  process.stderr.write(`\n${error.message}\nThe thread is there: POST ${where} ${body}\n`);
  process.exit(1);
}
process.on('unhandledRejection', fail); // the client leaves one behind

await agent
  .runAgent(
    {},
    {
      onTextMessageContentEvent: ({ event }) => void process.stdout.write(event.delta),
      onToolCallStartEvent: ({ event }) => process.stdout.write(`[${event.toolCallName}]\n`),
      onRunErrorEvent: ({ event }) => fail(event),
    },
  )
  .catch(fail);
process.stdout.write('\n');
