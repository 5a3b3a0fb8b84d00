// What a client of Durable Streams goes through; prints one JSON object for the test beside this file.
import { readFileSync } from 'node:fs';
import { DurableStream, stream } from '@durable-streams/client';
import { cutting } from './wire.mjs';

const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const authorized = { Authorization: `Bearer ${key}` };
const found = {};

async function execute(agent_id, goal, more = {}) {
  const answer = await fetch(`${base}/v1/sessions/execute`, {
    method: 'POST',
    headers: { ...authorized, 'content-type': 'application/json', prefer: 'respond-async' },
    body: JSON.stringify({ agent_id, goal, ...more }),
  });
  return (await answer.json()).session_id;
}
const urlOf = (session, query = '') => `${base}/v1/sessions/${session}/durable${query}`;
const read = (session, { query, ...more } = {}) =>
  stream({ url: urlOf(session, query), headers: authorized, ...more });
const textOf = (items) =>
  items
    .filter((item) => item.type === 'text')
    .map((item) => item.content)
    .join('');
const positions = (items) => items.map((item) => item.position);
const contiguous = (items) => positions(items).every((at, index) => at === index + 1);

/** Reads until the stream is closed, in batches. */
async function untilClosed(session, options) {
  const items = [];
  const offsets = [];
  const answer = await read(session, options);
  await new Promise((resolve, reject) => {
    answer.subscribeJson(async (batch) => {
      items.push(...batch.items);
      offsets.push(batch.offset);
      if (batch.streamClosed) resolve();
    });
    answer.closed.catch(reject);
  });
  return { items, offsets };
}

const whole = await execute('guide', 'What is 12% of 250?');
const live = {};
for (const mode of ['sse', 'long-poll', true]) {
  const { items, offsets } = await untilClosed(whole, { query: '?turn=1', live: mode });
  live[mode] = [
    items.at(-1).type,
    contiguous(items),
    offsets.every((at, i) => !i || at >= offsets[i - 1]),
  ];
}
const all = await (await read(whole, { live: false })).json();
const types = [...new Set(all.map((item) => item.type))];
found.whole = { live, types, text: textOf(all).includes('= 30') };

// Cut, between batches and inside of them: each client opens again where its last batch ended.
found.cuts = [];
await Promise.all(
  [1, 60, 150, 300, 500, 700, 900, 1100].map(async (after) => {
    const session = await execute('paced', 'word', { context: { count: 30, pace: 6 } });
    const wire = cutting();
    wire.after = after;
    // The client begins with what is there already; the cut is for what comes live.
    const cut = (url, init) => (String(url).includes('live=') ? wire.fetch : fetch)(url, init);
    const items = [];
    let offset = '-1';
    let opened = 0;
    for (let closed = false; !closed; opened += 1) {
      try {
        const answer = await read(session, { query: '?turn=1', live: 'sse', offset, fetch: cut });
        await new Promise((resolve, reject) => {
          answer.subscribeJson(async (batch) => {
            items.push(...batch.items);
            offset = batch.offset;
            closed ||= batch.streamClosed;
            if (closed) resolve();
          });
          answer.closed.catch(reject);
        });
      } catch {
        // broken off
      }
    }
    found.cuts.push([
      opened > 1,
      contiguous(items),
      items.filter((item) => item.type === 'text').length,
    ]);
  }),
);

// Loaded again in mid-answer, from the offset that the page has kept; and two tabs.
{
  const session = await execute('paced', 'word', { context: { count: 40, pace: 60 } });
  const first = await read(session, { query: '?turn=1', live: 'sse' });
  const { items, offset } = await new Promise((resolve) => {
    const seen = [];
    const stop = first.subscribeJson(async (batch) => {
      seen.push(...batch.items);
      if (seen.length > 10) {
        stop();
        resolve({ items: [...seen], offset: batch.offset });
      }
    });
  });
  const rest = await Promise.all(
    ['sse', 'long-poll'].map((mode) =>
      untilClosed(session, { query: '?turn=1', live: mode, offset }),
    ),
  );
  found.reload = rest.map((each) => [
    contiguous([...items, ...each.items]),
    textOf([...items, ...each.items])
      .trim()
      .split(' ').length,
  ]);
}

// A session goes on with its next turn; a turn that waits goes on where it waited.
{
  const session = await execute('refunds', 'order', { context: { paid: '/dev/null' } });
  const reading = untilClosed(session, { query: '?turn=1', live: 'sse' });
  let answered = false;
  while (!answered) {
    const given = await fetch(`${base}/v1/sessions/${session}/input`, {
      method: 'POST',
      headers: { ...authorized, 'content-type': 'application/json' },
      body: JSON.stringify({ call_id: 'refund', approved: true }),
    });
    answered = given.ok;
  }
  const { items } = await reading;
  found.waits = [textOf(items), contiguous(items)];
}

// A cancelled turn and a failed one say so in their last chunks.
{
  const session = await execute('paced', 'word', { context: { count: 100000, pace: 50 } });
  const reading = untilClosed(session, { query: '?turn=1', live: 'sse' });
  await fetch(`${base}/v1/sessions/${session}/cancel`, {
    method: 'POST',
    headers: { ...authorized, 'content-type': 'application/json' },
    body: '{}',
  });
  const { items } = await reading;
  const failed = await execute('refusing', 'go');
  const { items: said } = await untilClosed(failed, { query: '?turn=1', live: 'long-poll' });
  found.ends = [items.at(-1).status, said.at(-1).status, said.at(-2).message];
}

const handle = new DurableStream({
  url: urlOf(whole),
  headers: authorized,
  contentType: 'application/json',
});
const head = await handle.head();
found.head = [head.exists, head.offset.startsWith('0'), head.contentType];
const refusals = await Promise.allSettled([
  handle.append('{"type":"text"}'),
  read('sess_00000000000000000000', { live: false }),
  stream({ url: urlOf(whole), headers: { Authorization: 'Bearer rg_wrong' }, live: false }),
  read(whole, { live: false, offset: 'nonsense' }),
]);
found.refusals = refusals.map(({ reason }) => reason.status);
console.log(JSON.stringify(found));
