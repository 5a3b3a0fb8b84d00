/** What the user's guide does in JavaScript, call by call, against the server. */
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { expect, inject, test } from 'vitest';
import { WebSocket } from 'ws';
import { clientOf } from '../support/clients.js';
import { KEY } from '../support/server.js';

test('an agent is executed and its stream is read', async () => {
  const client = new ResonantGenesis({ apiKey: KEY, baseUrl: inject('serverUrl') });
  const stream = await client.sessions.executeStream({ agentId: 'guide', goal: 'What is 6 * 7?' });
  let text = '';
  const tools: string[] = [];
  let completed = '';
  for await (const chunk of stream) {
    if (chunk.type === 'text') {
      text += chunk.content;
    } else if (chunk.type === 'tool_call') {
      tools.push(chunk.tool);
    } else if (chunk.type === 'done') {
      completed = chunk.sessionId;
    }
  }
  expect(text).toContain('6 * 7 = 42');
  expect(tools).toEqual(['calculator']);
  expect(completed).toMatch(/^sess_/);
});

test('a plain WebSocket authenticates, subscribes and is told of sessions', async () => {
  const client = clientOf();
  const ws = new WebSocket(`${inject('serverUrl').replace('http', 'ws')}/v1/ws`);
  const seen: [string, unknown][] = [];
  const done = new Promise<void>((resolve, reject) => {
    ws.onopen = () => {
      ws.send(JSON.stringify({ type: 'auth', token: KEY }));
      ws.send(JSON.stringify({ type: 'subscribe', channels: ['sessions', 'agents'] }));
    };
    ws.onmessage = (event) => {
      const data = JSON.parse(String(event.data));
      switch (data.type) {
        case 'subscribed':
          client.sessions.executeStream({ agentId: 'failing', goal: 'fail' }).catch(reject);
          break;
        case 'session.started':
        case 'session.completed':
          seen.push([data.type, data.session_id]);
          break;
        case 'agent.error':
          seen.push([data.type, data.error]);
          if (String(data.error).includes('cannot fail')) resolve();
          break;
      }
    };
    ws.onerror = reject;
  });
  await done;
  const closed = new Promise<void>((resolve) => {
    ws.onclose = () => resolve();
  });
  ws.close();
  await closed;
  const names = seen.map(([name]) => name);
  expect(names).toContain('session.started');
  expect(names).toContain('agent.error');
  // Those of other tests' sessions come as well.
  expect(seen.map(([, said]) => said)).toContainEqual(expect.stringContaining('cannot fail'));
});

test('an error of the agent is thrown with its code', async () => {
  const client = clientOf();
  const stream = await client.sessions.executeStream({ agentId: 'failing', goal: 'fail' });
  let text = '';
  const read = async () => {
    for await (const chunk of stream) if (chunk.type === 'text') text += chunk.content;
  };
  await expect(read()).rejects.toMatchObject({
    name: 'AgentFailed',
    code: 'AGENT_FAILED',
    message: 'cannot fail',
    sessionId: stream.sessionId,
  });
  expect(text).toBe('I shall ');
});

test('a broken-off answer is gone on with from its position', async () => {
  // The guide's recovery loop; the key names the turn, where Python's client remembers it by task.
  const client = clientOf();
  const idempotencyKey = crypto.randomUUID();
  let lastPosition = 0;
  let text = '';
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const stream = await client.sessions.executeStream({
      agentId: 'paced',
      goal: 'n',
      context: { count: 20 },
      resumeFrom: lastPosition,
      idempotencyKey,
    });
    let ended = true;
    for await (const chunk of stream) {
      if (chunk.type === 'text') text += chunk.content;
      lastPosition = chunk.position;
      if (lastPosition % 5 === 0) {
        ended = false;
        break;
      }
    }
    if (ended) break;
  }
  expect(text.match(/n-\d+ /g)).toHaveLength(20);
  expect(new Set(text.match(/n-\d+ /g)).size).toBe(20);
});
