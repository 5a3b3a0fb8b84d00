import { version } from 'react';
import { version as domVersion } from 'react-dom';
import { expect, test } from 'vitest';

test('the tests of this project run with the React that it names', ({ task }) => {
  const wanted = task.file.projectName === 'react18' ? /^18\./ : /^19\./;
  expect(version).toMatch(wanted);
  expect(domVersion).toMatch(wanted);
});
