// What a client of LangGraph's thread protocol goes through; prints one JSON object for its test.
import { readFileSync } from 'node:fs';
import { Client } from '@langchain/langgraph-sdk';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const asked = (content) => ({ messages: [{ type: 'human', content }] });
const found = {};

/** A `fetch` whose streams of messages break off after so many bytes, once each. */
function breaking(lengths) {
  const wire = { streams: 0, bytes: 0 };
  wire.fetch = async (url, init) => {
    const response = await fetch(url, init);
    if (!String(url).endsWith('/stream/events') || !init.body.includes('messages')) return response;
    wire.streams += 1;
    let left = lengths.shift() ?? Number.POSITIVE_INFINITY;
    const body = response.body.pipeThrough(
      new TransformStream({
        transform(part, controller) {
          wire.bytes += part.length;
          controller.enqueue(part.slice(0, left));
          left -= part.length;
          if (left <= 0) controller.error(new TypeError('network error'));
        },
      }),
    );
    return new Response(body, { status: response.status, headers: response.headers });
  };
  return wire;
}

function open(assistantId, { threadId = crypto.randomUUID(), lengths = [], apiKey = key } = {}) {
  const wire = breaking(lengths);
  const client = new Client({ apiUrl: `${base}/langgraph`, apiKey });
  const options = { assistantId, fetch: wire.fetch, reconnectDelayMs: () => 20 };
  return { client, threadId, wire, thread: client.threads.stream(threadId, options) };
}

const said = (values) => values.messages.map((message) => [message.type, message.content]);

/** The texts of a run's messages, as they came, with what the thread says at its end. */
async function run({ client, threadId, thread }, content, more = {}) {
  // Read before it starts: the client leaves out what is over when it begins to read.
  await client.threads.create({ threadId, graphId: thread.assistantId });
  const [texts, calls] = [[], []];
  const reading = Promise.all([
    (async () => {
      for await (const message of thread.messages) texts.push(await message.text);
    })(),
    (async () => {
      for await (const call of thread.toolCalls) calls.push(call);
    })(),
  ]);
  await thread.subscribe(['messages', 'tools', 'lifecycle', 'input', 'values']);
  const { run_id: runId } = await thread.run.start({ input: asked(content), ...more });
  const values = await thread.output;
  await reading;
  return { texts, calls, values: said(values), runId };
}

{
  const page = open('guide');
  const { texts, calls, values, runId } = await run(page, 'What is 12% of 250?');
  const { status } = await page.client.runs.get(page.threadId, runId);
  const types = values.map(([type]) => type);
  const call = [calls[0].name, (await calls[0].output).result];
  found.whole = { texts, types, last: values.at(-1)[1], call, status };
  await page.thread.close();
  // A further run of the thread, from another page.
  const again = open('guide', { threadId: page.threadId });
  await again.thread.run.start({ input: asked('count to 3') });
  found.again = said(await again.thread.output).map(([type]) => type);
  await again.thread.close();
}
{
  const config = { configurable: { count: 8, pace: 20 } };
  const whole = open('paced');
  await run(whole, 'word', { config });
  await whole.thread.close();
  const size = whole.wire.bytes / whole.wire.streams;
  found.cuts = await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const at = 1 + Math.floor((index * size) / 12);
      const page = open('paced', { lengths: [at, at, at + 400] });
      const { texts, values } = await run(page, 'word', { config });
      await page.thread.close();
      return [texts, values, page.wire.streams > whole.wire.streams];
    }),
  );
}
{
  const page = open('paced');
  const { run_id: runId } = await page.thread.run.start({
    input: asked('word'),
    config: { configurable: { count: 100000, pace: 50 } },
  });
  const seen = [];
  const events = await page.thread.subscribe(['lifecycle', 'messages']);
  for await (const { method, params } of events) {
    if (method === 'lifecycle') seen.push(params.data.event);
    if (params.data.event === 'content-block-delta' && seen.length === 1) {
      seen.push('text');
      await page.thread.input.inject({
        namespace: [],
        message: { role: 'user', content: 'hurry' },
      });
      await page.client.runs.cancel(page.threadId, runId);
    }
  }
  const { status } = await page.client.runs.get(page.threadId, runId);
  found.cancel = [seen, page.thread.interrupted, page.thread.interrupts.length, status];
  await page.thread.close();
}
{
  const page = open('talkative');
  await page.client.threads.create({ threadId: page.threadId, graphId: 'talkative' });
  const other = open('talkative', { threadId: page.threadId });
  const { run_id: runId } = await page.thread.run.start({ input: asked('go') });
  await page.thread.input.inject({ namespace: [], message: { role: 'user', content: 'hurry' } });
  const shown = [said(await page.thread.output), said(await other.thread.output)];
  await page.client.runs.join(page.threadId, runId);
  shown.push(said((await page.client.threads.getState(page.threadId)).values));
  const late = page.thread.input.inject({ namespace: [], message: { role: 'user', content: 'x' } });
  found.injected = [shown, await late.then(String, ({ code, message }) => [code, message])];
  await page.thread.close();
  await other.thread.close();
}
found.interrupts = [];
for (const type of ['approve', 'reject']) {
  const page = open('refunds');
  const context = { paid: '/dev/null' };
  const before = await run(page, 'o', { config: { configurable: context } });
  const [interrupt] = page.thread.interrupts;
  await page.thread.close();
  // The answer comes from another page.
  const after = open('refunds', { threadId: page.threadId });
  const events = await after.thread.subscribe(['lifecycle', 'input', 'values']);
  const seen = [];
  await after.thread.input.respond({
    namespace: interrupt.namespace,
    interrupt_id: interrupt.interruptId,
    response: { decisions: [{ type }] },
  });
  let values;
  while (seen.at(-1) !== 'completed') {
    for await (const { method, params } of events) {
      if (method === 'values') values = said(params.data);
      else seen.push(params.data.event ?? method);
    }
    if (seen.at(-1) !== 'completed') await events.waitForResume();
  }
  found.interrupts.push([
    interrupt.payload.action_requests[0].name,
    before.values.length,
    seen,
    values,
  ]);
  await after.thread.close();
}
{
  const page = open('refusing');
  await page.client.threads.create({ threadId: page.threadId, graphId: 'refusing' });
  const events = await page.thread.subscribe('lifecycle');
  await page.thread.run.start({ input: asked('go') });
  for await (const { params } of events) found.failed = [params.data.event, params.data.error];
  await page.thread.close();
}
const refusals = await Promise.allSettled([
  open('guide', { apiKey: 'rg_wrong' }).thread.run.start({ input: asked('go') }),
  open('nobody').thread.run.start({ input: asked('go') }),
  open('guide').thread.run.start({ input: null }),
  open('guide').thread.run.start({ input: asked('go'), forkFrom: 'c' }),
  open('guide').thread.input.respond({ namespace: [], interrupt_id: 'i', response: 1 }),
  open('guide').thread.agent.getTree(),
]);
found.refusals = refusals.map(({ reason }) => reason.code ?? reason.status);
console.log(JSON.stringify(found));
process.exit(0);
