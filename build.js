// Makes the files of the package of what the compiler has made in dist/.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { build } from 'esbuild'

const { exports, bin } = JSON.parse(readFileSync('package.json', 'utf8'))
const entries = Object.values(exports).filter((entry) => typeof entry === 'object')
const programs = [...entries.map((entry) => entry.default), ...Object.values(bin)].map(sourceOf)
const options = { outdir: 'dist', outbase: '.', format: 'esm', platform: 'node', target: 'es2022', charset: 'utf8' }
const modules = await innerModules()

for (const path of filesOf('dist/lib', '.js')) rmSync(path)
await build({
  ...options,
  entryPoints: programs,
  stdin: { contents: modules.map(reexport).join('\n'), resolveDir: '.' }, // becomes dist/stdin.js
  bundle: true,
  splitting: true,
  chunkNames: 'lib/chunks/[name]-[hash]',
  // Each file imports the plugin: so all that the plugin always needs is one chunk. Otherwise it would be twenty.
  inject: [sourceOf(exports['.'].default)],
  packages: 'external'
})
for (const { source, names } of modules) {
  const path = join('dist', source.replace(/ts$/, 'js'))
  mkdirSync(dirname(path), { recursive: true })
  const list = names.map(([name, alias]) => `${alias} as ${name}`).join(', ')
  writeFileSync(path, `export { ${list} } from '${relative(dirname(path), 'dist/stdin.js')}'\n`)
}
removeDeclarations()

/**
 * The modules of lib/ that tests and benchmarks import. They must be the copies that are in the package, because some
 * have state: dist/stdin.js has all that they export, and a file for each module has its part of that.
 */
async function innerModules () {
  const users = ['test', 'bench', 'example', 'interop'].flatMap((folder) => filesOf(folder, '.ts'))
  const imported = users.flatMap((path) =>
    [...readFileSync(path, 'utf8').matchAll(/(?<!^import type .*)'(?:\.\.\/)+(lib\/[^']+\.ts)'/gm)].map(([, source]) => source))
  const entryPoints = [...new Set(imported)].filter((source) => !programs.includes(source))
  const { metafile } = await build({ ...options, entryPoints, metafile: true, write: false })
  return Object.values(metafile.outputs).map(({ entryPoint, exports }, index) => ({
    source: entryPoint, names: exports.map((name) => [name, `${name}$${index}`])
  }))
}

function reexport ({ source, names }) {
  return `export { ${names.map(([name, alias]) => `${name} as ${alias}`).join(', ')} } from './${source}'`
}

/** Of the declarations, those stay that the compiler of an application reads. */
function removeDeclarations () {
  const read = new Set(entries.map(({ types }) => join(types)))
  for (const path of read) { // and what is added meanwhile
    for (const [, target] of readFileSync(path, 'utf8').matchAll(/(?:from |import\()['"](\.[^'"]+)\.[jt]s['"]/g)) {
      read.add(join(dirname(path), `${target}.d.ts`))
    }
  }
  for (const path of filesOf('dist', '.d.ts')) if (!read.has(path)) rmSync(path)
}

function sourceOf (path) {
  return join(path).replace(/^dist.(.*)\.js$/, '$1.ts')
}

function filesOf (folder, extension) {
  const names = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(extension))
  return names.map((name) => join(folder, name))
}
