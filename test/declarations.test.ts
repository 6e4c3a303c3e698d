import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'

t.setTimeout(240_000) // it compiles everything

const ROOT = join(import.meta.dirname, import.meta.filename.endsWith('.js') ? '../..' : '..')
const OPTIONAL = ['@opentelemetry/api', 'pg', 'ioredis', 'better-sqlite3']
const ENTRIES = ['index', ...['memory', 'sqlite', 'postgres', 'redis'].map((name) => `lib/store/${name}`), 'lib/testing/index']

const common: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts'],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true
}

/** The declarations of the package, as `npm run build` writes them. */
function declarations (): Map<string, string> {
  const files = new Map<string, string>()
  const options: ts.CompilerOptions = {
    ...common,
    noCheck: true,
    skipLibCheck: true,
    declaration: true,
    emitDeclarationOnly: true,
    rootDir: ROOT,
    outDir: join(ROOT, 'built'),
    rewriteRelativeImportExtensions: true,
    noUncheckedIndexedAccess: true
  }
  const program = ts.createProgram(ENTRIES.map((entry) => join(ROOT, `${entry}.ts`)), options)
  program.emit(undefined, (path, text) => files.set(path, text))
  return files
}

/** The complaints of the compiler about a consumer in whose node_modules the optional packages are missing. */
function problemsOf (files: Map<string, string>, source: string): string[] {
  const entry = join(ROOT, 'built/consumer.ts')
  const all = new Map([...files, [entry, source]])
  const options: ts.CompilerOptions = { ...common, noEmit: true, skipLibCheck: false, allowImportingTsExtensions: true }
  const host = ts.createCompilerHost(options)
  const { readFile, fileExists, getSourceFile, directoryExists = () => true } = host
  host.readFile = (path) => all.get(path) ?? readFile(path)
  host.directoryExists = (path) => path.startsWith(join(ROOT, 'built')) || directoryExists(path)
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
  const program = ts.createProgram([entry], options, host)
  return ts.getPreEmitDiagnostics(program).map(({ file, messageText }) =>
    `${file?.fileName.replace(ROOT, '') ?? ''}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  )
}

t.test('K10 the types compile without the optional packages, with skipLibCheck off', async (t) => {
  const files = declarations()
  t.ok(files.size > 50)
  t.same(problemsOf(files, `
    import oidc from './index.js'
    import { createPostgresStore } from './lib/store/postgres.js'
    import { createRedisStore } from './lib/store/redis.js'
    import { createSqliteStore } from './lib/store/sqlite.js'
    import { createMemoryStore } from './lib/store/memory.js'
    import { startProvider } from './lib/testing/index.js'
    import type { OidcOptions } from './index.js'
    const telemetry: OidcOptions['telemetry'] = { tracer: { startActiveSpan: () => {} }, meter: { createCounter: () => {} } }
    export { oidc, telemetry, createPostgresStore, createRedisStore, createSqliteStore, createMemoryStore, startProvider }
  `), [])
  t.match(problemsOf(files, "import api from 'pg'\nexport { api }"), [/Cannot find module 'pg'/], 'they are hidden')
})
