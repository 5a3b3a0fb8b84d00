/** A chat whose way to its server a test can close and open. */
import { join } from 'node:path';
import { preview } from 'vite';
import { inject, onTestFinished } from 'vitest';
import { resonantGenesis } from '../../examples/shared/vite.ts';
import { type EvilProxy, startProxy } from '../../sdk/typescript/tests/support/proxy.ts';
import { KEY } from '../../sdk/typescript/tests/support/server.ts';
import { Chat } from './chat.ts';

export class Outage {
  /** The address that the page's back end has for the server. */
  readonly host: string;
  /** Where the page is. */
  readonly url: string;
  readonly #way: EvilProxy;

  private constructor(way: EvilProxy, url: string) {
    this.#way = way;
    this.host = new URL(way.url).host;
    this.url = url;
  }

  /** A page's own server, with the key of its back end, and the only way to the server that it has. */
  static async of(name: 'react' | 'vue' | 'aiSdk', key = KEY): Promise<Outage> {
    const way = await startProxy(() => Number(new URL(inject('server')).port));
    onTestFinished(() => way.stop());
    process.env.RESONANTGENESIS_API_KEY = key;
    const served = await preview({
      configFile: false,
      logLevel: 'silent',
      plugins: [resonantGenesis(way.url)],
      build: { outDir: join(inject('built'), name) },
      preview: { host: '127.0.0.1', port: 0 },
    });
    onTestFinished(() => served.close());
    return new Outage(way, served.resolvedUrls?.local[0] ?? '');
  }

  open(query: Record<string, string> = { pace: '60' }): Promise<Chat> {
    return Chat.open(this.url, query);
  }

  /** The server is gone: what is open breaks, and nothing new is taken. */
  begin(): void {
    this.#way.choose = () => 'refuse';
    this.#way.cut();
  }

  end(): void {
    this.#way.choose = () => 'pass';
  }
}
