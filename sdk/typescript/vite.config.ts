import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const src = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url));

// What every page loads, as one file: so the bundlers of those who use it make one of it, too. What
// only some pages need (`client.ts` imports it when it is asked for) is in files of its own.
const LATER = /(announce|event-(machine|plan|queue))\.ts$/;
const CORE = readdirSync(src('')).filter((name) => name.endsWith('.ts') && !LATER.test(name));

export default defineConfig({
  build: {
    target: 'es2022',
    outDir: 'dist',
    minify: false,
    sourcemap: false,
    lib: {
      entry: {
        index: src('index.ts'),
        'react/index': src('react/index.ts'),
        'vue/index': src('vue/index.ts'),
        'store/index': src('store/index.ts'),
      },
      formats: ['es'],
    },
    rolldownOptions: {
      checks: { moduleLevelDirective: false },
      external: ['eventsource-parser', 'react', 'vue', 'ws'],
      output: {
        chunkFileNames: '[name].js',
        codeSplitting: {
          groups: [
            { name: 'core', test: (id) => CORE.some((name) => id === src(name)) },
            { name: 'store', test: (id) => id.startsWith(src('store/')) },
          ],
        },
      },
    },
  },
});
