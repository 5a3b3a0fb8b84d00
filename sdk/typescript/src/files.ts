/** `client.files`. Its code is loaded with the first call: most pages send no files. */
import { InvalidRequest } from './errors.js';
import { load } from './platform.js';
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
   * Stores a file, whole or not at all; what was stored is compared with what was sent. A lost
   * connection is tried again where the source can be read again. What the source, `onProgress`
   * or `signal` throws is thrown as it is.
   */
  async upload(source: UploadSource, options?: UploadOptions): Promise<StoredFile> {
    return (await code()).upload(this.#transport, source, options);
  }

  /** Looks a file up; its content is fetched as it is read, and resumed wherever it breaks off. */
  async download(fileId: string, options?: DownloadOptions): Promise<FileDownload> {
    return (await code()).download(this.#transport, fileId, options);
  }

  /** What a file is, without its content. */
  async get(fileId: string): Promise<StoredFile> {
    return (await code()).get(this.#transport, fileId);
  }

  /** One page of files, newest first; those of one session, if it is named. */
  async list(params?: ListFilesParams): Promise<Page<StoredFile>> {
    return (await code()).list(this.#transport, params);
  }

  async delete(fileId: string): Promise<void> {
    return (await code()).remove(this.#transport, fileId);
  }
}

function code(): Promise<typeof import('./files/calls.js')> {
  if (typeof ReadableStream !== 'function') {
    return Promise.reject(new InvalidRequest('files need ReadableStream, which is missing here'));
  }
  return load(() => import('./files/calls.js'), true);
}
