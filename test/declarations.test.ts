import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { declarations } from './support/packed.ts'

t.setTimeout(240_000) // it compiles everything

const ROOT = join(import.meta.dirname, import.meta.filename.endsWith('.js') ? '../..' : '..')
const FOLDER = join(ROOT, 'built')
const OPTIONAL = ['@opentelemetry/api', 'pg', 'ioredis', 'better-sqlite3']

const common: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true
}

const CONSUMER = `
  import oidc from './index.js'
  import { createPostgresStore } from './lib/store/postgres.js'
  import { createRedisStore } from './lib/store/redis.js'
  import { createSqliteStore } from './lib/store/sqlite.js'
  import { createMemoryStore } from './lib/store/memory.js'
  import { startProvider } from './lib/testing/index.js'
  import type { OidcOptions } from './index.js'
  const telemetry: OidcOptions['telemetry'] = { tracer: { startActiveSpan: () => {} }, meter: { createCounter: () => {} } }
  export { oidc, telemetry, createPostgresStore, createRedisStore, createSqliteStore, createMemoryStore, startProvider }
`
const NEEDS_PG = "import api from 'pg'\nexport { api }"

/** The complaints of the compiler about files in whose node_modules the optional packages are missing. */
function problemsOf (files: Map<string, string>, entries: string[]): string[] {
  const all = new Map([...files].map(([path, text]) => [join(FOLDER, path), text]))
  const options: ts.CompilerOptions = { ...common, noEmit: true, skipLibCheck: false, allowImportingTsExtensions: true }
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists, getSourceFile, directoryExists = () => true } = host
  host.readFile = (path) => all.get(path) ?? readFile(path)
  host.directoryExists = (path) => path.startsWith(FOLDER) || directoryExists(path)
  host.fileExists = (path) => all.has(path) || fileExists(path)
  host.getSourceFile = (path, ...others) => {
    const text = all.get(path)
    return text === undefined ? getSourceFile(path, ...others) : ts.createSourceFile(path, text, ts.ScriptTarget.ES2022)
  }
  host.resolveModuleNameLiterals = (literals, file, redirected, compiler, containing) => literals.map((literal) => {
    if (OPTIONAL.includes(literal.text)) return { resolvedModule: undefined }
    const mode = ts.getModeForUsageLocation(containing, literal, compiler)
    return ts.resolveModuleName(literal.text, file, compiler, host, undefined, redirected, mode)
  })
  const program = ts.createProgram(entries.map((path) => join(FOLDER, path)), options, host)
  return ts.getPreEmitDiagnostics(program).map(({ file, messageText }) =>
    `${file?.fileName.replace(ROOT, '') ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  )
}

t.test('K10 the types compile without the optional packages, with skipLibCheck off', async (t) => {
  const files = declarations()
  t.ok(files.size > 30, `${files.size} files`)
  const all = new Map([...files, ['consumer.ts', CONSUMER], ['needs-pg.ts', NEEDS_PG]])
  const problems = problemsOf(all, ['consumer.ts', 'needs-pg.ts'])
  const isOfPg = (problem: string): boolean => problem.startsWith('/built/needs-pg.ts: ')
  t.same(problems.filter((problem) => !isOfPg(problem)), [])
  t.match(problems.filter(isOfPg), [/Cannot find module 'pg'/], 'they are hidden')
})
