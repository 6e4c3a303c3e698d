import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import t from 'tap'
import { client, sessionCookie, startClock, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor } from './support/app.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, ResolvedProvider } from '../index.ts'

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
  key: string
  clients: Record<'google' | 'corp', { clientId: string, clientSecret: string }>
  tenants: { find: (name: string) => Promise<ResolvedProvider | null> }
}

const PRELUDE = `
import Fastify from 'fastify'
import oidc from 'fastify-oidc'
const { options, users, audit, key, clients, tenants } = (globalThis as any).readme
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
  // The very package that this test runs, from source or built.
  const hrefOf = (path: string): string => new URL(`../${path}${import.meta.url.slice(-3)}`, import.meta.url).href
  return code.replaceAll("'fastify-oidc'", `'${hrefOf('index')}'`).replaceAll("'fastify-oidc/testing'", `'${hrefOf('lib/testing/index')}'`)
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
  t.same(blocks.map(({ language }) => language), ['sh', ...Array<string>(13).fill('ts')])
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

/** A block whose providers are those of a test, which have no certificates. */
function withProviders (code: string, issuers: Record<string, string> = {}): string {
  const own = Object.entries(issuers).reduce((text, [issuer, test]) => text.replace(`'${issuer}'`, `'${test}'`), code)
  return own.replace('session: { key }', 'session: { key }, allowInsecureLoopback: true')
}

t.test('several providers', async (t) => {
  const [google, corp] = [await start(t), await start(t)]
  const clientOf = (provider: typeof google) => ({ clientId: 'web', clientSecret: provider.clients[0]?.client_secret as string })
  const app = await run(t, withProviders(blockWith("'/intranet'"), { 'https://accounts.google.com': google.issuer, 'https://id.example.com/realms/corp': corp.issuer }), {
    key: SESSION_KEY, clients: { google: clientOf(google), corp: clientOf(corp) }
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.match((await browser.goto('/auth/login')).text(), /Google.*Employees/)
  await browser.goto('/auth/google/login')
  t.equal((await browser.fetch('/intranet')).status, 401)
  t.equal((await browser.goto('/intranet')).text(), 'Only employees see this.')
})

/** The rows of a table of the README, by their first cell. */
function rowsOf (heading: string): Map<string, string> {
  const table = readme.slice(readme.indexOf(`| ${heading} |`)).split('\n\n', 1)[0] as string
  return new Map(table.split('\n').slice(2).map((row) => row.slice(2, -2).split(' | ')).map(([first, ...others]) => [first as string, others.join(' | ')]))
}

t.test('APIs: who asks, and the answer', async (t) => {
  const provider = await start(t)
  const app = await run(t, blockWith("'/api/reports'"), { options: optionsFor(provider) })
  const { required } = app.oidc
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(body as string))))
  app.post('/api/reports', { preHandler: required() }, async () => 'made')
  app.get('/fresh', { preHandler: required({ maxAge: 60 }) }, async () => 'fresh')
  app.get('/jobs', { preHandler: required({ accept: ['client'] }) }, async () => 'done')
  const token = (overrides: Record<string, unknown> = {}, more: object = {}): string => provider.accessToken({ sub: 'alice', scope: 'reports:read', overrides: { aud: 'https://api.example.com', ...overrides }, ...more })
  const ask = async (headers: Record<string, string> = {}, url = '/api/reports', more: InjectOptions = {}): Promise<LightMyRequestResponse> => await app.inject({ url, headers, ...more })
  const bring = async (text: string, url?: string, scheme = 'Bearer'): Promise<LightMyRequestResponse> => await ask({ authorization: `${scheme} ${text}` }, url)
  const cookie = (scope: string): { cookie: string } => ({ cookie: sessionCookie(app, { scope }) })
  const now = Math.floor(Date.now() / 1000)
  const form = { 'content-type': 'application/x-www-form-urlencoded', authorization: `Bearer ${token()}` }
  const asked: Record<string, () => Promise<LightMyRequestResponse[]>> = {
    'a person who opens it and is not logged in': async () => [await ask({ 'sec-fetch-mode': 'navigate', accept: 'text/html' })],
    'a script, or `curl`, with nothing': async () => [await ask(), await ask({ accept: '*/*' })],
    'a session with the scope': async () => [await ask(cookie('openid reports:read'))],
    'a session without': async () => [await ask(cookie('openid'))],
    'a page of another site, with the session cookie and `POST`': async () => [await ask({ ...cookie('openid'), origin: 'https://evil.example.com' }, undefined, { method: 'POST' })],
    'an access token of a person, for this API and with the scope': async () => [await bring(token())],
    'the same as `bearer` or `BEARER`': async () => [await bring(token(), undefined, 'bearer'), await bring(token(), undefined, 'BEARER')],
    'a token for another API, of an issuer that is none of the providers, expired, or with a wrong signature': async () => await Promise.all([
      token({ aud: 'https://other.example.com' }), token({ iss: 'https://id.example.net' }), token({ exp: now - 60 }), token({}, { signWith: 'other-key' })
    ].map(async (text) => await bring(text))),
    'an ID token, or a refresh token': async () => [await bring(provider.idToken({ sub: 'alice', overrides: { aud: 'https://api.example.com' } })), await bring('Tm90IGEgSldU')],
    'a token without the scope': async () => [await bring(token({ scope: 'openid' }))],
    'a token of a person who logged in too long ago for `maxAge`': async () => [await bring(token({ auth_time: now - 1000 }), '/fresh')],
    'a token of a client alone': async () => [await bring(token({ sub: 'web' }))],
    'a token that is bound to a key, without a proof': async () => [await bring(token({ cnf: { jkt: 'x' } }))],
    'two `Authorization` headers, a header and a form, or a header that cannot be read': async () => [await ask(form, undefined, { method: 'POST', payload: 'access_token=x' }), await bring(''), await bring('a b')],
    'a token in the query': async () => [await ask({}, `/api/reports?access_token=${token()}`)],
    'a token, while the provider is away and its keys are not known': async () => {
      provider.fault({ on: 'jwks', status: 503 })
      const other = await buildApp(t, optionsFor(provider, { bearer: { audience: 'https://api.example.com' } }))
      const answer = await other.inject({ url: '/me', headers: { authorization: `Bearer ${token()}` } })
      t.ok(answer.headers['retry-after'])
      return [answer]
    }
  }
  const rows = rowsOf('who asks for it')
  t.same([...rows.keys()], Object.keys(asked))
  for (const [who, answer] of rows) {
    for (const { statusCode, headers } of await asked[who]?.() ?? []) {
      t.equal(statusCode, parseInt(answer), who)
      const challenge = [headers['www-authenticate']].flat().join()
      for (const [, part] of statusCode === 401 || statusCode === 400 || answer.includes('error=') ? answer.matchAll(/`([^`]+)`/g) : []) t.ok(challenge.includes(part as string), `${who}: ${part} in ${challenge}`)
    }
  }
  t.equal((await bring(token({ sub: 'web' }), '/jobs')).statusCode, 200)
})

