// What a client of LangGraph's API goes through; prints one JSON object for the test beside this file.
import { readFileSync } from 'node:fs';
import { Client } from '@langchain/langgraph-sdk';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const wire = cutting();
const clientWith = (apiKey, more = {}) =>
  new Client({
    apiUrl: `${base}/langgraph`,
    apiKey,
    callerOptions: { fetch: wire.fetch, ...more },
  });
const client = clientWith(key);
const found = {};
const TUPLES = ['messages-tuple', 'values', 'updates', 'custom'];
const asked = (content) => ({ messages: [{ type: 'human', content }] });

async function read(stream, parts = []) {
  for await (const part of stream) parts.push(part);
  return parts;
}

/** The texts of the pieces, by the ids of their messages; doubled or lost pieces show here. */
function texts(parts) {
  const added = {};
  for (const { event, data } of parts) {
    if (event !== 'messages') continue;
    const [message] = data;
    added[message.id] = (added[message.id] ?? '') + message.content;
  }
  return Object.values(added);
}
const last = (parts, event) => parts.filter((part) => part.event === event).at(-1)?.data;
const said = (values) => values.messages.map((message) => [message.type, message.content]);

const [assistant] = await client.assistants.search({ graphId: 'guide' });
found.assistant = [assistant.assistant_id, (await client.assistants.get('guide')).graph_id];
const thread = await client.threads.create({ graphId: 'guide', metadata: { of: 'ada' } });
let created;
const whole = await read(
  client.runs.stream(thread.thread_id, 'guide', {
    input: asked('What is 12% of 250?'),
    streamMode: TUPLES,
    onRunCreated: (run) => {
      created = run;
    },
  }),
);
found.whole = {
  events: [...new Set(whole.map((part) => part.event))],
  nodes: whole.filter((part) => part.event === 'updates').map((part) => Object.keys(part.data)[0]),
  types: last(whole, 'values').messages.map((message) => message.type),
  text: last(whole, 'values').messages.at(-1).content,
  same: texts(whole).at(-1) === last(whole, 'values').messages.at(-1).content,
  created: created.thread_id === thread.thread_id,
  run: (await client.runs.get(thread.thread_id, created.run_id)).status,
};
await client.runs.wait(thread.thread_id, 'guide', { input: asked('count to 3') });
const state = await client.threads.getState(thread.thread_id);
const history = await client.threads.getHistory(thread.thread_id);
found.state = {
  last: said(state.values).at(-1),
  messages: state.values.messages.length,
  history: history.map((each) => each.values.messages.length),
  parents: history[0].parent_checkpoint.checkpoint_id === history[1].checkpoint.checkpoint_id,
  found: (await client.threads.search({ metadata: { of: 'ada' } })).map((each) => [
    each.thread_id === thread.thread_id,
    each.status,
    each.values.messages[0].content,
  ]),
  runs: (await client.runs.list(thread.thread_id)).map((run) => run.status),
};
const copy = await client.threads.copy(thread.thread_id);
found.copy = said(copy.values).length;
await client.threads.delete(copy.thread_id);

// Cut behind every event and inside of every one; the SDK goes on by itself.
found.cuts = [];
const frames = await measured(() => run('count to 4'));
async function run(content, more) {
  const { thread_id } = await client.threads.create();
  return client.runs.stream(thread_id, 'guide', {
    input: asked(content),
    streamMode: TUPLES,
    streamResumable: true,
    ...more,
  });
}
async function measured(start) {
  await read(await start());
  return wire.frames;
}
await Promise.all(
  Array.from({ length: 2 * frames - 1 }, async (_, index) => {
    const own = cutting();
    own.behind = (index + 1) / 2;
    const cut = new Client({
      apiUrl: `${base}/langgraph`,
      apiKey: key,
      callerOptions: { fetch: own.fetch },
    });
    const { thread_id } = await cut.threads.create();
    const parts = await read(
      cut.runs.stream(thread_id, 'guide', { input: asked('count to 4'), streamMode: TUPLES }),
    );
    found.cuts.push([
      own.cut,
      texts(parts),
      said(last(parts, 'values')),
      new Set(parts.map((part) => part.id)).size === parts.length,
    ]);
  }),
);

