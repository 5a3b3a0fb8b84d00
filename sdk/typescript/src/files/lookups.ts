/** Files without their contents. */

import { camel } from '../names.js';
import { pageOf } from '../page.js';
import { item, list as pageRequest } from '../requests.js';
import type { Io } from '../transport.js';
import type { ListFilesParams, Page, StoredFile } from '../types.js';

export const PATH = '/v1/files';

export async function get(io: Io, fileId: string, signal?: AbortSignal): Promise<StoredFile> {
  return camel(await io.call(item('GET', PATH, fileId), signal));
}

export async function list(io: Io, params: ListFilesParams = {}): Promise<Page<StoredFile>> {
  const raw = await io.call(pageRequest(PATH, params));
  return pageOf<StoredFile>(raw, raw.data, camel);
}

export async function remove(io: Io, fileId: string): Promise<void> {
  await io.call(item('DELETE', PATH, fileId));
}
