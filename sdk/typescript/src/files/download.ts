/** A download. */

import { DownloadMachine } from '../core/download-machine.js';
import { camel, FILES, itemRequest } from '../core/messages.js';
import { StreamReader } from '../stream-reader.js';
import type { Transport } from '../transport.js';
import type { DownloadOptions, FileDownload, PipeOptions, StoredFile } from '../types.js';

/** The content type of bytes whose type is not known. */
const ANYTHING = 'application/octet-stream';

export async function download(
  transport: Transport,
  fileId: string,
  options: DownloadOptions,
): Promise<FileDownload> {
  const request = itemRequest('GET', FILES, fileId);
  const file = camel<StoredFile>(await transport.call(request, options.signal));
  return new Download(file, new DownloadReader(transport, file, options).toReadableStream());
}

/** The pieces of the content. */
class DownloadReader extends StreamReader<Uint8Array, DownloadMachine> {
  readonly #file: StoredFile;
  readonly #options: DownloadOptions;
  #done = 0;

  constructor(transport: Transport, file: StoredFile, options: DownloadOptions) {
    super(transport, () => new DownloadMachine(file, transport.settings), {
      signal: options.signal,
    });
    this.#file = file;
    this.#options = options;
  }

  override async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const result = await super.next();
    if (result.done) return result;
    this.#done += result.value.length;
    try {
      this.#options.onProgress?.(this.#done, this.#file.size);
    } catch (error) {
      await this.close();
      throw error;
    }
    return result;
  }

  protected where(): string {
    return `file ${this.#file.id}, byte ${this.#done}`;
  }
}

class Download implements FileDownload {
  readonly file: StoredFile;
  readonly stream: ReadableStream<Uint8Array>;

  constructor(file: StoredFile, stream: ReadableStream<Uint8Array>) {
    this.file = file;
    this.stream = stream;
  }

  async blob(): Promise<Blob> {
    // A Response's Blob can be on the disk; an array cannot.
    const headers = { 'Content-Type': ANYTHING };
    return new Response(this.stream, { headers }).blob();
  }

  async bytes(): Promise<Uint8Array> {
    const all = new Uint8Array(this.file.size);
    let at = 0;
    const place = new WritableStream<Uint8Array>({
      write(piece) {
        all.set(piece, at);
        at += piece.length;
      },
    });
    await this.stream.pipeTo(place);
    return all;
  }

  pipeTo(target: WritableStream<Uint8Array>, options?: PipeOptions): Promise<void> {
    return this.stream.pipeTo(target, options);
  }
}
