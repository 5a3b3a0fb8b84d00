// What A2A's own clients go through, of 1.0 (`@a2a-js/sdk`, over both of its bindings) and of 0.3
// (`a2a03`); prints one JSON object for the test.
import { readFileSync } from 'node:fs';
import { cutting } from './wire.mjs';

const { base, key, sdk, binding, paid } = JSON.parse(readFileSync(0, 'utf8'));
const isOld = sdk === 'a2a03';
const isOldRest = isOld && binding !== 'JSONRPC';
const { ClientFactory, DefaultAgentCardResolver, ...transports } = await import(`${sdk}/client`);
const Transport =
  transports[binding === 'JSONRPC' ? 'JsonRpcTransportFactory' : 'RestTransportFactory'];
const { SendMessageRequest, StreamResponse, Task } = isOld ? {} : await import(sdk);
const found = {};

function clientOf(agent, { wire = cutting(), credential = key } = {}) {
  const fetchImpl = (url, init = {}) => {
    const headers = new Headers(init.headers);
    headers.set('Authorization', `Bearer ${credential}`);
    return wire.fetch(url, { ...init, headers });
  };
  // The card is open to all.
  const cardResolver = new DefaultAgentCardResolver();
  const factory = new ClientFactory({
    transports: [new Transport({ fetchImpl })],
    cardResolver,
  });
  return factory.createFromUrl(`${base}/a2a/${agent}/`, '.well-known/agent-card.json');
}

/** A request to send these parts, in the words of the version. */
function request(parts, more = {}, metadata = {}) {
  const message = {
    messageId: crypto.randomUUID(),
    role: isOld ? 'user' : 'ROLE_USER',
    parts: parts.map((part) => {
      const name = typeof part === 'string' ? 'text' : 'data';
      return isOld ? { kind: name, [name]: part } : { [name]: part };
    }),
    ...(isOld ? { kind: 'message' } : {}),
    ...more,
  };
  const wire = { message, metadata };
  return isOld ? wire : SendMessageRequest.fromJSON(wire);
}

/** An event in the words of 0.3. */
function plain(event) {
  if (isOld) return event;
  const { task, statusUpdate, artifactUpdate } = StreamResponse.toJSON(event);
  if (task) return { kind: 'task', ...task };
  return statusUpdate
    ? { kind: 'status-update', ...statusUpdate }
    : { kind: 'artifact-update', ...artifactUpdate };
}

const stateOf = (status) => status.state.replace('TASK_STATE_', '').toLowerCase().replace('_', '-');
const textOf = (parts) =>
  parts
    .filter((part) => part.text !== undefined)
    .map((part) => part.text)
    .join('');
const taskOf = (result) => {
  const task = isOld ? result : Task.toJSON(result);
  return {
    id: task.id,
    context: task.contextId,
    state: stateOf(task.status),
    text: (task.artifacts ?? []).map((artifact) => textOf(artifact.parts)).join(''),
    said: textOf(task.status.message?.parts ?? []),
    asked: (task.history ?? []).map((message) => textOf(message.parts)).join(''),
  };
};

/** Everything of a stream, put together as a client does. */
async function read(stream, on = () => {}) {
  const all = { kinds: [], states: [], text: '', said: '', id: null, context: null, error: null };
  try {
    for await (const event of stream) {
      const change = plain(event);
      all.kinds.push(change.kind);
      all.context = change.contextId;
      if (change.kind === 'task') {
        all.id = change.id;
        all.text = (change.artifacts ?? []).map((each) => textOf(each.parts)).join('');
      }
      if (change.status) {
        all.states.push(stateOf(change.status));
        all.said = textOf(change.status.message?.parts ?? []);
      }
      if (change.artifact) {
        const text = textOf(change.artifact.parts);
        // Of 0.3 over HTTP+JSON the client gives its caller no `append`.
        all.text = (change.append ?? isOldRest) ? all.text + text : text;
      }
      await on(all);
    }
  } catch (error) {
    all.error = error.message ?? String(error);
  }
  return all;
}

const guide = await clientOf('guide');
found.card = (await guide.getAgentCard()).name;
found.whole = await read(guide.sendMessageStream(request(['What is 12% of 250?'])));
found.further = await read(
  guide.sendMessageStream(request(['count to 3'], { contextId: found.whole.context })),
);
const context = { contextId: `mine-${sdk}-${binding}` };
found.blocking = taskOf(await guide.sendMessage(request(['count to 3'], context)));
const again = taskOf(await guide.getTask({ id: found.blocking.id }));
found.again = { same: JSON.stringify(again) === JSON.stringify(found.blocking) };
const at = [];
for (const _ of [1, 2]) {
  at.push(
    guide.sendMessage(request(['count to 2'], { contextId: `${sdk}-${binding}-${at.length}` })),
  );
}
found.two = (await Promise.all(at)).map(taskOf);

