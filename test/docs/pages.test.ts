import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import ts from 'typescript'
import t from 'tap'
import { CONTEXT_TYPES, isCode, moduleOf, openPage, pagePaths } from '../support/pages.ts'

t.setTimeout(240_000) // three programs of the compiler, where other work shares the cores

const pages = pagePaths().map((path) => ({ path, ...openPage(path) }))

/** The options of an application that installs the package, as strict as they can be. */
const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile)
const { options } = ts.convertCompilerOptionsFromJson({
  ...config.compilerOptions, noUnusedLocals: false, noUnusedParameters: false, skipLibCheck: false
}, process.cwd())

function messagesOf (diagnostics: readonly ts.Diagnostic[]): string[] {
  return diagnostics.map(({ messageText, file, start }) => {
    const line = file === undefined ? '' : `line ${file.getLineAndCharacterOfPosition(start ?? 0).line + 1}: `
    return line + ts.flattenDiagnosticMessageText(messageText, '\n')
  })
}

/** The files of the package that an application's compiler reads: package.json and the declarations. */
function declarations (): Map<string, string> {
  const manifest = readFileSync('package.json', 'utf8')
  const { exports } = JSON.parse(manifest) as { exports: Record<string, string | { types: string }> }
  const entries = Object.values(exports).flatMap((entry) => typeof entry === 'string' ? [] : [entry.types])
  const sources = entries.map((path) => path.replace('./dist/', '').replace('.d.ts', '.ts'))
  const files = new Map([['package.json', manifest]])
  ts.createProgram(sources, { ...options, noCheck: true, sourceMap: false, emitDeclarationOnly: true })
    .emit(undefined, (path, text) => files.set(path.replace(`${process.cwd()}/`, ''), text))
  return files
}

/** What testdir makes of paths: a directory for each part. */
function treeOf (files: Map<string, string>): Record<string, any> {
  const tree: Record<string, any> = {}
  for (const [path, text] of files) {
    const parts = path.split('/')
    const name = parts.pop() as string
    let directory = tree
    for (const part of parts) directory = directory[part] ??= {}
    directory[name] = text
  }
  return tree
}

t.test('the blocks of code and the declarations of the package compile strictly', async (t) => {
  const files = new Map(pages.flatMap(({ path, blocks }) => blocks.filter(isCode).map(({ code }, index) =>
    [`${path.replace(/\W+/g, '-')}-${index + 1}.ts`, moduleOf(code)])))
  const dir = t.testdir({
    ...Object.fromEntries(files),
    'context.ts': CONTEXT_TYPES,
    // Without a name: 'fastify-oidc' is the package that is installed here, not the one around it.
    'package.json': '{ "type": "module" }',
    node_modules: { 'fastify-oidc': treeOf(declarations()) }
  })
  const program = ts.createProgram([...files.keys()].map((name) => join(dir, name)), {
    ...options, rootDir: dir, noEmit: true, declaration: false, sourceMap: false
  })
  t.same(messagesOf(program.getGlobalDiagnostics()), [])
  const ours = program.getSourceFiles().filter(({ fileName }) => fileName.startsWith(dir))
  const installed = '/node_modules/fastify-oidc/dist/index.d.ts'
  t.ok(ours.some(({ fileName }) => fileName.endsWith(installed)), 'the blocks import the installed package')
  t.ok(files.size >= 13)
  for (const source of ours) {
    const problems = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    t.same(messagesOf(problems), [], source.fileName.replace(`${dir}/`, ''))
  }
})

t.test('each page with code has a test that runs it', async (t) => {
  for (const { path, blocks } of pages.filter(({ blocks }) => blocks.some(isCode))) {
    const test = `test/docs/${basename(path, '.md').toLowerCase()}.test.ts`
    t.ok(existsSync(test), test)
    t.match(readFileSync(test, 'utf8'), `openPage('${path}')`)
    t.match(readFileSync(test, 'utf8'), 'page.untested()', test)
    t.ok(blocks.every(({ language }) => language !== ''), `${path}: each block names its language`)
  }
})

/** The text of a page without its code, which may look like headings and links. */
function proseOf (text: string): string {
  return text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]#]/g, ''))
}

/** The anchors that GitHub and npm give the headings of a page. */
function anchorsOf (text: string): string[] {
  const seen = new Map<string, number>()
  return [...proseOf(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => {
    const text = heading.toLowerCase().replace(/\]\([^)]*\)/g, '')
    const slug = text.replace(/[^\p{L}\p{N}\p{M} _-]/gu, '').replaceAll(' ', '-')
    const count = seen.get(slug) ?? 0
    seen.set(slug, count + 1)
    return count === 0 ? slug : `${slug}-${count}`
  })
}

t.test('the links between pages lead somewhere', async (t) => {
  const linked = new Set<string>()
  for (const { path, text } of pages) {
    for (const [, link = ''] of proseOf(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      const [file = '', anchor] = link.split('#')
      const target = file === '' ? path : join(dirname(path), file)
      linked.add(target)
      t.ok(existsSync(target), `${path}: ${link}`)
      if (anchor !== undefined && target.endsWith('.md')) {
        t.ok(anchorsOf(readFileSync(target, 'utf8')).includes(anchor), `${path}: ${link}`)
      }
    }
  }
  for (const { path } of pages) t.ok(path === 'README.md' || linked.has(path), `a page links to ${path}`)
})
