import { NotFound } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf } from '../support/clients.js';

test('a team is made, changed, executed as an agent, and deleted', async () => {
  const { teams, sessions } = clientOf();
  const made = await teams.create({
    name: 'Desk',
    strategy: 'sequential',
    members: [{ agent_id: 'guide', role: 'writer' }],
  });
  expect(made).toMatchObject({ onFailure: 'fail', lead: null });
  expect(made.members).toEqual([{ agent_id: 'guide', role: 'writer', instructions: null }]);
  const changed = await teams.update(made.id, { onFailure: 'continue' });
  expect(await teams.get(made.id)).toEqual(changed);
  expect([...(await teams.list())].map(({ id }) => id)).toContain(made.id);
  const result = await sessions.execute({ agentId: made.id, goal: 'count to 2' });
  expect(result.output).toBe('1 2');
  await teams.delete(made.id);
  await expect(teams.get(made.id)).rejects.toBeInstanceOf(NotFound);
});
