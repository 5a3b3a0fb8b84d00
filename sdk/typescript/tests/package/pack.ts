/** Once for all tests of it: the package as it is published. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'vite';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The folder that is packed, and what it is packed into. */
    pack: string;
    tarball: string;
  }
}

const run = promisify(execFile);
const SDK = fileURLToPath(new URL('../../', import.meta.url));
const TSC = fileURLToPath(new URL('../../../../node_modules/.bin/tsc', import.meta.url));

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Everything happens here, so that nothing else that builds the package is disturbed.
  const work = await mkdtemp(join(tmpdir(), 'rg-pack-'));
  const teardown = () => rm(work, { recursive: true, force: true });
  try {
    const pack = join(work, 'package');
    await mkdir(pack);
    const dist = join(pack, 'dist');
    const configFile = join(SDK, 'vite.config.ts');
    await build({ root: SDK, configFile, logLevel: 'error', build: { outDir: dist } });
    await run(TSC, ['-p', 'tsconfig.build.json', '--outDir', dist], { cwd: SDK });
    for (const name of ['package.json', 'README.md', 'LICENSE']) {
      await cp(join(SDK, name), join(pack, name));
    }
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', work], {
      cwd: pack,
    });
    project.provide('pack', pack);
    project.provide('tarball', join(work, JSON.parse(stdout)[0].filename));
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
