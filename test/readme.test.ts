import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import t from 'tap'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from './support/app.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'

const readme = readFileSync('README.md', 'utf8')
const blocks = [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].map(([, language, code]) => ({ language, code: code as string }))
const blockWith = (text: string): string => {
  const found = blocks.filter(({ code }) => code.includes(text))
  if (found.length !== 1) throw new Error(`${found.length} blocks with ${text}`)
  return found[0]?.code as string
}

/** What the blocks that are parts take for granted. */
interface Context {
  options: OidcOptions
  users: { upsert: (user: { iss: string, sub: string, email: unknown }) => Promise<{ id: number, name: string }> }
  audit: { write: (id: string, reason: string) => Promise<void> }
}

const PRELUDE = `
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
const { options, users, audit } = (globalThis as any).readme
const app = Fastify()
`
const REGISTERED = `${PRELUDE}
await app.register(oidc, options)
`

const BUILD_APP = `
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
import type { OidcOptions } from 'fastify-oidc'
async function buildApp (options: Partial<OidcOptions> = {}) {
  const app = Fastify()
  await app.register(oidc, { issuer: 'https://id.example.com', clientId: 'web', clientSecret: 'secret', baseUrl: 'https://app.example.com', session: { secret: 'a secret of the test, 32 bytes long' }, allowInsecureLoopback: true, ...options })
  app.get('/me', { preHandler: app.oidc.required() }, async (request) => request.oidcClaims)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  return app
}
`

/** A block as a module that exports its application. */
function moduleOf (code: string): string {
  if (code.includes('node:test')) return `${code.replace(/^import \{ .* 'fastify-oidc\/testing'$/m, '$&\n')}${BUILD_APP}`
  const imports = code.match(/^import .*$/gm)?.join('\n') ?? ''
  const rest = code.replace(/^import .*$/gm, '')
  if (code.includes('const app = Fastify()')) return `${imports}\n${rest}\nexport { app }\n`
  if (code.includes('declare module')) return `${REGISTERED}${rest}\napp.get('/typed', { preHandler: app.oidc.required() }, async ({ oidcClaims, oidcUser }) => { const text: string | undefined = oidcClaims?.department; const id: number | undefined = oidcUser?.id; return { text, id } })\nexport { app }\n`
  return `${imports}\n${code.includes('app.register(oidc') ? PRELUDE : REGISTERED}${rest}\nexport { app }\n`
}

/** The package's own sources in place of the installed package. */
function withOwnPaths (code: string): string {
  return code.replaceAll("'fastify-oidc'", `'${pathToFileURL('index.ts').href}'`).replaceAll("'fastify-oidc/testing'", `'${pathToFileURL('lib/testing/index.ts').href}'`)
}

async function run (t: Test, code: string, context: Partial<Context> = {}): Promise<FastifyInstance> {
  const dir = t.testdir({ 'block.ts': withOwnPaths(moduleOf(code)).replace('port: 3000', 'port: 0') })
  Object.assign(globalThis, { readme: context })
  const { app } = await import(pathToFileURL(`${dir}/block.ts`).href) as { app: FastifyInstance }
  t.teardown(async () => await app.close())
  return app
}

async function start (t: Test, roles: string[] = []) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com', roles }] })
  t.teardown(async () => await provider.close())
  return provider
}

t.test('every block of code is tested below', async (t) => {
  t.same(blocks.map(({ language }) => language), ['sh', ...Array<string>(8).fill('ts')])
  t.equal(blocks[0]?.code, 'npm install fastify-oidc\n')
  t.ok(blockWith('app.listen').split('\n').length <= 26, 'the quick start has 25 lines')
})

t.test('quick start', async (t) => {
  const provider = await start(t, ['admin'])
  Object.assign(process.env, {
    OIDC_ISSUER: provider.issuer, OIDC_CLIENT_ID: 'web', OIDC_CLIENT_SECRET: provider.clients[0]?.client_secret, BASE_URL, OIDC_SESSION_KEY: SESSION_KEY
  })
  // The provider of the test has no certificate, which the quick start does not allow.
  const code = blockWith('app.listen').replace('session: {', 'allowInsecureLoopback: true,\n  session: {')
  const app = await run(t, code)
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/')).text(), 'Everybody sees this.')
  t.match(await (await browser.goto('/me')).json(), { sub: 'alice', iss: provider.issuer })
  t.equal(await (await browser.goto('/admin')).text(), 'Only admins see this.')
})

