/** Clients of the shared server. */
import { type ClientOptions, ResonantGenesis } from '@resonantgenesis/sdk';
import { inject, onTestFinished, vi } from 'vitest';
import { EvilProxy } from './proxy.js';
import { KEY } from './server.js';

/** A client whose waits between attempts are as short as the server allows: no jitter. */
export function clientOf(options: ClientOptions = {}): ResonantGenesis {
  const luck = vi.spyOn(Math, 'random').mockReturnValue(0);
  onTestFinished(() => luck.mockRestore());
  const credential = options.token || options.getToken ? {} : { apiKey: KEY };
  return new ResonantGenesis({ baseUrl: inject('serverUrl'), ...credential, ...options });
}

/** A proxy before a server, gone with the test. */
export async function proxyTo(url: () => string = () => inject('serverUrl')): Promise<EvilProxy> {
  const proxy = await new EvilProxy(() => Number(new URL(url()).port)).start();
  onTestFinished(() => proxy.stop());
  return proxy;
}

export async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** 1, 2, 3 … up to `last`. */
export function upTo(last: number, first = 1): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}
