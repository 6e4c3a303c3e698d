import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

// `require('fastify-oidc')` loads the ECMAScript modules. Its types are written by hand, in `commonjs/`.

const built = import.meta.filename.endsWith('.js')
const root = join(import.meta.dirname, built ? '../..' : '..')

interface Entry {
  require: { types: string, default: string }
  types: string
  default: string
}

const { exports, files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, Entry | string>
  files: string[]
}
const entries = Object.entries(exports).filter((entry): entry is [string, Entry] => typeof entry[1] === 'object')

t.test('K17 the types for CommonJS have what the modules export', async (t) => {
  t.ok(files.includes('commonjs'), 'they are in the package')
  t.equal(entries.length, 6)
  for (const [name, { require, types, default: path }] of entries) {
    t.equal(require.default, path, 'the same module')
    const text = readFileSync(join(root, require.types), 'utf8')
    const module = built ? join(root, path) : join(root, path).replace('/dist/', '/').replace(/js$/, 'ts')
    const exported = Object.keys(await import(module) as object).filter((key) => !/^(?:default|module\.exports)$/.test(key))
    const declared = [...text.matchAll(/^ *export (?:declare )?const (\w+): typeof esm\.\1$/gm)].map(([, key]) => key)
    t.same(declared.sort(), exported.sort(), name)
    t.equal(/^export = oidc$/m.test(text), name === '.', 'the plugin is what require() gives')
    t.equal(/export \{ oidc as default,/.test(text), name === '.', 'the plugin is the default export')
    const target = join(root, require.types, '..', /from '([^']+)'/.exec(text)?.[1] ?? '')
    t.equal(target, join(root, types.replace('.d.ts', '.js')), 'the types are those of the module')
  }
})

// A module that gives one value cannot pass all types on: they are listed.
t.test('the types for CommonJS have every type of the plugin', async (t) => {
  const text = readFileSync(join(root, 'commonjs/index.d.cts'), 'utf8')
  const listed = [...text.matchAll(/(?:import|export) type \{([^}]*)\}/g)].map(([, names = '']) => names.split(/[\s,]+/).filter(Boolean))
  const files = readdirSync(join(root, 'types')).map((name) => readFileSync(join(root, 'types', name), 'utf8'))
  const names = files.flatMap((file) => [...file.matchAll(/^export (?:type|interface) (\w+)/gm)].map(([, name]) => name))
  const all = [...names, 'OidcErrorCode'].sort()
  t.same(listed.map((names) => names.sort()), [all, all])
})
