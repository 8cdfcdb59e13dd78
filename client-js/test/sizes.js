/* What each entry costs a page: bundled and minified, with peers left out, gzipped. Of the core, what `import { Parley }`
 * brings; ERRORS and actionOf are for applications that look codes up, and come only when they are imported.
 *   node test/sizes.js */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

export const ENTRIES = { '.': 'index', './msgpack': 'msgpack', './shared': 'shared', './react': 'react', './tanstack-query': 'tanstack-query' };

const source = fileURLToPath(new URL('../src', import.meta.url));

/* `code` is a module that imports from the sources, as './index.js'. */
export async function bundle(code) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: source },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react', '@tanstack/*', '@msgpack/*'],
    write: false,
  });
  return outputFiles[0].text;
}

export const gzipped = (text) => gzipSync(text, { level: 9 }).length;

export async function sizes() {
  const found = Object.entries(ENTRIES).filter(([, file]) => existsSync(`${source}/${file}.js`));
  const names = { '.': '{ Parley, ParleyError }' };
  const rows = found.map(async ([entry, file]) => [entry, gzipped(await bundle(`export ${names[entry] ?? '*'} from './${file}.js'`))]);
  return new Map(await Promise.all(rows));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [entry, bytes] of await sizes()) console.log(`${entry.padEnd(18)}${String(bytes).padStart(6)} bytes gzipped`);
}
