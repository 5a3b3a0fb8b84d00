// What a chat of the AI SDK goes through; prints one JSON object for the test beside this file.
import { isDeepStrictEqual } from 'node:util';
import {
  base,
  chatWith,
  key,
  last,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
  textOf,
  until,
  version,
} from './chat.mjs';
import { cutting } from './wire.mjs';

const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
const found = {};

async function whole() {
  const { chat, ends } = chatWith('guide');
  await chat.sendMessage({ text: 'What is 12% of 250?' });
  await chat.sendMessage({ text: 'count to 3' });
  found.whole = { status: chat.status, messages: chat.messages, ends: ends.length };
}

/** A cut behind every frame, and inside of every one. */
async function cuts() {
  const texts = new Set();
  let count = 0;
  for (let behind = 0.5; ; behind += 0.5) {
    const wire = cutting();
    wire.behind = behind;
    let { chat, errors } = chatWith('guide', { wire, ended: true });
    await chat.sendMessage({ text: 'count to 4' });
    if (!wire.cut) break; // behind the last frame
    if (errors.length === 0) {
      texts.add(textOf(last(chat)));
      continue; // the client had the end
    }
    count += 1;
    // Version 5 adds the replay to what it has of the answer, unless the page is a new one. The
    // later versions begin the answer anew.
    if (version === 'ai5') {
      chat = chatWith('guide', {
        id: chat.id,
        messages: chat.messages.slice(0, 1),
        ended: true,
      }).chat;
    }
    await chat.resumeStream();
    texts.add(textOf(last(chat)));
  }
  found.cuts = { texts: [...texts], cuts: count };
}

async function session(id) {
  return (await fetch(`${base}/v1/sessions/${id}`, { headers })).json();
}

async function stop(id) {
  await fetch(`${base}/v1/sessions/${id}/cancel`, { method: 'POST', headers, body: '{}' });
}

async function reload() {
  const wire = cutting();
  wire.after = 800;
  const { chat } = chatWith('guide', { wire, pace: 50 });
  await chat.sendMessage({ text: 'count to 10000' });
  const { session_id } = last(chat).metadata;
  const seen = textOf(last(chat));
  const page = chatWith('guide', { id: chat.id, messages: chat.messages.slice(0, 1) });
  const reading = page.chat.resumeStream();
  await until(() => last(page.chat).role === 'assistant');
  await until(() => textOf(last(page.chat)).length > seen.length);
  await stop(session_id);
  await reading;
  const again = chatWith('guide', { id: chat.id, messages: page.chat.messages });
  await again.chat.resumeStream();
  found.reload = {
    seen,
    text: textOf(last(page.chat)),
    output: (await session(session_id)).output,
    status: [page.chat.status, again.chat.status],
    messages: again.chat.messages.length,
  };
}

async function messagesOf(id, query = '') {
  const path = `${base}/v1/agents/guide/chat/${encodeURIComponent(id)}/messages${query}`;
  return (await fetch(path, { headers })).json();
}

/** A page that is loaded in mid-answer has the messages before it, and then the answer live. */
async function page() {
  const { chat } = chatWith('guide', { pace: 100 });
  await chat.sendMessage({ text: 'What is 12% of 250?' });
  const sending = chat.sendMessage({ text: 'count to 10000' });
  await until(() => chat.messages.length === 4 && textOf(last(chat)).length > 9);
  const loaded = await messagesOf(chat.id);
  const { chat: other } = chatWith('guide', { id: chat.id, messages: loaded, ended: true });
  const reading = other.resumeStream();
  await until(() => last(other).role === 'assistant' && textOf(last(other)).length > 19);
  await stop(last(chat).metadata.session_id);
  await Promise.all([sending, reading]);
  const shown = (messages) =>
    JSON.parse(JSON.stringify(messages.map(({ role, parts }) => ({ role, parts }))));
  const after = await messagesOf(chat.id);
  found.page = {
    loaded: loaded.map((message) => message.role),
    live: isDeepStrictEqual(shown(other.messages), shown(chat.messages)),
    after: isDeepStrictEqual(shown(after), shown(chat.messages)) || [after, chat.messages],
    ids: isDeepStrictEqual(after[3].id, last(chat).id),
    status: after.map((message) => message.metadata.status),
    never: await messagesOf('never begun'),
  };
}

/** The last answer anew. The one before is left out of the page, and can be read. */
async function regenerate() {
  const { chat, errors } = chatWith('guide');
  await chat.sendMessage({ text: 'count to 2' });
  await chat.sendMessage({ text: 'count to 3' });
  await chat.regenerate();
  await chat.regenerate({ messageId: last(chat).id });
  const turnsOf = (messages) =>
    messages.filter(({ role }) => role === 'assistant').map(({ metadata }) => metadata.turn);
  const shown = turnsOf(chat.messages);
  const all = await messagesOf(chat.id, '?replaced=true');
  found.regenerate = {
    shown,
    text: textOf(last(chat)),
    loaded: turnsOf(await messagesOf(chat.id)),
    replaced: all.map(({ metadata }) => metadata.replaced_by ?? 0),
  };
  await chat.regenerate({ messageId: chat.messages[1].id }); // not the last
  found.regenerate.errors = errors;
}

