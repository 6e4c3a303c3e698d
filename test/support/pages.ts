/**
 * The pages for users, README.md and docs/*.md, and their blocks of code. Every `ts` or `js` block is compiled by
 * test/docs/pages.test.ts, with all strict options of TypeScript, and run by the test of its page,
 * test/docs/{page}.test.ts. A block is one of four kinds:
 *
 * - It has `const app = Fastify(`: a whole program. Nothing is put before it.
 * - It exports something, or has `async function start (`: a whole file. Nothing is put before it.
 * - It imports `node:test`: a test file. It may import `buildApp` from `./app.ts`, the first block of docs/testing.md.
 * - Everything else is a fragment. It may use `Fastify`, `oidc`, `app` and the names in page-context.ts. The plugin is
 *   registered on `app` with `options`, unless the block has `app.register(oidc` itself.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import { toJavaScript } from './compile.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { Context } from './page-context.ts'

const NAMES: ReadonlyArray<keyof Context> = ['options', 'key', 'users', 'audit', 'clients', 'tenants', 'store']

/** The module `./context.ts` beside a block: the types where it is compiled, the values of a test where it runs. */
export const CONTEXT_TYPES = readFileSync('test/support/page-context.ts', 'utf8')
  .replace('../../index.ts', 'fastify-oidc')
const CONTEXT_VALUES = 'export const context = globalThis.pageContext\n'

export interface Block {
  language: string
  code: string
}

export interface RunOptions {
  context?: Partial<Context>
  /** Changes the code before it runs: an issuer for that of a provider of the test, for example. */
  change?: (code: string) => string
}

export interface Page {
  text: string
  blocks: Block[]
  /** The one block that has this text. */
  blockWith: (text: string) => string
  /** The one block that has this text, which the test runs by itself. */
  take: (text: string) => string
  /** Runs the block that has this text, and returns its application. */
  run: (t: Test, text: string, options?: RunOptions) => Promise<FastifyInstance>
  /** Runs the blocks that are test files, and returns what node:test wrote. */
  runTests: (t: Test, names: string[]) => { status: number | null, stdout: string }
  /** The blocks of code that no test has run so far. */
  untested: () => string[]
  /** The rows of the table whose first heading this is, by their first cell. */
  rowsOf: (heading: string) => Map<string, string>
}

/** README.md and all pages of docs/. */
export function pagePaths (): string[] {
  const docs = readdirSync('docs').filter((name) => name.endsWith('.md')).sort()
  return ['README.md', ...docs.map((name) => `docs/${name}`)]
}

export function isCode ({ language }: Block): boolean {
  return language === 'ts' || language === 'js'
}

/** The module `./app.ts` of the examples of tests. */
export function buildAppBlock (): string {
  return openPage('docs/testing.md').blockWith('export async function buildApp')
}

