import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import ts from 'typescript'
import t from 'tap'
import { MESSAGES } from '../../lib/errors.ts'
import { createTexts } from '../../lib/pages/texts.ts'
import { client, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import { declarations } from '../support/packed.ts'
import {
  buildAppBlock, CONTEXT_TYPES, isCode, memberNames, moduleOf, openPage, pagePaths
} from '../support/pages.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'

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
function packageFiles (): Map<string, string> {
  const built = [...declarations()].map(([path, text]) => [`dist/${path}`, text] as const)
  return new Map([['package.json', readFileSync('package.json', 'utf8')], ...built])
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
    'app.ts': buildAppBlock(),
    // Without a name: 'fastify-oidc' is the package that is installed here, not the one around it.
    'package.json': '{ "type": "module" }',
    node_modules: { 'fastify-oidc': treeOf(packageFiles()) }
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

const page = openPage('docs/pages.md')

/** The application of the block that has this text. */
async function start (t: Test, text: string): Promise<FastifyInstance> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  return await page.run(t, text, { context: { options: optionsFor(provider) } })
}

async function open (app: FastifyInstance, url: string, headers: Record<string, string> = {}) {
  return await app.inject({ url, headers: { accept: 'text/html', ...headers } })
}

t.test('docs/pages.md: name, logo and colours', async (t) => {
  const answer = await open(await start(t, "name: 'Expenses'"), '/auth/logout')
  t.match(answer.body, /<title>Do you want to log out\? – Expenses<\/title>[^]*<img src="data:image\/svg\+xml,[^"]*" alt="">/)
  t.match(answer.body, 'color-scheme:light')
  t.notMatch(answer.body, 'color-scheme:dark')
})

t.test('docs/pages.md: one language', async (t) => {
  const answer = await open(await start(t, "language: 'de'"), '/auth/logout', { 'accept-language': 'fr' })
  t.match(answer.body, '<h1>Möchten Sie sich abmelden?</h1>')
})

t.test('docs/pages.md: own words', async (t) => {
  const app = await start(t, 'This is for accountants.')
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'x' }) }, async () => 'x')
  const { body } = await open(app, '/auth/callback?state=x', { cookie: 'a=b' })
  t.match(body, 'If it happens again, write to help@example.com, with this code:')
  const titleIn = async (language: string): Promise<string | undefined> => {
    const { body } = await open(app, '/admin', { 'accept-language': language, cookie: sessionCookie(app) })
    return /<h1>(.*?)<\/h1>/.exec(body)?.[1]
  }
  t.same([await titleIn('de'), await titleIn('fr')], ['Das ist für die Buchhaltung.', 'This is for accountants.'])
  const texts = { ...await createTexts({})('en') } as Record<string, string>
  for (const code of Object.keys(MESSAGES)) delete texts[code]
  t.same(Object.fromEntries([...page.rowsOf('text')].map(([name, text]) => [name.replaceAll('`', ''), text])), texts)
})

t.test('docs/pages.md: the page after a logout', async (t) => {
  const browser = client({ app: await start(t, "'/account'"), baseUrl: BASE_URL })
  const [, action = ''] = /action="([^"]*)"/.exec((await browser.goto('/account')).text()) ?? []
  const end = await browser.post(action, '')
  t.match([end.status, end.url, end.text()], [200, `${BASE_URL}/auth/logged-out?state=`, '<h1>You are logged out</h1>'])
})

t.test('docs/pages.md: a page of your own', async (t) => {
  const app = await start(t, 'function render')
  const answer = await open(app, '/auth/callback?state=x')
  t.match(answer.body, /<style nonce="([^"]+)">h1 [^]*your browser sent no cookies[^]* FST_OIDC_STATE<\/p>[^]*>Log in again<\/a>/)
  t.match(answer.headers['content-security-policy'], `'nonce-${/nonce="([^"]+)"/.exec(answer.body)?.[1]}'`)
  t.match((await open(app, '/auth/logout')).body, '<button>Log out</button>')
  const members = [...memberNames('PageContent', 'OidcPage')].sort()
  const rows = [...page.rowsOf('member').keys()].flatMap((cell) => cell.replaceAll('`', '').split(', '))
  t.same(rows.sort(), members)
})

t.test('docs/pages.md: every block of code is tested above', async (t) => t.same(page.untested(), []))
