import { gzipSync } from 'node:zlib';
import react from '@vitejs/plugin-react';
import type { Plugin, Rolldown } from 'vite';
import { defineConfig } from 'vite';

/** Bytes, gzipped: of all that a person waits for first, and of what each further page adds. */
const FIRST_LOAD = 250_000;
const FURTHER_PAGE = 100_000;

/** Fails the build if people would wait for more than the budgets. */
function budgets(): Plugin {
  return {
    name: 'budgets',
    generateBundle(_options, bundle) {
      const chunks = Object.values(bundle).filter((file) => file.type === 'chunk');
      const first = loadedWith(
        chunks,
        chunks.filter((chunk) => chunk.isEntry),
      );
      const check = (name: string, loaded: readonly Rolldown.OutputChunk[], budget: number) => {
        const bytes = loaded.reduce((sum, { code }) => sum + gzipSync(code).length, 0);
        if (bytes > budget) this.error(`${name} loads ${bytes} bytes; its budget is ${budget}`);
      };
      // What a page itself loads later, such as the colours of code, nobody waits for.
      for (const page of chunks.filter((one) => one.facadeModuleId?.includes('/src/pages/'))) {
        const added = [...loadedWith(chunks, [page])].filter((chunk) => !first.has(chunk));
        check(page.name, added, FURTHER_PAGE);
        if (page.name === 'overview') check('the first page', [...first, ...added], FIRST_LOAD);
      }
    },
  };
}

/** These chunks, and what they import at once. */
function loadedWith(
  all: readonly Rolldown.OutputChunk[],
  chunks: readonly Rolldown.OutputChunk[],
): Set<Rolldown.OutputChunk> {
  const loaded = new Set(chunks);
  for (const chunk of loaded) {
    for (const one of all) if (chunk.imports.includes(one.fileName)) loaded.add(one);
  }
  return loaded;
}

/** The server serves what is built at `/`; while developing, Vite passes the API on to it. */
export default defineConfig({
  base: '/console/',
  plugins: [react(), budgets()],
  build: {
    outDir: '../server/src/resonantgenesis_server/console',
    emptyOutDir: true,
    // A data: URL in a style would need a policy of its own.
    assetsInlineLimit: 0,
  },
  server: { proxy: { '/v1': { target: 'http://127.0.0.1:8080', ws: true } } },
});
