import { spawn, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import autoload from '@fastify/autoload'
import Fastify from 'fastify'
import t from 'tap'
import ts from 'typescript'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from '../support/app.ts'
import { freePort } from '../support/free-port.ts'
import { installPackage, writeFiles } from '../support/packed.ts'
import { openPage } from '../support/pages.ts'
import { until } from '../support/until.ts'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

const page = openPage('README.md')

async function start (t: Test, roles: string[] = []) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com', roles }] })
  t.teardown(async () => await provider.close())
  return provider
}

t.setTimeout(480_000) // it compiles the package, where other work shares the cores

t.test('a first page', async (t) => {
  t.same(page.blocks.map(({ language }) => language), ['sh', 'ts', 'cjs', 'ts', 'ts', 'ts', 'ts', 'html', 'ts'])
  t.equal(page.blocks[0]?.code, 'npm install fastify-oidc\n')
  t.ok(page.blockWith('app.listen').split('\n').length <= 26, 'the quick start has 25 lines')
  t.ok(page.text.length <= 12_500, 'it is short')
})

// The quick start, as a user pastes it beside the installed package.

const folder = installPackage(t)
const QUICK_START = page.take('app.listen')
const AUTOLOADED = page.take('autoConfig')

/** The settings of `fastify generate --lang=ts` (fastify-cli 8, fastify-tsconfig 3), and with `--esm`. */
const GENERATED: Record<string, { type: string, compilerOptions: object }> = {
  'TypeScript in CommonJS': {
    type: 'commonjs',
    compilerOptions: {
      target: 'ES2023',
      module: 'NodeNext',
      moduleResolution: 'NodeNext',
      esModuleInterop: true,
      strict: true,
      resolveJsonModule: true,
      removeComments: true,
      newLine: 'lf',
      noUnusedLocals: true,
      noFallthroughCasesInSwitch: true,
      isolatedModules: true,
      forceConsistentCasingInFileNames: true,
      skipLibCheck: true,
      lib: ['ESNext'],
      outDir: 'dist',
      sourceMap: true
    }
  },
  'TypeScript in ES modules': {
    type: 'module',
    compilerOptions: {
      outDir: 'dist',
      sourceMap: true,
      target: 'esnext',
      module: 'nodenext',
      allowImportingTsExtensions: true,
      rewriteRelativeImportExtensions: true,
      verbatimModuleSyntax: true,
      erasableSyntaxOnly: true
    }
  }
}

/** Compiles `src/` of an application as `tsc` does, and returns what the compiler complains about. */
function compileApplication (name: string): string[] {
  const { type, compilerOptions } = GENERATED[name]!
  const dir = join(folder, type)
  writeFiles(dir, { 'package.json': JSON.stringify({ type }), 'src/app.ts': QUICK_START, 'src/plugins/oidc.ts': AUTOLOADED })
  const { options } = ts.convertCompilerOptionsFromJson({ ...compilerOptions, rootDir: 'src' }, dir)
  const program = ts.createProgram([join(dir, 'src/app.ts'), join(dir, 'src/plugins/oidc.ts')], options)
  const { diagnostics } = program.emit()
  return [...ts.getPreEmitDiagnostics(program), ...diagnostics].map(({ file, messageText }) =>
    `${String(file?.fileName)}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`)
}

/** The block with `import`, with the lines for CommonJS that the page has instead. */
function asCommonJs (code: string): string {
  return page.blockWith("const Fastify = require('fastify')") + code.replace(/^import .*\n/gm, '')
}

function asAutoloadedCommonJs (code: string): string {
  return code
    .replace("export { default } from 'fastify-oidc'", "exports.default = require('fastify-oidc')")
    .replace('export const autoConfig = {', 'exports.autoConfig = {')
    .replace('export const prefixOverride =', 'exports.prefixOverride =')
}

function environmentFor (provider: Provider, port: number): Record<string, string> {
  return {
    OIDC_ISSUER: provider.issuer,
    OIDC_CLIENT_ID: 'web',
    OIDC_CLIENT_SECRET: provider.clients[0]?.client_secret as string,
    BASE_URL: `http://localhost:${port}`,
    OIDC_SESSION_KEY: SESSION_KEY,
    PORT: String(port)
  }
}

/** Runs a program of the folder with nothing but these variables, until it listens. */
async function startProgram (t: Test, path: string, env: Record<string, string>): Promise<() => string> {
  const child = spawn(process.execPath, [join(folder, path)], { env: { PATH: process.env['PATH'], ...env } })
  t.teardown(() => child.kill())
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { output += String(text) })
  await until(() => output.includes('Server listening') || child.exitCode !== null)
  return () => output
}

writeFiles(folder, {
  'js/app.mjs': QUICK_START,
  'js/app.cjs': asCommonJs(QUICK_START),
  'cli/one/plugins/oidc.mjs': AUTOLOADED,
  'cli/two/plugins/oidc.cjs': asAutoloadedCommonJs(AUTOLOADED),
  'cli/three/plugins/oidc/index.mjs': AUTOLOADED,
  'cli/four/plugins/oidc/index.cjs': asAutoloadedCommonJs(AUTOLOADED)
})

