/** Turns that wait: for an approval, a value, and a tool of the client. */
import { type Chunk, Conflict, InvalidRequest } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, collect } from '../support/clients.js';

const types = (chunks: readonly Chunk[]) => chunks.map(({ type }) => type);

test('a stream ends where the turn waits, and goes on behind the answer', async () => {
  const { sessions } = clientOf();
  const stream = await sessions.executeStream({ agentId: 'refunds', goal: '7' });
  const first = await collect(stream);
  expect(types(first).slice(-3)).toEqual(['tool_call', 'input_required', 'waiting']);
  const [call, ask] = first.slice(-3) as [Chunk, Chunk];
  if (call.type !== 'tool_call' || ask.type !== 'input_required') throw new Error('no ask');
  expect(ask).toMatchObject({ kind: 'approval', tool: 'refund', args: { order: '7' } });
  expect(ask.callId).toBe(call.callId);
  const session = await sessions.get(stream.sessionId ?? '');
  expect([session.status, session.waiting]).toMatchObject([
    'waiting',
    [{ callId: ask.callId, kind: 'approval', expiresAt: ask.expiresAt }],
  ]);
  const listed = [...(await sessions.list({ status: 'waiting', agentId: 'refunds' }))];
  expect(listed[0]?.waiting?.[0]?.callId).toBe(ask.callId);

  const answered = await session.input(ask.callId, { approved: true });
  expect(answered).toMatchObject({ sessionId: session.sessionId, turn: 1, callId: ask.callId });
  await session.input(ask.callId, { approved: true });
  await expect(session.input(ask.callId, { approved: false })).rejects.toBeInstanceOf(Conflict);
  const second = await collect(await session.join({ resumeFrom: stream.position }));
  expect(second[0]).toMatchObject({ type: 'input', status: 'answered', approved: true });
  expect(types(second).slice(-2)).toEqual(['input_required', 'waiting']);
  const question = second.at(-2);
  if (question?.type !== 'input_required') throw new Error('no question');
  expect(question.schema).toEqual({ type: 'string', minLength: 2 });
  const wrong = session.input(question.callId, { payload: 7 });
  await expect(wrong).rejects.toBeInstanceOf(InvalidRequest);
  await session.input(question.callId, { payload: 'Ada' });
  const last = second.at(-1)?.position ?? 0;
  const rest = await collect(await session.join({ resumeFrom: last }));
  expect(rest.at(-1)).toMatchObject({ type: 'done', output: 'Looking. Paid, Ada.' });
});

test('an execute returns what its turn asks, also after it was followed', async () => {
  const { sessions } = clientOf();
  const at = await sessions.execute({ agentId: 'questions', goal: 'three' });
  const late = { agentId: 'questions', goal: 'three', context: { seconds: 0.6 } };
  for (const result of [at, await sessions.execute(late)]) {
    expect(result).toMatchObject({ status: 'waiting', turn: 1, steps: 0, usage: { steps: 0 } });
    expect(result.waiting?.map(({ callId, kind }) => [callId, kind])).toEqual([
      ['n0', 'input'],
      ['n1', 'input'],
      ['n2', 'input'],
    ]);
    expect(result.waiting?.[1]).toMatchObject({
      message: 'Number 1?',
      schema: { type: 'integer' },
    });
  }
  const nothing = sessions.input(at.sessionId, 'n0', {} as never);
  await expect(nothing).rejects.toBeInstanceOf(InvalidRequest);
});

test('the client runs its tool', async () => {
  const { sessions } = clientOf();
  const clientTools = [{ name: 'location', schema: { type: 'object', properties: {} } }];
  const stream = await sessions.executeStream({ agentId: 'location', goal: 'where', clientTools });
  const chunks = await collect(stream);
  expect(chunks.at(-2)).toMatchObject({ type: 'input_required', kind: 'tool', tool: 'location' });
  const ask = chunks.at(-2) as Extract<Chunk, { type: 'input_required' }>;
  const { sessionId = '', position } = stream;
  await sessions.input(sessionId, ask.callId, { payload: { city: 'Oslo', asked_at: null } });
  const rest = await collect(await sessions.join(sessionId, { resumeFrom: position }));
  expect(rest.at(-1)).toMatchObject({ status: 'success', output: 'In Oslo.' });
});

test('a socket answers, and its stream goes on to the end', async () => {
  const realtime = await clientOf().realtime();
  const stream = await realtime.execute({ agentId: 'questions', goal: 'three' });
  for await (const chunk of stream) {
    if (chunk.type !== 'waiting') continue;
    expect(chunk.calls).toEqual(['n0', 'n1', 'n2']);
    for (const call of ['n2', 'n0']) {
      await realtime.input(chunk.sessionId, call, { payload: 1, turn: chunk.turn });
    }
    const declined = { approved: false, reason: 'not mine' } as const;
    await expect(realtime.input(chunk.sessionId, 'n2', declined)).rejects.toBeInstanceOf(Conflict);
    await realtime.input(chunk.sessionId, 'n1', { payload: 2 });
  }
  const session = await clientOf().sessions.get(stream.sessionId ?? '');
  expect([session.status, session.output]).toEqual(['completed', '1 2 1']);
  await realtime.close();
});