export function openPage (path: string): Page {
  const text = readFileSync(path, 'utf8')
  const blocks = [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .map(([, language = '', code = '']) => ({ language, code }))
  const tested = new Set<string>()
  let runs = 0

  function blockWith (part: string): string {
    const found = blocks.filter(({ code }) => code.includes(part))
    if (found.length !== 1) throw new Error(`${path} has ${found.length} blocks with ${part}`)
    return found[0]?.code as string
  }

  function take (part: string): string {
    const block = blockWith(part)
    tested.add(block)
    return block
  }

  async function run (t: Test, part: string, options: RunOptions = {}): Promise<FastifyInstance> {
    const { context = {}, change = (code: string) => code } = options
    const block = blockWith(part)
    const code = change(moduleOf(block)).replace('port: 3000', 'port: 0').replace('logger: true', 'logger: false')
    // Node.js loads a path once: each run has its own.
    const name = `run${runs++}`
    const dir = t.testdir({ [name]: { 'block.js': runnable(code), 'context.js': CONTEXT_VALUES } })
    Object.assign(globalThis, { pageContext: context })
    const { app } = await import(pathToFileURL(`${dir}/${name}/block.js`).href) as { app: FastifyInstance }
    t.teardown(async () => await app.close())
    tested.add(block)
    return app
  }

  function runTests (t: Test, names: string[]): { status: number | null, stdout: string } {
    const files = names.map((name, index) => [`block${index}.js`, runnable(moduleOf(blockWith(name)))] as const)
    const app = runnable(buildAppBlock())
    const main = files.map(([file]) => `import './${file}'\n`).join('')
    const dir = t.testdir({ ...Object.fromEntries(files), 'app.js': app, 'main.js': main })
    const args = [...process.execArgv, '--test-reporter=tap', `${dir}/main.js`]
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    for (const name of names) tested.add(blockWith(name))
    return { status, stdout }
  }

  function rowsOf (heading: string): Map<string, string> {
    const table = text.slice(text.indexOf(`| ${heading} |`)).split('\n\n', 1)[0] as string
    const rows = table.trim().split('\n').slice(2).map((row) => row.slice(2, -2).split(' | '))
    return new Map(rows.map(([first, ...others]) => [first as string, others.join(' | ')]))
  }

  const untested = (): string[] => blocks.filter(isCode).map(({ code }) => code).filter((code) => !tested.has(code))
  return { text, blocks, blockWith, take, run, runTests, untested, rowsOf }
}

/** A block as a module. All but test files export their application. */
export function moduleOf (code: string): string {
  const imports = code.match(/^import [\s\S]*? from '.*'$/gm) ?? []
  const rest = imports.reduce((text, line) => text.replace(line, ''), code)
  if (code.includes("from 'node:test'") || /^(?:export |async function start \()/m.test(code)) return code
  if (code.includes('const app = Fastify(')) return `${code}\nexport { app }\n`
  return `${preludeFor(code)}${imports.join('\n')}\n${rest}\nexport { app }\n`
}

function preludeFor (code: string): string {
  const names = NAMES.filter((name) => !new RegExp(`(?:const|let|function) ${name}\\b`).test(code))
  const register = code.includes('app.register(oidc') ? '' : 'await app.register(oidc, options)\n'
  const imports = importOf('Fastify', 'fastify', code) + importOf('oidc', 'fastify-oidc', code)
  return `${imports}import { context } from './context.ts'
const { ${names.join(', ')} } = context
const app = Fastify()
${register}`
}

function importOf (name: string, module: string, code: string): string {
  const own = code.includes(`import ${name} `) || code.includes(`import ${name},`)
  return own ? '' : `import ${name} from '${module}'\n`
}

/** Not every version of Node.js runs TypeScript. */
function runnable (code: string): string {
  return toJavaScript(withOwnPaths(code))
}

/** The sources of the package in place of the installed package: from source or built, as the test itself. */
function withOwnPaths (code: string): string {
  const hrefOf = (path: string): string => new URL(`../../${path}${import.meta.url.slice(-3)}`, import.meta.url).href
  return code
    .replaceAll("'fastify-oidc'", `'${hrefOf('index')}'`)
    .replaceAll("'fastify-oidc/testing'", `'${hrefOf('lib/testing/index')}'`)
    .replaceAll(/'fastify-oidc\/store\/(\w+)'/g, (_, name: string) => `'${hrefOf(`lib/store/${name}`)}'`)
}

/** The members of interfaces of types/, with their comments. */
function membersOf (type: string): Array<{ name: string, comment: string }> {
  const files = ['types/options.ts', 'types/fastify.ts', 'types/pages.ts']
  const sources = files.map((file) =>
    ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022, true))
  const found = sources.flatMap(({ statements }) => statements.filter(ts.isInterfaceDeclaration))
    .filter(({ name }) => name.text === type)
  if (found.length !== 1) throw new Error(`${found.length} interfaces ${type}`)
  return (found[0]?.members ?? ts.factory.createNodeArray()).flatMap((member) => {
    const name = member.name !== undefined && ts.isIdentifier(member.name) ? member.name.text : undefined
    const comment = member.getFullText().slice(0, member.getLeadingTriviaWidth())
    return name === undefined ? [] : [{ name, comment }]
  })
}

/** The names of the options in these interfaces of types/. */
export function memberNames (...types: string[]): string[] {
  return types.flatMap((type) => membersOf(type).map(({ name }) => name))
}

/** The defaults that the comments of an interface of types/ give as code or as a number. */
export function defaultsOf (type: string): Array<[name: string, fallback: string]> {
  return membersOf(type).flatMap(({ name, comment }) => {
    const [, code, number] = /Default: (?:`([^`]+)`|(\d+))/.exec(comment) ?? []
    const fallback = code ?? number
    return fallback === undefined ? [] : [[name, fallback]]
  })
}