for (const name of Object.keys(GENERATED)) {
  t.test(`quick start compiles: ${name}`, async (t) => t.same(compileApplication(name), []))
}

for (const path of ['js/app.mjs', 'js/app.cjs', 'commonjs/dist/app.js', 'module/dist/app.js']) {
  t.test(`quick start: ${path}`, async (t) => {
    const provider = await start(t, ['admin'])
    const port = await freePort()
    const output = await startProgram(t, path, environmentFor(provider, port))
    const baseUrl = `http://localhost:${port}`
    const browser = client({ baseUrl })
    t.equal(await (await browser.goto(`${baseUrl}/`)).text(), 'This page is public.', output())
    t.match(await (await browser.goto('/me')).json(), { sub: 'alice', iss: provider.issuer })
    t.equal(await (await browser.goto('/admin')).text(), 'Only admins see this.')
    t.equal((await browser.fetch('/auth/logout', { method: 'POST' })).status, 200)
    t.equal((await browser.fetch('/me')).status, 401)
    t.match(output(), '"redirectUris":["http://localhost:', 'the log says what to register')
    t.match(output(), 'http on a loopback address')
  })
}

t.test('the quick start names what is missing', async (t) => {
  const environment = environmentFor(await start(t), await freePort())
  for (const [name, option] of [
    ['OIDC_ISSUER', 'issuer'],
    ['OIDC_CLIENT_ID', 'clientId'],
    ['OIDC_CLIENT_SECRET', 'clientSecret'],
    ['BASE_URL', 'baseUrl'],
    ['OIDC_SESSION_KEY', 'session.key']
  ] as const) {
    const { [name]: missing, ...env } = environment
    const { status, stderr } = spawnSync(process.execPath, [join(folder, 'js/app.mjs')], { env, encoding: 'utf8' })
    t.equal(status, 1)
    t.match(stderr, 'FST_OIDC_OPTION')
    t.match(stderr, `"${option}"`)
  }
})

for (const path of ['cli/one', 'cli/two', 'cli/three', 'cli/four', 'commonjs/dist', 'module/dist']) {
  t.test(`quick start with fastify-cli: ${path}`, async (t) => {
    const provider = await start(t)
    Object.assign(process.env, environmentFor(provider, 3000))
    const app = Fastify()
    t.teardown(async () => await app.close())
    await app.register(autoload, { dir: join(folder, path, 'plugins') })
    app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
    const browser = client({ app, baseUrl: 'http://localhost:3000' })
    const opened = await browser.goto('/me')
    t.same(opened.json(), { sub: 'alice' })
    t.match(opened.history.map(({ url }) => new URL(url).pathname), ['/me', '/authorize', '/auth/callback', '/me'])
  })
}

t.test('require() gives the plugin, with the other exports as members', async (t) => {
  const require = createRequire(join(folder, 'js/app.cjs'))
  const oidc = require('fastify-oidc')
  const module = await import(pathToFileURL(join(folder, 'node_modules/fastify-oidc/dist/index.js')).href) as object
  t.type(oidc, 'function')
  t.match(module, { default: oidc, OidcError: oidc.OidcError, refuse: oidc.refuse })
  t.equal(oidc.default, oidc)
  t.equal(oidc.fastifyOidc, oidc)
})

t.test('protect a route', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/reports'", { context: { options: optionsFor(provider) } })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/home')).text(), 'anonymous')
  t.equal((await browser.fetch('/reports')).status, 401, 'a script is not sent to log in')
  t.equal((await browser.goto('/reports')).status, 403, 'the provider did not tell the department')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, department: { name: 'finance' } }) })
  await browser.goto('/auth/login')
  t.equal(await (await browser.goto('/reports')).text(), 'reports')
  t.equal(await (await browser.goto('/home')).text(), 'alice')
})

t.test('your users', async (t) => {
  const provider = await start(t)
  const told: unknown[] = []
  const app = await page.run(t, 'onClaims:', {
    context: {
      options: optionsFor(provider),
      users: { upsert: async (user) => { told.push(user); return { id: 7, name: 'Alice' } } }
    }
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.same(await (await browser.goto('/user')).json(), { name: 'Alice' })
  t.same(told, [{ iss: provider.issuer, sub: 'alice', email: 'alice@example.com' }])
})

t.test('APIs', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/api/reports'", { context: { options: optionsFor(provider) } })
  const ask = async (overrides: Record<string, unknown>) => await app.inject({
    url: '/api/reports',
    headers: { authorization: `Bearer ${provider.accessToken({ sub: 'alice', scope: 'reports:read', overrides })}` }
  })
  t.same((await ask({ aud: 'https://api.example.com' })).json(), { sub: 'alice' })
  t.equal((await ask({ aud: 'https://other.example.com' })).statusCode, 401)
  t.equal((await ask({ aud: 'https://api.example.com', sub: 'web' })).statusCode, 403, 'a client without a user')
  t.equal((await app.inject('/api/reports')).statusCode, 401)
})

t.test('testing', async (t) => {
  const { status, stdout } = page.runTests(t, ['users see their own page'])
  t.equal(status, 0, stdout)
  t.match(stdout, '\nok 1 - users see their own page\n')
  t.match(stdout, '\n# pass 1\n')
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
