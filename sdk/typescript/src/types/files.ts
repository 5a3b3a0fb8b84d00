/** Stored files, on their way up and down. */
import type { PageParams } from './base.js';

/** What the server knows of a file; it never changes. */
export interface StoredFile {
  readonly id: string;
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Of the content, in hexadecimal. */
  readonly sha256: string;
  readonly contentType: string;
  /** The end user it belongs to. */
  readonly subject: string | null;
  /** The session it was made in, and goes with. */
  readonly sessionId: string | null;
  readonly createdAt: string;
}

/** The first two can be read again, and so be sent again after a lost connection. */
export type UploadSource =
  | Blob
  | Uint8Array
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** Told how many bytes have gone through, never fewer than before; `size` if it is known. */
export type FileProgress = (done: number, size: number | undefined) => void;

export interface UploadOptions {
  /** A File has one of its own. */
  name?: string | undefined;
  /** A Blob's own by default, else the server goes by the name's ending. */
  contentType?: string | undefined;
  /** The SHA-256 in hexadecimal, for the server to refuse anything else. */
  checksum?: string | undefined;
  /** The end user it belongs to. */
  subject?: string | undefined;
  onProgress?: FileProgress | undefined;
  signal?: AbortSignal | undefined;
  idempotencyKey?: string | undefined;
}

export interface DownloadOptions {
  onProgress?: FileProgress | undefined;
  signal?: AbortSignal | undefined;
}

/** Said so, since types for servers have no name for it. */
export type PipeOptions = Parameters<ReadableStream<Uint8Array>['pipeTo']>[1];

/** A file on its way down, to be read once; nothing is asked for before it is read. */
export interface FileDownload {
  readonly file: StoredFile;
  /** Ends only if everything came and is what the server has; else it throws StreamError. */
  readonly stream: ReadableStream<Uint8Array>;
  /**
   * All of it. Its type is application/octet-stream whatever the file's: an object URL of what a
   * stranger uploaded must not run as a part of your page.
   */
  blob(): Promise<Blob>;
  bytes(): Promise<Uint8Array>;
  pipeTo(target: WritableStream<Uint8Array>, options?: PipeOptions): Promise<void>;
}

export interface ListFilesParams extends PageParams {
  sessionId?: string | undefined;
}
