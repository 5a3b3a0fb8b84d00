// What AG-UI's HttpAgent and CopilotKit's client go through; prints one JSON object for the test.
import { readFileSync } from 'node:fs';
import { HttpAgent } from '@ag-ui/client';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
const found = {};
// The client leaves a promise behind when its connection breaks.
process.on('unhandledRejection', () => {});
const textOf = (messages) =>
  messages
    .filter((message) => message.role === 'assistant')
    .map((message) => message.content ?? '');

function agentAt(path, threadId, wire = cutting()) {
  return new HttpAgent({ url: `${base}${path}`, headers, threadId, fetch: wire.fetch });
}

async function run(agent, text, more = {}) {
  const events = [];
  if (text) agent.addMessage({ id: crypto.randomUUID(), role: 'user', content: text });
  let error = null;
  try {
    await agent.runAgent(more, { onEvent: ({ event }) => void events.push(event) });
  } catch (caught) {
    error = caught.message ?? String(caught);
  }
  return { types: events.map((event) => event.type), last: events.at(-1), error };
}

const whole = agentAt('/v1/agents/guide/ag-ui', 'thread-1');
const first = await run(whole, 'What is 12% of 250?');
const second = await run(whole, 'count to 3');
found.whole = {
  types: first.types,
  errors: [first.error, second.error],
  outcome: first.last.outcome,
  texts: textOf(whole.messages),
  tools: whole.messages.filter((message) => message.role === 'tool').length,
};

const failing = agentAt('/v1/agents/refusing/ag-ui', 'thread-2');
found.failed = await run(failing, 'go');
found.nobody = await run(agentAt('/v1/agents/nobody/ag-ui', 'thread-3'), 'go');

// A tool of the page: its run ends with the call, and the next one brings the result.
const page = agentAt('/v1/agents/location/ag-ui', 'thread-7');
const tools = [{ name: 'location', description: 'Where the user is.', parameters: {} }];
const called = await run(page, 'where?', { tools });
const [callId] = called.last.outcome.pendingToolCallIds;
const content = JSON.stringify({ city: 'Ulm' });
page.addMessage({ id: crypto.randomUUID(), role: 'tool', toolCallId: callId, content });
const told = await run(page, null, { tools });
found.tool = [called.error, told.error, textOf(page.messages).join('')];

// A wrong key, two tabs that begin one thread at once, and a stop, which one of them sees.
const stranger = new HttpAgent({
  url: `${base}/v1/agents/guide/ag-ui`,
  headers: { ...headers, Authorization: 'Bearer wrong' },
});
found.wrong = (await run(stranger, 'go')).error;
const tabs = ['a', 'b'].map(() => agentAt('/v1/agents/slow/ag-ui', 'thread-8'));
const runs = tabs.map((tab) => run(tab, 'word'));
const refused = await Promise.race(runs);
const stop = () =>
  fetch(`${base}/copilotkit/agent/slow/stop/thread-8`, { method: 'POST', headers, body: '{}' });
while (!(await (await stop()).json()).stopped);
const ends = await Promise.all(runs);
found.tabs = {
  refused: refused.error,
  outcomes: ends.map(({ last }) => last?.outcome?.type ?? null).sort(),
};

// A team, whose members are sub-agents: one of them fails, and one asks.
const team = agentAt('/v1/agents/duo/ag-ui', 'thread-6');
const subs = [];
const context = [{ description: 'paid', value: '/dev/null' }];
team.subscribe({
  onSubagentStartedEvent: ({ event }) => void subs.push([event.name, event.subagentRunId]),
  onSubagentFinishedEvent: ({ event }) => void subs.push([event.outcome?.type ?? event.result]),
  onSubagentErrorEvent: ({ event }) => void subs.push([event.message]),
});
const held = await run(team, 'o', { context });
const [question] = held.last.outcome.interrupts;
const yes = [{ interruptId: question.id, status: 'resolved', payload: { approved: true } }];
const after = await run(team, null, { resume: yes, context });
found.team = {
  errors: [held.error, after.error],
  subs,
  of: subs.find(([, id]) => id === question.subagentRunId)?.[0],
  said: team.messages
    .filter(({ subagentRunId, content }) => subagentRunId && content)
    .map(({ role }) => role),
};

// An approval, answered by the run that resumes.
found.approvals = [];
for (const payload of [{ approved: true }, { approved: false, reason: 'no' }]) {
  const agent = agentAt('/v1/agents/refunds/ag-ui', `thread-4-${payload.approved}`);
  const context = [{ description: 'paid', value: '/dev/null' }];
  const asked = await run(agent, 'pay back', { context });
  const [interrupt] = asked.last.outcome.interrupts;
  const resume = [{ interruptId: interrupt.id, status: 'resolved', payload }];
  const ended = await run(agent, null, { resume });
  found.approvals.push([
    interrupt.reason,
    ended.error,
    ended.last.type,
    textOf(agent.messages).join(''),
  ]);
}

// A cut behind or inside of any frame is an error or the whole, and never a success with a part of
// the answer.
found.cuts = [];
for (let behind = 0.5; ; behind += 0.5) {
  const wire = cutting();
  wire.behind = behind;
  const cutAgent = agentAt('/v1/agents/guide/ag-ui', `thread-9-${behind}`, wire);
  const { error } = await run(cutAgent, 'count to 4');
  if (!wire.cut) break; // behind the last frame
  found.cuts.push(error !== null || textOf(cutAgent.messages).join('') === '1 2 3 4');
}

// A cut in mid-run, then CopilotKit's connect: every run of the thread, whole.
const wire = cutting();
wire.after = 700;
const broken = agentAt('/copilotkit/agent/guide/run', 'thread-5', wire);
const cut = await run(broken, 'count to 12');
const body = JSON.stringify({
  threadId: 'thread-5',
  runId: 'r',
  messages: [],
  tools: [],
  context: [],
  state: {},
});
const connect = await fetch(`${base}/copilotkit/agent/guide/connect`, {
  method: 'POST',
  headers,
  body,
});
const replay = (await connect.text())
  .split('\n')
  .filter((line) => line.startsWith('data: '))
  .map((line) => JSON.parse(line.slice(6)));
found.connect = {
  cut: cut.error !== null || cut.types.at(-1) !== 'RUN_FINISHED',
  first: replay[0].type,
  asked: replay[0].input.messages[0].content,
  text: replay
    .filter((event) => event.type === 'TEXT_MESSAGE_CONTENT')
    .map((event) => event.delta)
    .join(''),
  last: replay.at(-1).type,
};
const info = await (await fetch(`${base}/copilotkit/info`, { headers })).json();
const stopped = await fetch(`${base}/copilotkit/agent/guide/stop/thread-5`, {
  method: 'POST',
  headers,
  body: '{}',
});
const never = await fetch(`${base}/copilotkit/agent/guide/connect`, {
  method: 'POST',
  headers,
  body: body.replace('thread-5', 'thread-never'),
});
found.runtime = {
  agents: Object.keys(info.agents),
  stopped: await stopped.json(),
  never: [never.status, await never.text()],
};
console.log(JSON.stringify(found));
