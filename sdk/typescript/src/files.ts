/** `client.files`. Uploads and downloads are loaded on demand: most pages send no files. */
import { FILES } from './core/messages.js';
import { load, requireStreams } from './platform.js';
import { collection } from './resources.js';
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
export interface Files {
  /**
   * Stores a file, whole or not at all, and compares the stored hash with the sent one. After a lost
   * connection it tries again if the source can be read again. Errors of the source, of `onProgress`
   * and of `signal` are thrown unchanged.
   */
  upload(source: UploadSource, options?: UploadOptions): Promise<StoredFile>;
  /** Looks up a file. Its content is fetched as it is read, and resumed after a lost connection. */
  download(fileId: string, options?: DownloadOptions): Promise<FileDownload>;
  /** A file's description, without its content. */
  get(fileId: string): Promise<StoredFile>;
  /** One page of files, newest first, of one session if `sessionId` is given. */
  list(params?: ListFilesParams): Promise<Page<StoredFile>>;
  delete(fileId: string): Promise<void>;
}

export function filesOf(transport: Transport): Files {
  return {
    ...collection<StoredFile, object, object>(transport, FILES),
    upload: async (source, options = {}) => {
      requireStreams();
      const { upload } = await load(() => import('./files/upload.js'), true);
      return upload(transport, source, options);
    },
    download: async (fileId, options = {}) => {
      requireStreams();
      const { download } = await load(() => import('./files/download.js'), true);
      return download(transport, fileId, options);
    },
  };
}