t.test('guards', async (t) => {
  const provider = await start(t)
  const app = await run(t, blockWith("'/reports'"), { options: optionsFor(provider, { scope: 'openid email profile' }) })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(await (await browser.goto('/home')).text(), 'anonymous')
  t.equal((await browser.goto('/reports')).status, 403, 'the provider did not tell the department')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, department: { name: 'finance' } }) })
  await browser.goto('/auth/login')
  t.equal(await (await browser.goto('/reports')).text(), 'reports')
  t.equal(await (await browser.goto('/home')).text(), 'alice')
  t.equal((await browser.fetch('/transfer', { method: 'POST' })).status, 200)
  t.equal((await browser.fetch('/transfer', { method: 'POST', from: 'https://evil.example.com', credentials: 'include' })).status, 403, 'a sibling sends the cookie')
  t.equal((await browser.fetch('/transfer', { method: 'POST', from: 'https://evil.test', credentials: 'include' })).status, 401, 'another site does not')
})

t.test('your users', async (t) => {
  const provider = await start(t)
  const told: unknown[] = []
  const app = await run(t, blockWith('onClaims:'), {
    options: optionsFor(provider),
    users: { upsert: async (user) => { told.push(user); return { id: 7, name: 'Alice' } } },
    audit: { write: async (_id, reason) => { told.push(reason) } }
  })
  app.get('/user', { preHandler: app.oidc.required() }, async (request) => request.oidcUser)
  const browser = client({ app, baseUrl: BASE_URL })
  t.same(await (await browser.goto('/user')).json(), { id: 7, name: 'Alice' })
  await browser.post('/auth/logout')
  t.same(told, [{ iss: provider.issuer, sub: 'alice', email: 'alice@example.com' }, 'logout'])
})

t.test('your own types', async (t) => {
  const provider = await start(t)
  const app = await run(t, blockWith('declare module'), { options: optionsFor(provider, { onClaims: () => ({ id: 7, name: 'Alice' }) }) })
  t.same(await (await client({ app, baseUrl: BASE_URL }).goto('/typed')).json(), { id: 7 })
})

t.test('through a proxy', async (t) => {
  const provider = await start(t)
  let tunnels = 0
  const proxy = createServer().on('connect', (request, socket) => {
    tunnels += 1
    const { hostname, port } = new URL(`http://${request.url}`)
    const target = connect(Number(port), hostname, () => { socket.write('HTTP/1.1 200 OK\r\n\r\n'); target.pipe(socket).pipe(target) })
    for (const end of [socket, target]) end.on('error', () => end.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { proxy.closeAllConnections(); proxy.close() })
  const { port } = proxy.address() as AddressInfo
  const code = blockWith('ProxyAgent').replace('proxy.example.com:3128', `127.0.0.1:${port}`)
  const app = await run(t, code, { options: optionsFor(provider) })
  app.get('/me', { preHandler: app.oidc.required() }, async (request) => request.oidcClaims)
  t.match(await (await client({ app, baseUrl: BASE_URL }).goto('/me')).json(), { sub: 'alice' })
  t.ok(tunnels > 0)
})

for (const name of ['people see their own page', 'only admins see the admin page', 'an expired access token is refreshed once']) {
  t.test(`a test of an application: ${name}`, async (t) => {
    const dir = t.testdir({ 'block.test.ts': withOwnPaths(moduleOf(blockWith(name))) })
    const { status, stdout } = spawnSync(process.execPath, [...process.execArgv, '--test', '--test-reporter=tap', `${dir}/block.test.ts`], { encoding: 'utf8' })
    t.equal(status, 0, stdout)
    t.match(stdout, new RegExp(`ok 1 - ${name}[^]*# pass 1`))
  })
}

t.test('the blocks are right TypeScript for somebody who installs the package', async (t) => {
  const context = 'declare const context: { options: import(\'fastify-oidc\').OidcOptions, users: any, audit: any }\n'
  const dir = t.testdir(Object.fromEntries(blocks.filter(({ language }) => language === 'ts').map(({ code }, index) =>
    [`block${index}.ts`, context + moduleOf(code).replace('(globalThis as any).readme', 'context').replace(/process\.env\.(\w+)/g, 'process.env.$1!')])))
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile)
  const { options } = ts.convertCompilerOptionsFromJson({
    ...config.compilerOptions, paths: { 'fastify-oidc': ['./index.ts'], 'fastify-oidc/testing': ['./lib/testing/index.ts'] }, noEmit: true, rewriteRelativeImportExtensions: false, allowImportingTsExtensions: true, noUnusedLocals: false, exactOptionalPropertyTypes: false
  }, process.cwd())
  const files = ts.sys.readDirectory(dir, ['.ts'])
  const program = ts.createProgram(files, options)
  t.equal(files.length, 8)
  for (const file of files) {
    const source = program.getSourceFile(file)
    const problems = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    t.same(problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')), [], file.replace(/^.*\//, ''))
  }
})