// A page that is loaded again in mid-answer knows the run's id alone.
{
  const { thread_id } = await client.threads.create();
  const { run_id } = await client.runs.create(thread_id, 'guide', { input: asked('count to 300') });
  const parts = await read(client.runs.joinStream(thread_id, run_id, { lastEventId: '-1' }));
  const [text] = texts(parts);
  found.reload = [text.split(' ').length, text === last(parts, 'values').messages.at(-1).content];
  const middle = parts[Math.floor(parts.length / 2)].id;
  const rest = await read(
    client.runs.joinStream(thread_id, run_id, {
      lastEventId: middle,
      streamMode: ['messages-tuple'],
    }),
  );
  const expected = parts
    .slice(Math.floor(parts.length / 2) + 1)
    .filter((part) => part.event === 'messages');
  found.other_modes = rest.length === expected.length && rest[0].id === expected[0].id;
}

// Cancel, and two tabs that look at one run.
{
  const { thread_id } = await client.threads.create();
  const { run_id } = await client.runs.create(thread_id, 'paced', {
    input: asked('word'),
    context: { count: 100000, pace: 50 },
  });
  const tabs = [0, 1].map(() => read(client.runs.joinStream(thread_id, run_id)));
  await client.runs.cancel(thread_id, run_id, true);
  const [one, two] = await Promise.all(tabs);
  const { status } = await client.runs.get(thread_id, run_id);
  found.cancel = [status, JSON.stringify(one) === JSON.stringify(two), one.at(-1).data.error];
}
{
  const name = crypto.randomUUID();
  const both = await Promise.all(
    ['count to 2', 'count to 3'].map((content) =>
      client.runs.wait(name, 'guide', { input: asked(content), ifNotExists: 'create' }),
    ),
  );
  const { values } = await client.threads.getState(name);
  found.tabs = [both.map((each) => each.messages.length).sort(), said(values).length];
}
{
  const { thread_id } = await client.threads.create();
  const first = client.runs.stream(thread_id, 'paced', {
    input: asked('a'),
    context: { count: 20, pace: 40 },
  });
  await first.next();
  const second = await read(
    client.runs.stream(thread_id, 'paced', {
      input: asked('b'),
      streamMode: TUPLES,
      context: { pace: 0 },
    }),
  );
  found.queued = said(last(second, 'values')).map(([type, text]) => [type, text.split(' ').length]);
}

// Failures.
{
  const { thread_id } = await client.threads.create();
  const parts = await read(client.runs.stream(thread_id, 'refusing', { input: asked('go') }));
  const { status } = await client.threads.get(thread_id);
  const waited = await client.runs
    .wait(null, 'refusing', { input: asked('go') })
    .catch((error) => error.message);
  found.failed = [parts.at(-1).event, parts.at(-1).data.message, status, waited];
}
const refusals = await Promise.allSettled([
  clientWith('rg_wrong').threads.search(),
  client.runs.wait(null, 'nobody', { input: asked('go') }),
  client.threads.get('none'),
  client.runs.wait(null, 'guide', { input: asked('go'), multitaskStrategy: 'rollback' }),
]);
found.refusals = refusals.map(({ reason }) => reason.status);

// Interrupts: the run ends with what it asks, and goes on behind it.
found.interrupts = [];
for (const type of ['approve', 'reject']) {
  const { thread_id } = await client.threads.create();
  const context = { paid: '/dev/null' };
  const before = await read(
    client.runs.stream(thread_id, 'refunds', { input: asked('o'), streamMode: TUPLES, context }),
  );
  const [interrupt] = last(before, 'values').__interrupt__;
  const waiting = await client.threads.getState(thread_id);
  const after = await read(
    client.runs.stream(thread_id, 'refunds', {
      command: { resume: { decisions: [{ type }] } },
      streamMode: TUPLES,
    }),
  );
  found.interrupts.push([
    interrupt.value.action_requests[0].name,
    waiting.next,
    waiting.tasks[0].interrupts[0].id === interrupt.id,
    '__interrupt__' in last(after, 'values'),
    texts([...before, ...after]),
    (await client.threads.get(thread_id)).status,
  ]);
}
console.log(JSON.stringify(found));
