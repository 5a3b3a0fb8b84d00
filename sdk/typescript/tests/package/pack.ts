/** Once for all tests of it: the package as it is published. */
import { execFile } from 'node:child_process';
import { access, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
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
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Everything happens here, so that nothing else that builds the package is disturbed.
  const work = await mkdtemp(join(tmpdir(), 'rg-pack-'));
  const teardown = () => rm(work, { recursive: true, force: true });
  try {
    const pack = join(work, 'sdk', 'typescript');
    await mkdir(pack, { recursive: true });
    // As it is checked out, with what `make setup` installs, and nothing built yet.
    const filter = (path: string) => !['dist', 'tests', 'node_modules'].includes(basename(path));
    await cp(SDK, pack, { recursive: true, filter });
    await cp(join(ROOT, 'tsconfig.base.json'), join(work, 'tsconfig.base.json'));
    await symlink(join(ROOT, 'node_modules'), join(work, 'node_modules'));
    const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', work], {
      cwd: pack,
      env: { ...process.env, PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env.PATH}` },
    });
    const tarball = join(work, JSON.parse(stdout.slice(stdout.indexOf('[')))[0].filename);
    await access(tarball);
    project.provide('pack', pack);
    project.provide('tarball', tarball);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
