// CopilotKit's own client with this server as its runtime; prints one JSON object for the test.
import { readFileSync } from 'node:fs';
import { cutting } from './wire.mjs';

globalThis.window = globalThis; // it asks for the runtime only on a page
const { CopilotKitCore } = await import('@copilotkit/core');
const { base, key } = JSON.parse(readFileSync(0, 'utf8'));
const until = async (condition) => {
  while (!condition()) await new Promise((done) => setTimeout(done, 10));
};
const textsOf = (agent) =>
  agent.messages.filter(({ role }) => role !== 'tool').map(({ content }) => content ?? '');
const say = (agent, content) =>
  agent.addMessage({ id: crypto.randomUUID(), role: 'user', content });

async function page(threadId, name = 'guide') {
  const core = new CopilotKitCore({
    runtimeUrl: `${base}/copilotkit`,
    headers: { Authorization: `Bearer ${key}` },
  });
  await until(() => core.runtimeConnectionStatus === 'connected');
  const agent = core.getAgent(name);
  agent.threadId = threadId;
  return { core, agent };
}

const { core, agent } = await page('copilot-1');
say(agent, 'What is 12% of 250?');
await core.runAgent({ agent });
say(agent, 'count to 3');
await core.runAgent({ agent });
const whole = { texts: textsOf(agent), agents: Object.keys(core.agents).sort() };

// A page that is loaded later has the thread again.
const later = await page('copilot-1');
await later.core.connectAgent({ agent: later.agent });
const again = { texts: textsOf(later.agent) };

// And one that is loaded in mid-run, which then stops the run.
const first = await page('copilot-2', 'slow');
say(first.agent, 'n');
const running = first.core.runAgent({ agent: first.agent }).catch((error) => String(error));
await until(() => textsOf(first.agent).at(-1).startsWith('n-000001 n-000002'));
const third = await page('copilot-2', 'slow');
const connected = third.core.connectAgent({ agent: third.agent });
await until(() => textsOf(third.agent).at(-1)?.startsWith('n-000001 n-000002'));
const rival = await page('copilot-2', 'slow');
const refused = [];
rival.core.subscribe({ onError: ({ error }) => void refused.push(error.message) });
say(rival.agent, 'm');
await rival.core.runAgent({ agent: rival.agent });
third.core.stopAgent({ agent: third.agent });
await Promise.all([running, connected]);
const seen = [textsOf(first.agent).at(-1), textsOf(third.agent).at(-1)];
const never = await page('copilot-never');
await never.core.connectAgent({ agent: never.agent });

// A team, whose members are sub-agents.
const duo = await page('copilot-3', 'duo');
say(duo.agent, 'o');
await duo.core.runAgent({ agent: duo.agent });
const other = await page('copilot-3', 'duo');
await other.core.connectAgent({ agent: other.agent });
const shownBy = ({ agent }) => JSON.stringify(agent.messages.map(({ content }) => content));
const team = { text: shownBy(duo), again: shownBy(other) };
// A failure is one, and so is a wrong key; an approval is given by the run that resumes.
const errors = [];
const onError = ({ code, error }) => void errors.push([code, error.message]);
const failing = await page('copilot-4', 'refusing');
failing.core.subscribe({ onError });
say(failing.agent, 'go');
await failing.core.runAgent({ agent: failing.agent });
const stranger = new CopilotKitCore({
  runtimeUrl: `${base}/copilotkit`,
  headers: { Authorization: 'Bearer wrong' },
});
stranger.subscribe({ onError });
await until(() => stranger.runtimeConnectionStatus === 'error');
// A cut behind every frame and inside of every one is an error, and the thread is whole behind it.
process.on('unhandledRejection', () => {}); // the client leaves one behind
const { fetch } = globalThis;
const cuts = [];
for (let behind = 0.5; ; behind += 0.5) {
  const wire = cutting();
  const broken = await page(`copilot-cut-${behind}`);
  const told = [];
  broken.core.subscribe({ onError: ({ code }) => void told.push(code) });
  say(broken.agent, 'count to 4');
  globalThis.fetch = wire.fetch;
  wire.behind = behind;
  await broken.core.runAgent({ agent: broken.agent });
  globalThis.fetch = fetch;
  if (!wire.cut) break; // behind the last frame
  const isWhole = textsOf(broken.agent).at(-1) === '1 2 3 4';
  await broken.core.connectAgent({ agent: broken.agent });
  cuts.push([told.length > 0 || isWhole, textsOf(broken.agent)]);
}
const refunds = await page('copilot-5', 'refunds');
const outcomes = [];
refunds.agent.subscribe({
  onRunFinishedEvent: ({ event }) => void outcomes.push(event.outcome),
});
refunds.core.addContext({ description: 'paid', value: '/dev/null' });
say(refunds.agent, 'pay back');
await refunds.core.runAgent({ agent: refunds.agent });
const [interrupt] = outcomes[0].interrupts;
const asking = await page('copilot-5', 'refunds'); // loaded while the turn waits
const shown = [];
asking.agent.subscribe({ onRunFinishedEvent: ({ event }) => void shown.push(event.outcome) });
await asking.core.connectAgent({ agent: asking.agent });
const resume = [{ interruptId: interrupt.id, status: 'resolved', payload: { approved: true } }];
await refunds.core.runAgent({ agent: refunds.agent, resume });
const approved = [interrupt.reason, outcomes[1]?.type ?? null, textsOf(refunds.agent).join('')];
// A tool of the page runs there, and its result brings the answer.
const where = await page('copilot-6', 'location');
const handler = async () => JSON.stringify({ city: 'Ulm' });
where.core.addTool({ name: 'location', description: 'Where the user is.', handler });
say(where.agent, 'where?');
await where.core.runAgent({ agent: where.agent });
console.log(
  JSON.stringify({
    cuts,
    refused: refused.map((message) => message.includes('409')),
    loaded: [shown.at(-1).interrupts[0].id === interrupt.id, textsOf(asking.agent).join('')],
    tool: textsOf(where.agent),
    errors,
    approved,
    whole,
    again,
    team,
    stopped: seen.map((text) => text.length > 5 && text.length < 90_000),
    never: never.agent.messages.length,
  }),
);
process.exit(0);
