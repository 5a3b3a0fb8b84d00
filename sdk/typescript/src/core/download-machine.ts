/**
 * The download of a file over any number of connections, without I/O.
 *
 * A new connection asks for the rest (`Range`), if the content is still the same (`If-Range`). If a
 * proxy answers with the whole file, the machine skips the bytes it has. It hands out the last piece
 * only if the SHA-256 of the file is right.
 */

import { ConnectionLost, StreamError } from '../errors.js';
import type { StoredFile } from '../types.js';
import type { Action, Machine, Outcome } from './actions.js';
import { errorFromAnswer, FILES, itemRequest } from './messages.js';
import type { ReconnectRules } from './reconnector.js';
import { Retries } from './retry.js';
import { Sha256 } from './sha256.js';

export class DownloadMachine implements Machine<Uint8Array> {
  readonly polling = false;
  readonly #file: StoredFile;
  readonly #silence: number;
  readonly #retries: Retries;
  readonly #hash = new Sha256();
  #action: Action<Uint8Array>;
  #piece: Uint8Array | undefined;
  /** Bytes received, and bytes of this connection still to be skipped. */
  #at = 0;
  #skip = 0;
  /** The server does not send parts. */
  #whole = false;

  constructor(file: StoredFile, rules: ReconnectRules) {
    this.#file = file;
    this.#silence = rules.silence;
    this.#retries = new Retries(rules);
    // An empty file needs no request; not every platform has a body for it.
    this.#action = file.size ? this.#open() : { do: 'finish' };
  }

  get opened(): boolean {
    return this.#action.do === 'read';
  }

  /** Return what to do now. A piece is handed out once. */
  next(): Action<Uint8Array> {
    const piece = this.#piece;
    this.#piece = undefined;
    return piece ? { do: 'emit', item: piece } : this.#action;
  }

  /** Report the outcome of the last action. */
  give(outcome: Outcome): void {
    try {
      this.#action = this.#follow(outcome);
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      const wait = error.retryable ? this.#retries.after(error) : undefined;
      this.#action =
        wait === undefined
          ? { do: 'finish', error }
          : { do: 'wait', seconds: wait, least: error.retryAfter ?? 0, why: error.message };
    }
  }

  #follow(outcome: Outcome): Action<Uint8Array> {
    switch (outcome.was) {
      case 'opened':
        return this.#opened(outcome.headers);
      case 'received':
        return this.#received(outcome.data);
      case 'waited':
        return this.#open();
      case 'answered':
        if (outcome.answer.status === 416) {
          this.#whole = true;
          throw new ConnectionLost('the server has no such part');
        }
        throw errorFromAnswer(outcome.answer);
      case 'lost':
        throw new ConnectionLost(outcome.reason);
      default:
        throw new ConnectionLost(
          outcome.was === 'ended' ? 'the content ended too early' : 'nothing came in time',
        );
    }
  }

  #open(): Action<Uint8Array> {
    const { id, sha256 } = this.#file;
    // Parts of compressed content would not be parts of the file. Redirections are not followed.
    const headers: Record<string, string> = {
      Accept: '*/*',
      'Accept-Encoding': 'identity',
      Prefer: 'return=representation',
    };
    if (this.#at && !this.#whole) {
      headers.Range = `bytes=${this.#at}-`;
      headers['If-Range'] = `"${sha256}"`;
    }
    return {
      do: 'open',
      request: { ...itemRequest('GET', FILES, id, '/content'), headers, binary: true },
    };
  }

  #opened(headers: Headers): Action<Uint8Array> {
    const { sha256, size } = this.#file;
    const part = headers.get('content-range');
    this.#skip = part === null ? this.#at : 0;
    const packed = headers.has('content-encoding');
    if (part !== null && (part !== `bytes ${this.#at}-${size - 1}/${size}` || packed)) {
      this.#whole = true;
      throw new ConnectionLost('another part came than was asked for');
    }
    // A proxy that compresses makes the tag weak; the platform has decompressed the content.
    const tag = headers.get('etag')?.replace(/^W\//, '') ?? `"${sha256}"`;
    if (tag !== `"${sha256}"`) throw new ConnectionLost('something else came than the file');
    return { do: 'read', limit: this.#silence };
  }

  #received(came: Uint8Array): Action<Uint8Array> {
    const { size, sha256 } = this.#file;
    const data = came.subarray(Math.min(this.#skip, came.length));
    this.#skip -= came.length - data.length;
    const again: Action<Uint8Array> = { do: 'read', limit: this.#silence };
    if (!data.length) return again;
    this.#hash.update(data);
    this.#at += data.length;
    if (this.#at >= size && (this.#at > size || this.#hash.digest() !== sha256)) {
      // Pieces that were handed out cannot be taken back.
      const error = new ConnectionLost('what came is not what the server has');
      return { do: 'finish', error };
    }
    this.#retries.progress();
    this.#piece = data;
    return this.#at < size ? again : { do: 'finish' };
  }
}