/** Data that is not kept: the one who asked sees it, and a page that comes back to the answer. */
async function transient() {
  const seen = [[], []];
  const { chat } = chatWith('reporting', { onData: (part) => seen[0].push(part) });
  const sending = chat.sendMessage({ text: 'go' });
  await until(() => seen[0].length > 2);
  const page = chatWith('reporting', {
    id: chat.id,
    messages: chat.messages.slice(0, 1),
    onData: (part) => seen[1].push(part),
  });
  const reading = page.chat.resumeStream();
  await until(() => seen[1].length > 2);
  await stop(last(chat).metadata.session_id);
  await Promise.all([sending, reading]);
  found.transient = {
    types: [...new Set(seen.flat().map((part) => part.type))],
    parts: last(page.chat).parts.map((part) => part.type),
    text: textOf(last(page.chat)),
  };
}

async function cancel() {
  const { chat, ends } = chatWith('guide', { pace: 20 });
  const sending = chat.sendMessage({ text: 'count to 10000' });
  await until(() => last(chat)?.metadata?.session_id);
  await stop(last(chat).metadata.session_id);
  await sending;
  found.cancel = { status: chat.status, ends: ends.length };
}

async function failures() {
  const failing = chatWith('refusing');
  await failing.chat.sendMessage({ text: 'go' });
  const wrong = chatWith('guide', { credential: 'rg_wrong' });
  await wrong.chat.sendMessage({ text: 'count to 3' });
  const nobody = chatWith('nobody');
  await nobody.chat.sendMessage({ text: 'count to 3' });
  found.failures = [failing, wrong, nobody].map((each) => [each.chat.status, each.errors[0]]);
}

/** Two pages that begin one chat at once, and one that posts its message again. */
async function tabs() {
  const id = `tabs ${version}`;
  const [one, two] = [1, 2].map(() => chatWith('guide', { id, pace: 20 }));
  const sent = [
    one.chat.sendMessage({ text: 'count to 10000' }),
    two.chat.sendMessage({ text: 'count to 10001' }),
  ];
  await Promise.race(sent); // the one that is refused
  await stop([one, two].map((each) => last(each.chat).metadata?.session_id).find(Boolean));
  await Promise.all(sent);
  const post = async () => {
    const response = await fetch(`${base}/v1/agents/guide/chat`, {
      method: 'POST',
      headers,
      body: JSON.stringify({
        id: `again ${version}`,
        messages: [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'count to 2' }] }],
      }),
    });
    const lines = (await response.text()).split('\n');
    return lines.filter((line) => line.startsWith('data: ') || !response.ok).join();
  };
  const again = await Promise.all([post(), post()]);
  again.push(await post()); // behind the end as well
  found.tabs = {
    errors: [...one.errors, ...two.errors],
    answers: [one, two].filter((each) => each.errors.length === 0).length,
    again: new Set(again).size === 1 || again,
  };
}

/** A person approves a call, or denies it; a reload while the turn waits shows the request again. */
async function approvals() {
  found.approvals = {};
  const context = { paid: '/dev/null' };
  for (const approved of [true, false]) {
    const { chat, errors } = chatWith('refunds', { context });
    await chat.sendMessage({ text: 'pay back' });
    const page = chatWith('refunds', {
      id: chat.id,
      messages: chat.messages.slice(0, 1),
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    await page.chat.resumeStream();
    const asked = page.chat.messages.at(-1).parts.find((part) => part.approval);
    await page.chat.addToolApprovalResponse({ id: asked.approval.id, approved, reason: 'so' });
    await until(() => page.chat.status === 'ready' && page.ends.length > 1);
    found.approvals[approved] = decided(page, asked.state, errors);
  }
}

function decided({ chat, errors }, asked, before) {
  const call = last(chat).parts.find((part) => part.toolCallId);
  return {
    asked,
    state: call.state,
    text: textOf(last(chat)),
    messages: chat.messages.length,
    errors: [...before, ...errors],
  };
}

/** Version 5 has no approvals. It shows them as data, and the answer goes to the session. */
async function approvalsAsData() {
  found.approvals = {};
  const context = { paid: '/dev/null' };
  const given = { context, query: 'sdk=5', ended: true };
  for (const approved of [true, false]) {
    const { chat, errors } = chatWith('refunds', given);
    await chat.sendMessage({ text: 'pay back' });
    const asked = last(chat).parts.find((part) => part.type === 'data-approval');
    await fetch(`${base}/v1/sessions/${last(chat).metadata.session_id}/input`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ call_id: asked.id, approved, reason: 'so' }),
    });
    const messages = chat.messages.slice(0, 1);
    const page = chatWith('refunds', { ...given, id: chat.id, messages });
    await page.chat.resumeStream();
    found.approvals[approved] = decided(page, asked.type, errors);
  }
}

