/** Files without their contents. */

import { camel, itemRequest, listRequest, pageOf } from '../core/messages.js';
import type { Transport } from '../transport.js';
import type { ListFilesParams, Page, StoredFile } from '../types.js';

export const PATH = '/v1/files';

export async function get(
  transport: Transport,
  fileId: string,
  signal?: AbortSignal,
): Promise<StoredFile> {
  return camel(await transport.call(itemRequest('GET', PATH, fileId), signal));
}

export async function list(
  transport: Transport,
  params: ListFilesParams = {},
): Promise<Page<StoredFile>> {
  const raw = await transport.call(listRequest(PATH, params));
  return pageOf<StoredFile>(raw, raw.data, camel);
}

export async function remove(transport: Transport, fileId: string): Promise<void> {
  await transport.call(itemRequest('DELETE', PATH, fileId));
}
