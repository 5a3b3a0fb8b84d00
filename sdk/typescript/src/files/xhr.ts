/** `fetch` by XMLHttpRequest, for the one thing it can do and `fetch` cannot. */

import { abortError } from '../platform.js';

/** Calls `onSent` with the bytes of the body that have gone so far. */
export function sendWithXhr(onSent: (bytes: number) => void): typeof fetch {
  return (input, init = {}) =>
    new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      xhr.open(init.method ?? 'GET', String(input));
      for (const [name, value] of new Headers(init.headers)) xhr.setRequestHeader(name, value);
      xhr.upload.onprogress = ({ loaded }) => onSent(loaded);
      xhr.onload = () => {
        const { status, responseText } = xhr;
        resolve(new Response(responseText || null, { status, headers: headersOf(xhr) }));
      };
      xhr.onerror = () => reject(new TypeError('the request failed'));
      xhr.onabort = () => reject(abortError());
      init.signal?.addEventListener('abort', () => xhr.abort());
      if (init.signal?.aborted) reject(abortError());
      else xhr.send(init.body as Blob);
    });
}

function headersOf(xhr: XMLHttpRequest): Headers {
  const headers = new Headers();
  for (const line of xhr.getAllResponseHeaders().split('\r\n')) {
    const [, name, value] = /^([^:]+):(.*)$/.exec(line) ?? [];
    if (name && value !== undefined) headers.append(name, value.trim());
  }
  return headers;
}
