/** `client.files`. Uploads and downloads are loaded on demand: most pages send no files. */
import { camel, FILES, itemRequest, listRequest, pageOf } from './core/messages.js';
import { load, requireStreams } from './platform.js';
import type { Transport } from './transport.js';
import type {
  DownloadOptions,
  FileDownload,
  ListFilesParams,
  Page,
  StoredFile,
  UploadOptions,
  UploadSource,
} from './types.js';

/** Files of any size, in constant memory. Everything throws StreamError. */
export class Files {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Stores a file, whole or not at all, and compares the stored hash with the sent one. After a lost
   * connection it tries again if the source can be read again. Errors of the source, of `onProgress`
   * and of `signal` are thrown unchanged.
   */
  async upload(source: UploadSource, options: UploadOptions = {}): Promise<StoredFile> {
    requireStreams();
    const { upload } = await load(() => import('./files/upload.js'), true);
    return upload(this.#transport, source, options);
  }

  /** Looks up a file. Its content is fetched as it is read, and resumed after a lost connection. */
  async download(fileId: string, options: DownloadOptions = {}): Promise<FileDownload> {
    requireStreams();
    const { download } = await load(() => import('./files/download.js'), true);
    return download(this.#transport, fileId, options);
  }

  /** A file's description, without its content. */
  async get(fileId: string): Promise<StoredFile> {
    return camel(await this.#transport.call(itemRequest('GET', FILES, fileId)));
  }

  /** One page of files, newest first, of one session if `sessionId` is given. */
  async list(params: ListFilesParams = {}): Promise<Page<StoredFile>> {
    return pageOf(await this.#transport.call(listRequest(FILES, params)));
  }

  async delete(fileId: string): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', FILES, fileId));
  }
}
