// What MCP's own clients go through; prints one JSON object for the test. `sdk` is the package:
// `sdk` speaks 2025-11-25, `client` speaks 2026-07-28 as well.
import { readFileSync } from 'node:fs';
import { cutting } from './wire.mjs';

const { base, key, sdk, paid } = JSON.parse(readFileSync(0, 'utf8'));
const isModern = sdk === 'client';
const root = '@modelcontextprotocol';
const { Client, StreamableHTTPClientTransport } = isModern
  ? await import(`${root}/client`)
  : {
      ...(await import(`${root}/sdk/client/index.js`)),
      ...(await import(`${root}/sdk/client/streamableHttp.js`)),
    };
const ELICITATION = isModern
  ? 'elicitation/create'
  : (await import(`${root}/sdk/types.js`)).ElicitRequestSchema;
const headers = { Authorization: `Bearer ${key}` };
const found = {};
const open = [];

async function connected({ answer, wire = cutting(), credential = key } = {}) {
  const capabilities = answer ? { elicitation: { form: {} } } : {};
  const versionNegotiation = isModern ? { mode: 'auto' } : undefined;
  const client = new Client({ name: 'test', version: '1' }, { capabilities, versionNegotiation });
  if (answer) client.setRequestHandler(ELICITATION, answer);
  const transport = new StreamableHTTPClientTransport(new URL(`${base}/mcp`), {
    fetch: wire.fetch,
    requestInit: { headers: { Authorization: `Bearer ${credential}` } },
    reconnectionOptions: {
      initialReconnectionDelay: 1,
      maxReconnectionDelay: 1,
      reconnectionDelayGrowFactor: 1,
      maxRetries: 5,
    },
  });
  await client.connect(transport);
  open.push(client);
  return client;
}

async function ask(client, agent, args, options = {}) {
  const said = [];
  const asked = { name: `ask_${agent}`, arguments: args };
  const call = { ...options, onprogress: (progress) => said.push(progress.message) };
  let result = null;
  let error = null;
  try {
    result = isModern
      ? await client.callTool(asked, call)
      : await client.callTool(asked, undefined, call);
  } catch (caught) {
    error = caught.message ?? String(caught);
  }
  return {
    said: said.join(''),
    text: result?.content[0].text,
    isError: result?.isError ?? false,
    answer: result?.structuredContent,
    error,
  };
}

async function status(session) {
  const response = await fetch(`${base}/v1/sessions/${session}`, { headers });
  return (await response.json()).status;
}

const client = await connected();
found.tools = (await client.listTools()).tools.map((tool) => tool.name);
found.whole = await ask(client, 'guide', { goal: 'What is 12% of 250?' });
found.further = await ask(client, 'guide', {
  goal: 'count to 3',
  session_id: found.whole.answer.session_id,
});
found.failed = await ask(client, 'refusing', { goal: 'go' });
found.nobody = await ask(client, 'nobody', { goal: 'go' });
found.bad = await ask(client, 'guide', { goal: '' });
found.two = await Promise.all(
  ['a', 'b'].map((goal) => ask(client, 'paced', { goal, context: { count: 3 } })),
);

// Answers that break off, behind every frame and inside of every one.
const wire = cutting();
const cut = await connected({ wire });
const counting = { goal: 'n', context: { count: 4 } };
await ask(cut, 'paced', counting); // what else the client opens is open now
wire.after = 1; // before the client knows any place
found.unborn = await ask(cut, 'paced', counting, { timeout: 300 });
await ask(cut, 'paced', counting); // and what it tells of the lost call is told
found.cuts = [];
// In 2026-07-28 a call that broke off is lost, which this client finds out by its time-out.
const lost = isModern ? { timeout: 300 } : {};
for (let behind = 1; ; behind += 0.5) {
  wire.behind = behind;
  wire.cut = false;
  const answer = await ask(cut, 'paced', counting, lost);
  if (!wire.cut) break; // behind the last frame
  found.cuts.push(answer);
}

// A cancel, once it runs.
const controller = new AbortController();
let session;
const slow = ask(
  client,
  'paced',
  { goal: 's', context: { count: 1000, pace: 20 } },
  { signal: controller.signal },
);
while (session === undefined) {
  const response = await fetch(`${base}/v1/sessions?status=running`, { headers });
  session = (await response.json()).data[0]?.session_id;
}
controller.abort();
found.cancelled = { error: (await slow).error };
while ((await status(session)) === 'running') await new Promise((done) => setTimeout(done, 20));
found.cancelled.status = await status(session);

// What a turn asks, of a client that can ask a person, and of one that cannot.
const forms = [];
found.approvals = [];
for (const answer of [
  { action: 'accept', content: { approved: true } },
  { action: 'accept', content: { approved: false, reason: 'no' } },
  { action: 'decline' },
]) {
  const asking = await connected({
    answer: async (request) => {
      forms.push(request.params);
      return answer;
    },
  });
  const context = { paid };
  found.approvals.push((await ask(asking, 'refunds', { goal: 'o', context })).text);
}
found.form = forms[0];
const number = await connected({
  answer: async () => ({ action: 'accept', content: { value: 7 } }),
});
found.questions = await ask(number, 'questions', { goal: 'go' });
found.waits = await ask(client, 'refunds', { goal: 'o', context: { paid } });

