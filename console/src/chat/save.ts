/** Downloads that need the credential. */
import { freshToken } from '../credential/credential.ts';

export function saveFile(fileId: string, name: string): Promise<void> {
  return save(`/v1/files/${fileId}/content`, name);
}

/** Saves an answer of the server as a file. Throws an Error for people. */
export async function save(path: string, name: string): Promise<void> {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${await freshToken()}` } });
  if (!answer.ok) throw new Error(`${name} could not be loaded: ${answer.status}.`);
  saveBlob(await answer.blob(), name);
}

export function saveBlob(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}