/** A tool that the page runs. */
async function clientTools() {
  const { chat, ends, errors } = chatWith('location', {
    fields: { client_tools: [{ name: 'location', description: 'Where the user is.' }] },
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
      chat.addToolOutput({ tool: toolName, toolCallId, output: { city: 'Ulm' } });
    },
  });
  await chat.sendMessage({ text: 'where?' });
  await until(() => chat.status === 'ready' && ends.length > 1);
  found.tools = { text: textOf(last(chat)), messages: chat.messages.length, errors };
}

/** A transport that goes on by itself, from the frame where a cut left it. */
async function workflow() {
  if (version !== 'ai7') return; // the one that it is made for
  const { WorkflowChatTransport } = await import('@ai-sdk/workflow/client');
  const wire = cutting();
  const cuts = [300, 500, 700];
  const fetch = (url, init) => {
    wire.after = cuts.shift() ?? Number.POSITIVE_INFINITY;
    return wire.fetch(url, init);
  };
  console.error = () => {}; // it tells of each cut
  const transport = new WorkflowChatTransport({
    api: `${base}/v1/agents/guide/chat`,
    fetch,
    prepareSendMessagesRequest: ({ id, messages }) => ({ headers, body: { id, messages } }),
    prepareReconnectToStreamRequest: () => ({ headers }),
  });
  const { chat, errors } = chatWith('guide', { transport });
  await chat.sendMessage({ text: 'count to 30' });
  const text = textOf(last(chat));
  await chat.resumeStream(); // as a reload does, also after the end
  found.workflow = { text, again: textOf(last(chat)), errors, requests: wire.requests };
}

/** How answers end for it; and a page that is loaded in mid-answer, which it reads from the start. */
async function workflowEnds() {
  if (version !== 'ai7') return;
  const { WorkflowChatTransport } = await import('@ai-sdk/workflow/client');
  const workflowChat = (agent, { credential = key, ...options } = {}) => {
    const own = { ...headers, Authorization: `Bearer ${credential}` };
    const transport = new WorkflowChatTransport({
      api: `${base}/v1/agents/${agent}/chat`,
      prepareSendMessagesRequest: ({ id, messages }) => ({
        headers: own,
        body: { id, messages, context: { words_per_second: 50 } },
      }),
      prepareReconnectToStreamRequest: () => ({ headers: own }),
    });
    return chatWith(agent, { transport, ...options });
  };
  const failing = workflowChat('refusing');
  await failing.chat.sendMessage({ text: 'go' });
  const wrong = workflowChat('guide', { credential: 'rg_wrong' });
  await wrong.chat.sendMessage({ text: 'count to 3' });
  const one = workflowChat('guide');
  const sending = one.chat.sendMessage({ text: 'count to 10000' });
  await until(() => one.chat.messages.length === 2 && textOf(last(one.chat)).length > 9);
  const busy = workflowChat('guide', { id: one.chat.id });
  await busy.chat.sendMessage({ text: 'count to 4' });
  const seen = textOf(last(one.chat));
  const page = workflowChat('guide', {
    id: one.chat.id,
    messages: one.chat.messages.slice(0, 1),
  });
  const reading = page.chat.resumeStream();
  await until(() => page.chat.messages.length === 2);
  await until(() => textOf(last(page.chat)).length > seen.length);
  await stop(last(one.chat).metadata.session_id);
  await Promise.all([sending, reading]);
  const { output, status } = await session(last(one.chat).metadata.session_id);
  found.workflowEnds = {
    failures: [failing, wrong, busy].map(({ chat, errors }) => [chat.status, errors[0]]),
    cancel: [one, page].map(({ chat, errors }) => [chat.status, errors.length]),
    same: [one, page].map(({ chat }) => textOf(last(chat)) === output),
    status,
  };
}

/** Its count of frames begins with each of its requests, also with that of an approval. */
async function workflowApprovals() {
  if (version !== 'ai7') return;
  const { WorkflowChatTransport } = await import('@ai-sdk/workflow/client');
  found.workflowApprovals = [];
  for (const after of [190, 290, 390, 480]) {
    const wire = cutting();
    const transport = new WorkflowChatTransport({
      api: `${base}/v1/agents/refunds/chat`,
      fetch: wire.fetch,
      prepareSendMessagesRequest: ({ id, messages }) => ({
        headers,
        body: { id, messages, context: { paid: '/dev/null' } },
      }),
      prepareReconnectToStreamRequest: () => ({ headers }),
    });
    const { chat, errors, ends } = chatWith('refunds', {
      transport,
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    });
    await chat.sendMessage({ text: 'pay back' });
    wire.after = after;
    const asked = last(chat).parts.find((part) => part.approval);
    await chat.addToolApprovalResponse({ id: asked.approval.id, approved: true });
    await until(() => chat.status === 'ready' && ends.length > 1);
    found.workflowApprovals.push([textOf(last(chat)), errors.length, wire.requests]);
  }
}

await Promise.all([
  page(),
  regenerate(),
  transient(),
  workflowApprovals(),
  workflowEnds(),
  clientTools(),
  version === 'ai5' ? approvalsAsData() : approvals(),
  workflow(),
  whole(),
  cuts(),
  reload(),
  cancel(),
  failures(),
  tabs(),
]);
console.log(JSON.stringify(found));
