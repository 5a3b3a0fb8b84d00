import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const src = (path: string) => fileURLToPath(new URL(`src/${path}`, import.meta.url));

// Every page loads these files, so they are one chunk, and an application's bundler makes one of it.
// What only some pages need (`client.ts` imports it on demand) stays in chunks of its own.
const ON_DEMAND = /(event-(machine|queue)|download-machine|sha256|turn-result|all-pages)\.ts$/;
const CORE = [
  ...readdirSync(src('')),
  ...readdirSync(src('core')).map((name) => `core/${name}`),
].filter((name) => name.endsWith('.ts') && !ON_DEMAND.test(name));

/** Says what the files of a folder are, both to Node and to TypeScript. */
const commonjs: Plugin = {
  name: 'say-commonjs',
  writeBundle({ dir = '' }) {
    writeFileSync(join(dir, 'package.json'), '{ "type": "commonjs" }\n');
  },
};

/** `--mode cjs` builds what `require` gets where it cannot load modules: in Jest, in older Nodes. */
export default defineConfig(({ mode }) => {
  const isCjs = mode === 'cjs';
  return {
    plugins: isCjs ? [commonjs] : [],
    build: {
      target: 'es2022',
      outDir: isCjs ? 'dist/cjs' : 'dist',
      minify: false,
      sourcemap: false,
      lib: {
        entry: {
          index: src('index.ts'),
          'react/index': src('react/index.ts'),
          'vue/index': src('vue/index.ts'),
          'store/index': src('store/index.ts'),
          'admin/index': src('admin/index.ts'),
          'worker/index': src('worker/index.ts'),
          'webhooks/index': src('webhooks/index.ts'),
        },
        formats: [isCjs ? 'cjs' : 'es'],
        fileName: (_, name) => `${name}.js`,
      },
      rolldownOptions: {
        checks: { moduleLevelDirective: false },
        external: ['react', 'vue', 'ws'],
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
  };
});
