import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const OPTIONS = ['--noEmit', '--strict', '--ignoreConfig', '--target', 'es2022', '--lib', 'es2022,dom', '--types', '', '--module', 'nodenext', '--moduleResolution', 'nodenext'];

for (const entry of ['react', 'tanstack-query']) {
  test(`the types of ./${entry} allow what they should and nothing else`, async () => {
    const run = promisify(execFile)(file('../node_modules/.bin/tsc'), [...OPTIONS, file(`types/${entry}.ts`)]);
    await run.catch(({ stdout }) => Promise.reject(new Error(stdout)));
  });
}