const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

t.test('tokens of your own: what comes to the token endpoint, and the answer', async (t) => {
  const provider = await start(t)
  Object.assign(provider.options, { deviceInterval: 1 })
  process.env['OIDC_STORE'] = 'memory:'
  const app = await run(t, blockWith("'/api/status'"), { options: optionsFor(provider, { bearer: { audience: 'https://web.example.com' } }) })
  const post = async (path: string, form: Record<string, string>): Promise<LightMyRequestResponse> => await app.inject({ method: 'POST', url: `/auth/${path}`, headers: { 'content-type': 'application/x-www-form-urlencoded' }, payload: new URLSearchParams(form).toString() })
  const token = async (form: Record<string, string>): Promise<LightMyRequestResponse> => await post('token', form)
  const status = async (text: string): Promise<number> => (await app.inject({ url: '/api/status', headers: { authorization: `Bearer ${text}` } })).statusCode
  const device = async (): Promise<string> => { const { device_code: code } = (await post('device', {})).json(); provider.approveDevice(); return code }
  const refresh = async (text: string): Promise<LightMyRequestResponse> => await token({ grant_type: 'refresh_token', refresh_token: text })
  const tokens = (await token({ grant_type: DEVICE, device_code: await device() })).json()
  const clock = startClock()
  t.teardown(() => clock.restore())
  const asked: Record<string, () => Promise<string>> = {
    'grant_type=authorization_code': async () => {
      const verifier = 'v'.repeat(43)
      const redirectUri = 'http://127.0.0.1:1/'
      const query = new URLSearchParams({ client_id: 'cli', redirect_uri: redirectUri, code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256' })
      const browser = client({ app, baseUrl: BASE_URL })
      const { location: toProvider } = await browser.step(`/auth/login?${query.toString()}`)
      const { location: callback } = await browser.step(toProvider as string)
      const { location } = await browser.step(callback as string)
      const form = { grant_type: 'authorization_code', code: new URL(location as string).searchParams.get('code') as string, redirect_uri: redirectUri, code_verifier: verifier, client_id: 'cli' }
      const { access_token: text } = (await token(form)).json()
      const before = await status(text)
      await token(form)
      return `${before} ${await status(text)}`
    },
    'grant_type=refresh_token': async () => { const answer = (await refresh(tokens.refresh_token)).json(); return `${answer.refresh_token !== tokens.refresh_token} ${await status(answer.access_token)}` },
    'the same refresh token again': async () => { const [one, two] = [await refresh(tokens.refresh_token), await refresh(tokens.refresh_token)]; return String(one.json().refresh_token === two.json().refresh_token) },
    'the same refresh token later': async () => { clock.advance(31); return `${(await refresh(tokens.refresh_token)).json().error} ${await status(tokens.access_token)}` },
    [`grant_type=${DEVICE}`]: async () => {
      const { device_code: code } = (await post('device', {})).json()
      const before = (await token({ grant_type: DEVICE, device_code: code })).json().error
      return `${before} ${await status((await token({ grant_type: DEVICE, device_code: await device() })).json().access_token)}`
    },
    [`grant_type=${EXCHANGE}`]: async () => await token({ grant_type: EXCHANGE, subject_token: provider.accessToken({ sub: 'alice', overrides: { aud: 'https://web.example.com' } }) }).then(async (answer) => String(await status(answer.json().access_token))),
    'refresh-token': async () => { const { refresh_token: text } = (await token({ 'device-code': await device() })).json(); return String(await status((await token({ 'refresh-token': text })).json().access_token)) },
    another: async () => (await token({ grant_type: 'password' })).json().error,
    'a client': async () => (await token({ grant_type: DEVICE, device_code: await device(), client_id: 'other' })).json().error,
    anything: async () => {
      const code = await device()
      const off = provider.fault({ on: 'token', status: 503 })
      const away = await token({ grant_type: DEVICE, device_code: code })
      off()
      return `${away.statusCode} ${away.json().error} ${away.headers['retry-after'] !== undefined} ${(await token({ grant_type: DEVICE, device_code: code })).statusCode}`
    }
  }
  const answers = ['200 401', 'true 200', 'true', 'invalid_grant 401', 'authorization_pending 200', '200', '200', 'unsupported_grant_type', 'invalid_client', '503 temporarily_unavailable true 200']
  const rows = [...rowsOf('what comes to `POST /auth/token`').keys()].map((cell) => cell.replaceAll('`', ''))
  t.equal(rows.length, answers.length)
  for (const [index, [start, ask]] of Object.entries(asked).entries()) {
    const row = String(rows[index])
    t.ok(row.startsWith(start), row)
    t.equal(await ask(), answers[index], row)
  }
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  t.ok(((await browser.fetch('/devices/forget', { method: 'POST' })).json() as { ended: number }).ended > 0)
})

t.test('stores and several processes', async (t) => {
  const provider = await start(t)
  process.env['OIDC_STORE'] = 'memory:'
  const app = await run(t, blockWith('/log-out-everywhere'), { options: optionsFor(provider), key: SESSION_KEY })
  const browsers = [client({ app, baseUrl: BASE_URL }), client({ app, baseUrl: BASE_URL })] as const
  for (const browser of browsers) t.equal((await browser.goto('/auth/login')).status, 404, 'there is no page at /')
  t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 2)
  t.same((await browsers[0].fetch('/log-out-everywhere', { method: 'POST' })).json(), { ended: 2 })
  for (const browser of browsers) t.equal((await browser.fetch('/auth/session')).status, 401)
})

t.test('tenants', async (t) => {
  const acme = await start(t)
  const find = async (name: string) => name === 'acme' ? { issuer: acme.issuer, clientId: 'web', clientSecret: acme.clients[0]?.client_secret as string } : null
  const app = await run(t, withProviders(blockWith('resolveProvider')), { key: SESSION_KEY, tenants: { find } })
  const browser = client({ app, baseUrl: BASE_URL })
  t.match((await browser.goto('/t/acme/home')).json(), { sub: 'alice', iss: acme.issuer })
  t.equal((await browser.goto('/t/other/home')).status, 404)
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
  const context = 'declare const context: { options: import(\'fastify-oidc\').OidcOptions, users: any, audit: any, key: string, clients: { google: { clientId: string, clientSecret: string }, corp: { clientId: string, clientSecret: string } }, tenants: { find: (name: string) => Promise<import(\'fastify-oidc\').ResolvedProvider | null> } }\n'
  const dir = t.testdir(Object.fromEntries(blocks.filter(({ language }) => language === 'ts').map(({ code }, index) =>
    [`block${index}.ts`, context + moduleOf(code).replace('(globalThis as any).readme', 'context').replace(/process\.env\.(\w+)/g, 'process.env.$1!')])))
  const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile)
  const { options } = ts.convertCompilerOptionsFromJson({
    ...config.compilerOptions, paths: { 'fastify-oidc': ['./index.ts'], 'fastify-oidc/testing': ['./lib/testing/index.ts'] }, noEmit: true, rewriteRelativeImportExtensions: false, allowImportingTsExtensions: true, noUnusedLocals: false, exactOptionalPropertyTypes: false
  }, process.cwd())
  const files = ts.sys.readDirectory(dir, ['.ts'])
  const program = ts.createProgram(files, options)
  t.equal(files.length, 13)
  for (const file of files) {
    const source = program.getSourceFile(file)
    const problems = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    t.same(problems.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')), [], file.replace(/^.*\//, ''))
  }
})