try {
  await connected({ credential: 'wrong' });
} catch (error) {
  found.wrong = String(error.message);
}

async function tool(name, args) {
  return (await client.callTool({ name, arguments: args })).structuredContent;
}
const started = await tool('execute', { agent_id: 'guide', goal: 'count to 3' });
const place = { session_id: started.session_id };
let tail = { done: false, position: 0 };
const types = [];
while (!tail.done) {
  tail = await tool('tail_events', { ...place, after: tail.position, limit: 3, wait_seconds: 5 });
  types.push(...tail.events.map((event) => event.type));
}
const read = await tool('read_session', place);
const listed = await tool('list_sessions', { agent_id: 'guide', limit: 1 });
found.sessions = {
  types,
  output: read.session.output,
  roles: read.messages.map((message) => message.role),
  listed: listed.sessions[0].session_id === started.session_id,
  more: listed.next_cursor !== null,
};
// Sessions as resources. Whoever watches one hears of its turns.
const updated = [];
const watcher = await connected();
const UPDATED = 'notifications/resources/updated';
watcher.setNotificationHandler(
  isModern ? UPDATED : (await import(`${root}/sdk/types.js`)).ResourceUpdatedNotificationSchema,
  ({ params }) => void updated.push(params.uri),
);
const { resources } = await watcher.listResources();
const uri = resources.find(({ name }) => name === place.session_id).uri;
const { contents } = await watcher.readResource({ uri });
const { resourceTemplates } = await watcher.listResourceTemplates();
const heard = isModern ? await watcher.listen({ resourceSubscriptions: [uri] }) : null;
if (!isModern) await watcher.subscribeResource({ uri });
await tool('execute', { agent_id: 'guide', goal: 'count to 1', session_id: place.session_id });
while (updated.length < 2) await new Promise((done) => setTimeout(done, 20));
found.resources = {
  messages: JSON.parse(contents[0].text).messages.length,
  template: resourceTemplates[0].uriTemplate.replace('{session_id}', place.session_id) === uri,
  updated: updated.every((each) => each === uri),
  honored: heard?.honoredFilter ?? null,
  missing: await watcher.readResource({ uri: `${uri}0` }).catch((error) => error.code),
};
if (isModern) await heard.close();
else await watcher.unsubscribeResource({ uri });

// An agent as a task, which only the older package knows.
if (!isModern) {
  const { TaskStatusNotificationSchema } = await import(`${root}/sdk/types.js`);
  const told = [];
  const tasks = await connected({
    answer: async () => ({ action: 'accept', content: { approved: true } }),
  });
  tasks.setNotificationHandler(TaskStatusNotificationSchema, ({ params }) => {
    told.push(params.status);
  });
  await tasks.listTools(); // now it knows which tools may be tasks
  const run = async (name, args) => {
    const seen = [];
    const params = { name: `ask_${name}`, arguments: args };
    for await (const message of tasks.experimental.tasks.callToolStream(params)) {
      const { type, task, result, error } = message;
      seen.push(task ? [type, task.status] : [type, result?.content[0].text ?? error.message]);
      if (type === 'taskCreated') seen.id = task.taskId;
    }
    return seen;
  };
  const whole = await run('guide', { goal: 'count to 3' });
  while (!told.includes('completed')) await new Promise((done) => setTimeout(done, 20));
  const asked = await run('refunds', { goal: 'o', context: { paid: '/dev/null' } });
  const failed = await run('refusing', { goal: 'go' });
  const params = {
    name: 'ask_paced',
    arguments: { goal: 's', context: { count: 1000, pace: 20 } },
    task: {},
  };
  const endless = await tasks.request(
    { method: 'tools/call', params },
    (await import(`${root}/sdk/types.js`)).CreateTaskResultSchema,
  );
  const id = endless.task.taskId;
  const stopped = await tasks.experimental.tasks.cancelTask(id);
  const again = await tasks.experimental.tasks.cancelTask(id).catch((error) => error.code);
  const listed = await tasks.experimental.tasks.listTasks();
  found.tasks = {
    whole: [whole[0][0], whole.at(-1)],
    asked: [asked.some(([, status]) => status === 'input_required'), asked.at(-1)],
    failed: [failed.at(-2)[1], failed.at(-1)[0]],
    message: (await tasks.experimental.tasks.getTask(failed.id)).statusMessage,
    stopped: [stopped.status, again],
    listed: listed.tasks.some((task) => task.taskId === id && task.status === 'cancelled'),
    missing: await tasks.experimental.tasks.getTask(`${id}0`).catch((error) => error.code),
  };
}
for (const each of open) await each.close();
console.log(JSON.stringify(found));
