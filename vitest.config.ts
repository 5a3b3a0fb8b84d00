import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const sdk = (path: string) => fileURLToPath(new URL(`sdk/typescript/${path}`, import.meta.url));

// The package's own name means its sources, so that no test needs a build.
const alias = [
  {
    find: /^@resonantgenesis\/sdk\/(admin|react|store|vue|webhooks|worker)$/,
    replacement: sdk('src/$1/index.ts'),
  },
  { find: /^@resonantgenesis\/sdk$/, replacement: sdk('src/index.ts') },
];

function project(
  name: string,
  include: string[],
  environment: 'node' | 'jsdom',
  globalSetup: string[] = [],
) {
  // Only what hangs runs out of it: on a machine that does other things too, a browser takes its time.
  const time = { testTimeout: 120_000, hookTimeout: 120_000 };
  // Whoever runs the tests may have a server of their own, and another project may start one.
  const env = { RESONANTGENESIS_BASE_URL: '', RESONANTGENESIS_API_KEY: '' };
  return { resolve: { alias }, test: { name, include, environment, globalSetup, env, ...time } };
}

const modules = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const react18 = (name: string) => modules(`tests/browser/react18/node_modules/${name}`);
// In the form whose imports can be turned to another React.
const testing = modules('node_modules/@testing-library/react/dist/@testing-library/react.esm.js');

/** The hooks with the oldest React they support. */
const oldReact = {
  resolve: {
    alias: [
      ...alias,
      { find: /^react(?=\/|$)/, replacement: react18('react') },
      { find: /^react-dom(?=\/|$)/, replacement: react18('react-dom') },
      { find: /^@testing-library\/react$/, replacement: testing },
    ],
  },
  test: {
    ...project('react18', ['sdk/typescript/tests/react/**/*.test.tsx'], 'jsdom').test,
    server: { deps: { inline: [/@testing-library\/react/] } },
  },
};

export default defineConfig({
  test: {
    // Two cores are what the smallest machine has.
    maxWorkers: 2,
    projects: [
      project(
        'core',
        ['sdk/typescript/tests/{*,core/**/*,{offline,realtime,webhooks,worker}/*}.test.ts'],
        'node',
      ),
      project('integration', ['sdk/typescript/tests/{integration,files}/**/*.test.ts'], 'node', [
        'sdk/typescript/tests/support/global-server.ts',
      ]),
      project('frameworks', ['sdk/typescript/tests/{store,react,vue}/**/*.test.{ts,tsx}'], 'jsdom'),
      oldReact,
      project('package', ['sdk/typescript/tests/package/**/*.test.ts'], 'node', [
        'sdk/typescript/tests/package/pack.ts',
      ]),
      project('browser', ['tests/browser/**/*.test.ts'], 'node', ['tests/browser/setup.ts']),
    ],
  },
});
