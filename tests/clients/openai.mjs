// What a client of OpenAI's API goes through; prints one JSON object for the test beside this file.
import { readFileSync } from 'node:fs';
import OpenAI from 'openai';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const wire = cutting();
const client = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: key, fetch: wire.fetch });
const found = {};

async function read(stream, events = []) {
  for await (const event of stream) events.push(event);
  return events;
}

const first = client.responses.stream({ model: 'guide', input: 'What is 12% of 250?' });
const events = await read(first);
const whole = await first.finalResponse();
found.whole = {
  status: whole.status,
  text: whole.output_text,
  types: whole.output.map((item) => item.type),
  numbers: events.map((event) => event.sequence_number),
};

// Cut behind every frame and inside of every one, then read on behind the last event.
found.cuts = [];
for (let behind = 0.5; ; behind += 0.5) {
  const seen = [];
  wire.behind = behind;
  wire.cut = false;
  try {
    await read(
      await client.responses.create({ model: 'guide', input: 'count to 4', stream: true }),
      seen,
    );
    if (!wire.cut) break; // behind the last frame
  } catch {
    // broken off
  }
  const id = seen[0]?.response.id;
  if (!id) continue; // nothing came, so nothing can be resumed
  const last = seen.at(-1).sequence_number;
  const rest = await client.responses.retrieve(id, { stream: true, starting_after: last });
  await read(rest, seen);
  const text = seen.filter((event) => event.type === 'response.output_text.delta');
  found.cuts.push([
    seen.every((event, index) => event.sequence_number === index),
    text.map((event) => event.delta).join(''),
    seen.at(-1).type,
  ]);
}

const running = await client.responses.create({
  model: 'guide',
  input: 'count to 100000',
  background: true,
});
found.cancel = [running.status, (await client.responses.cancel(running.id)).status];

// Two pages that come to a running response, one in its middle; both see how it is cancelled.
const long = await client.responses.create({ model: 'slow', input: 'word', background: true });
const come = async (starting_after) => {
  const stream = await client.responses.retrieve(long.id, { stream: true, starting_after });
  const seen = [];
  for await (const event of stream) {
    seen.push(event);
    if (seen.length === 20) await client.responses.cancel(long.id);
  }
  return [
    seen[0].sequence_number,
    seen.every(({ sequence_number: number }, index) => number === seen[0].sequence_number + index),
    seen.at(-1).response.status,
  ];
};
found.reload = await Promise.all([come(), come(9)]);

const conversation = await client.conversations.create();
await client.responses.create({
  model: 'guide',
  input: 'count to 2',
  conversation: conversation.id,
});
const second = await client.responses.create({
  model: 'guide',
  input: 'count to 3',
  conversation: conversation.id,
});
const items = await client.conversations.items.list(conversation.id, { order: 'asc', limit: 3 });
const all = [];
for await (const item of items) all.push(item.content?.[0]?.text);
found.conversation = { items: all, before: second.previous_response_id !== null };

const failed = await client.responses.create({ model: 'refusing', input: 'go' });
found.failed = [failed.status, failed.error.message];
const refusals = [
  new OpenAI({ baseURL: `${base}/openai/v1`, apiKey: 'rg_wrong' }).models.list(),
  client.responses.create({ model: 'nobody', input: 'go' }),
];
found.refusals = (await Promise.allSettled(refusals)).map(({ reason }) => [
  reason.status,
  reason.code,
]);

const asked = await client.responses.create({ model: 'buyer', input: '/dev/null' });
const approval = {
  type: 'mcp_approval_response',
  approve: true,
  approval_request_id: asked.output.at(-1).id,
};
const approved = await client.responses.create({
  model: 'buyer',
  input: [approval],
  previous_response_id: asked.id,
});
found.approval = [asked.output.at(-1).type, approved.status, approved.output_text];

const messages = [
  { role: 'system', content: 'You are brief.' },
  { role: 'user', content: 'count to 2' },
  { role: 'assistant', content: '1 2' },
  { role: 'user', content: 'count to 3' },
];
const chat = { model: 'guide', messages, stream: true, stream_options: { include_usage: true } };
const chunks = await read(await client.chat.completions.create(chat));
found.completion = {
  text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
  end: chunks.map((chunk) => chunk.choices[0]?.finish_reason).filter(Boolean),
  usage: chunks.at(-1).usage.total_tokens > 0,
};
const tooled = await client.chat.completions.create({
  model: 'guide',
  messages: [{ role: 'user', content: 'What is 12% of 250?' }],
});
found.completion.tooled = tooled.choices[0].message.content;

// A completion cannot be resumed. A cut of one is an error, or comes behind the end.
found.cutCompletions = [];
for (let behind = 0.5; ; behind += 0.5) {
  const seen = [];
  wire.behind = behind;
  wire.cut = false;
  const error = await client.chat.completions
    .create({ ...chat, messages: [{ role: 'user', content: 'count to 4' }] })
    .then((stream) => read(stream, seen))
    .then(
      () => null,
      (caught) => caught.constructor.name,
    );
  if (!wire.cut) break; // behind the last frame
  const ended = seen.some((chunk) => chunk.choices[0]?.finish_reason);
  found.cutCompletions.push([error !== null, ended]);
}
console.log(JSON.stringify(found));
