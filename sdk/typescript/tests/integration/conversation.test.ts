/** Messages, steering, forks and the queue. */
import { Conflict, NotFound } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf, collect } from '../support/clients.js';

const texts = (messages: Iterable<{ parts: readonly { type: string; content?: unknown }[] }>) =>
  [...messages].map(({ parts }) =>
    parts
      .filter((part) => part.type === 'text')
      .map((part) => part.content)
      .join(''),
  );

test('a conversation: messages, a fork, a regenerated turn', async () => {
  const { sessions } = clientOf();
  const { sessionId } = await sessions.execute({ agentId: 'guide', goal: 'count to 3' });
  const session = await sessions.get(sessionId);
  await session.execute({ goal: 'count to 2' });
  const page = await session.messages();
  expect(texts(page)).toEqual(['count to 3', '1 2 3', 'count to 2', '1 2']);
  expect(page.data[1]).toMatchObject({ role: 'assistant', turn: 1, usage: { steps: 1 } });
  const newest = await session.messages({ limit: 2 });
  const older = await session.messages({ cursor: newest.nextCursor ?? '' });
  expect([...older].map(({ turn }) => turn)).toEqual([1, 1]);
  expect(older.position).toBeNull();
  const rest = await collect(await session.join({ resumeFrom: page.position ?? -1 }));
  expect(rest).toEqual([]);

  const fork = await session.fork({ turn: 1 });
  expect(fork.forkedFrom).toEqual({ sessionId, turn: 1 });
  expect((await fork.execute({ goal: 'count to 1' })).turn).toBe(1);
  expect(texts(await fork.messages())).toEqual(['count to 3', '1 2 3', 'count to 1', '1']);

  const again = await session.execute({ goal: '', replaceTurn: 2 });
  expect(again.output).toBe('1 2');
  const replaced = [...(await session.messages())].map((message) => message.replacedBy);
  expect(replaced).toEqual([undefined, undefined, 3, 3, undefined, undefined]);
  await session.delete();
  expect(texts(await fork.messages())).toHaveLength(4);
  await expect(sessions.messages(sessionId)).rejects.toBeInstanceOf(NotFound);
});

test('a message to a running turn, and its queue', async () => {
  const { sessions } = clientOf();
  const session = await sessions.create({ agentId: 'guide', context: { words_per_second: 1 } });
  const stream = await session.executeStream({ goal: 'count to 500' });
  const posted = await session.send('shorter', 'm1');
  expect(posted).toEqual({ sessionId: session.sessionId, turn: 1, messageId: 'm1' });
  expect(await session.send('shorter', 'm1')).toEqual(posted);
  await expect(session.send('longer', 'm1')).rejects.toBeInstanceOf(Conflict);

  const waiting = session.execute({ goal: 'count to 4', ifBusy: 'enqueue' });
  let queue = await sessions.queue(session.sessionId);
  while (!queue.length) queue = await sessions.queue(session.sessionId);
  expect(queue).toMatchObject([{ turn: 2, goal: 'count to 4' }]);
  await sessions.editQueued(session.sessionId, 2, { goal: 'count to 5', timeoutSeconds: 9 });
  queue = await sessions.queue(session.sessionId);
  expect(queue).toMatchObject([{ goal: 'count to 5', timeoutSeconds: 9 }]);
  await sessions.removeQueued(session.sessionId, 2);
  await expect(sessions.removeQueued(session.sessionId, 1)).rejects.toBeInstanceOf(Conflict);
  await session.cancel();
  expect((await waiting).status).toBe('cancelled');
  const chunks = await collect(stream);
  expect(chunks.find(({ type }) => type === 'user_message')).toMatchObject({
    messageId: 'm1',
    content: 'shorter',
    taken: false,
  });
  await expect(session.send('nobody listens')).rejects.toBeInstanceOf(Conflict);
});