const refusing = await clientOf('refusing');
found.failed = await read(refusing.sendMessageStream(request(['go'])));
found.missing = await guide.getTask({ id: 'sess_none.1' }).then(taskOf, (error) => error.message);

// A cut behind every frame and inside of every one, and the task taken up again.
const wire = cutting();
const counting = { count: 10 };
const pacing = await clientOf('paced', { wire });
found.cuts = [];
for (let behind = 0.5; ; behind += 0.5) {
  wire.behind = behind;
  wire.cut = false;
  const cut = await read(pacing.sendMessageStream(request(['n'], {}, counting)));
  if (!wire.cut) break; // behind the last frame
  const rest = cut.id ? await read(pacing.resubscribeTask({ id: cut.id })) : null;
  const task = cut.id ? taskOf(await pacing.getTask({ id: cut.id })) : null;
  found.cuts.push({
    error: cut.error,
    before: cut.text,
    // Of a task that ended meanwhile there is nothing to subscribe to.
    rest: rest?.error ? null : rest?.text,
    state: task?.state,
    text: task?.text,
  });
}

// A subscription in mid-answer, then a cancel.
const slow = await clientOf('paced');
const slowly = { count: 1000, pace: 20 };
let resubscribed;
let cancelled = false;
const first = await read(slow.sendMessageStream(request(['go'], {}, slowly)), async (all) => {
  if (all.text && !resubscribed) resubscribed = read(slow.resubscribeTask({ id: all.id }));
  if (all.text.length > 40 && !cancelled) {
    cancelled = true; // a second one would be refused, and text may be on its way still
    await slow.cancelTask({ id: all.id });
  }
});
const second = await resubscribed;
found.cancelled = { states: [first.states.at(-1), second.states.at(-1)], text: first.text };
found.resubscribed = { text: second.text, first: second.kinds[0] };
found.ended = await read(slow.resubscribeTask({ id: first.id }));

// Approvals and questions.
const buyer = await clientOf('refunds');
found.approvals = [];
for (const answer of [{ approved: true }, { approved: false, reason: 'no' }]) {
  const asked = await read(buyer.sendMessageStream(request(['o'], {}, { paid })));
  const to = { taskId: asked.id, contextId: asked.context };
  const text = await read(buyer.sendMessageStream(request(['yes'], to)));
  const ended = await read(buyer.sendMessageStream(request([answer], to)));
  found.approvals.push([asked.states.at(-1), asked.said, text.error, ended.states, ended.text]);
}
const questions = await clientOf('questions');
const asked = taskOf(await questions.sendMessage(request(['go'])));
const numbers = [0, 1, 2].map((n) => ({ call_id: `n${n}`, value: n }));
found.questions = [
  asked.state,
  taskOf(await questions.sendMessage(request(numbers, { taskId: asked.id }))).text,
];

// Push notification configs, whose receiver is not needed here.
const setting = { url: 'http://127.0.0.1:9/', token: 'token', id: 'mine' };
const held = await read(buyer.sendMessageStream(request(['o'], {}, { paid })));
const configs = isOld
  ? {
      set: (config) =>
        buyer.setTaskPushNotificationConfig({ taskId: held.id, pushNotificationConfig: config }),
      get: (id) =>
        buyer.getTaskPushNotificationConfig({ id: held.id, pushNotificationConfigId: id }),
      list: () => buyer.listTaskPushNotificationConfig({ id: held.id }),
      delete: (id) =>
        buyer.deleteTaskPushNotificationConfig({ id: held.id, pushNotificationConfigId: id }),
    }
  : {
      set: (config) =>
        buyer.createTaskPushNotificationConfig({ tenant: '', taskId: held.id, ...config }),
      get: (id) => buyer.getTaskPushNotificationConfig({ tenant: '', taskId: held.id, id }),
      list: async () =>
        (await buyer.listTaskPushNotificationConfig({ tenant: '', taskId: held.id })).configs,
      delete: (id) => buyer.deleteTaskPushNotificationConfig({ tenant: '', taskId: held.id, id }),
    };
const plainConfig = (config) => {
  const { id, url } = config.pushNotificationConfig ?? config;
  return { id, url, ofTask: config.taskId === held.id };
};
found.configs = [plainConfig(await configs.set(setting)), plainConfig(await configs.get('mine'))];
found.configs.push(...(await configs.list()).map(plainConfig));
await configs.delete('mine');
found.configs.push((await configs.list()).length);
await buyer.cancelTask({ id: held.id });

const wrong = await clientOf('guide', { credential: 'wrong' });
found.wrong = await wrong
  .sendMessage(request(['hi']))
  .then(String, (error) => (error.statusCode === 401 ? 'UNAUTHENTICATED' : error.message));
console.log(JSON.stringify(found));
