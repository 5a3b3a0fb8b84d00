/** Who may see which files. */
import { NotFound, PermissionDenied, ResonantGenesis } from '@resonantgenesis/sdk';
import { expect, test } from 'vitest';
import { clientOf } from '../support/clients.js';
import { content, MIB, pieces, sha256, stored } from './support.js';

async function tokenOf(subject: string, scopes = ['files:read', 'files:write']) {
  const { token } = await clientOf().tokens.create({ scopes, subject });
  return clientOf({ token });
}

test('get, list and delete', async () => {
  const client = clientOf();
  const subject = `lists-${Date.now()}`;
  const ann = await tokenOf(subject);
  const made = [];
  for (const name of ['1', '2', '3']) made.unshift(await ann.files.upload(content(3), { name }));
  expect(await client.files.get(made[0]?.id ?? '')).toEqual(made[0]);
  const page = await ann.files.list({ limit: 2 });
  expect([page.data, page.hasMore]).toEqual([made.slice(0, 2), true]);
  const rest = await ann.files.list({ limit: 2, cursor: page.nextCursor ?? '' });
  expect([[...rest], rest.nextCursor]).toEqual([made.slice(2), null]);
  expect([...(await ann.files.list({ sessionId: 'sess_none' }))]).toEqual([]);
  await ann.files.delete(made[0]?.id ?? '');
  await expect(client.files.get(made[0]?.id ?? '')).rejects.toBeInstanceOf(NotFound);
});

test('a token bound to a subject sees that one’s only', async () => {
  const [ann, bob] = await Promise.all([tokenOf('ann'), tokenOf('bob')]);
  const file = await ann.files.upload(content(100), { name: 'mine' });
  expect(file.subject).toBe('ann');
  expect(sha256(await (await ann.files.download(file.id)).bytes())).toBe(file.sha256);
  for (const call of [
    () => bob.files.get(file.id),
    () => bob.files.download(file.id),
    () => bob.files.delete(file.id),
    () => clientOf().files.download('file_that_never_was'),
  ]) {
    await expect(call()).rejects.toMatchObject({ code: 'NOT_FOUND', status: 404 });
  }
  expect((await bob.files.list()).data.map((one) => one.id)).not.toContain(file.id);
  const foreign = bob.files.upload(content(10), { name: 'a', subject: 'ann' });
  await expect(foreign).rejects.toBeInstanceOf(PermissionDenied);
});

test('without the scope nothing goes up or down, and the refusal is not lost in mid-body', async () => {
  const reader = await tokenOf('ann', ['files:read']);
  const data = content(8 * MIB);
  const up = reader.files.upload(pieces(data), { name: 'a' });
  await expect(up).rejects.toMatchObject({ code: 'FORBIDDEN', status: 403 });
  const file = await stored(content(10));
  const other = await tokenOf('ann', ['sessions:read']);
  await expect(other.files.download(file.id)).rejects.toBeInstanceOf(PermissionDenied);
  const nobody = new ResonantGenesis({ baseUrl: clientOf().baseUrl, token: 'rg_none' });
  await expect(nobody.files.list()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
});
