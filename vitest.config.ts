import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const sdk = (path: string) => fileURLToPath(new URL(`sdk/typescript/${path}`, import.meta.url));

// The package's own name means its sources, so that no test needs a build.
const alias = [
  { find: /^@resonantgenesis\/sdk\/(react|store|vue)$/, replacement: sdk('src/$1/index.ts') },
  { find: /^@resonantgenesis\/sdk$/, replacement: sdk('src/index.ts') },
];

function project(
  name: string,
  include: string[],
  environment: 'node' | 'jsdom',
  globalSetup: string[] = [],
) {
  const time = { testTimeout: 30_000, hookTimeout: 60_000 };
  return { resolve: { alias }, test: { name, include, environment, globalSetup, ...time } };
}

export default defineConfig({
  test: {
    // Two cores are what the smallest machine has.
    maxWorkers: 2,
    projects: [
      project('core', ['sdk/typescript/tests/core/**/*.test.ts'], 'node'),
      project('integration', ['sdk/typescript/tests/integration/**/*.test.ts'], 'node', [
        'sdk/typescript/tests/support/global-server.ts',
      ]),
      project('frameworks', ['sdk/typescript/tests/{store,react,vue}/**/*.test.{ts,tsx}'], 'jsdom'),
      project('package', ['sdk/typescript/tests/package/**/*.test.ts'], 'node'),
      project('browser', ['tests/browser/**/*.test.ts'], 'node', ['tests/browser/setup.ts']),
    ],
  },
});
