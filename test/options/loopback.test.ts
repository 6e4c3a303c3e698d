import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { SESSION_KEY, optionsFor, registrationOf } from '../support/app.ts'
import { captureLog } from '../support/protocol.ts'
import type { Settings } from '../../lib/options/settings.ts'
import type { Provider } from '../../lib/testing/index.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'

// http on loopback addresses is development: it works by itself, and nothing else is http.

const LOOPBACK = [
  'http://localhost', 'http://localhost:3000', 'http://shop.localhost:3000', 'http://a.b.localhost', 'HTTP://LOCALHOST',
  'http://127.0.0.1', 'http://127.0.0.1:8080', 'http://127.200.3.4', 'http://[::1]', 'http://[::1]:3000/shop'
]

const NOT_LOOPBACK = [
  'http://localhost.evil.example', 'http://evil.example/localhost', 'http://localhost.', 'http://localhost@evil.example',
  'http://evillocalhost', 'http://a..localhost', 'http://127.0.0.1.nip.io', 'http://127.0.0.1.', 'http://128.0.0.1',
  'http://0.0.0.0', 'http://10.0.0.1', 'http://192.168.0.1', 'http://host.docker.internal', 'http://app.example.com',
  'http://[::ffff:10.0.0.1]', 'http://[::ffff:127.0.0.1]', 'http://[::]', 'http://[::2]', 'http://evil.example#localhost',
  // Other spellings of 127.0.0.1 and of localhost.
  'http://2130706433', 'http://0x7f000001', 'http://127.1', 'http://0177.0.0.1', 'http://①②⑦.0.0.1', 'http://ⓛocalhost',
  'http:\\\\localhost', 'http:localhost', 'http://[0:0:0:0:0:0:0:1]', 'http://local\thost', 'http://localhost%2e'
]

function parse (options: object): Settings {
  return parseOptions({
    issuer: 'https://id.example.com',
    clientId: 'web',
    clientSecret: 'secret',
    baseUrl: 'https://app.example.com',
    session: { key: SESSION_KEY },
    ...options
  })
}

function inProduction (t: Test): void {
  const { NODE_ENV: before } = process.env
  t.teardown(() => {
    if (before === undefined) delete process.env['NODE_ENV']
    else process.env['NODE_ENV'] = before
  })
  process.env['NODE_ENV'] = 'production'
}

const isInsecure = (settings: Settings): boolean | undefined =>
  settings.providers.get('default')?.allowInsecureLoopback

t.test('http on a loopback address needs no option', async (t) => {
  for (const baseUrl of LOOPBACK) {
    const { session, ...settings } = parse({ baseUrl })
    t.same([session.secure, isInsecure({ ...settings, session })], [false, false], baseUrl)
    t.notMatch(session.cookieName, '__Host-', 'a prefix that needs Secure')
  }
  for (const issuer of LOOPBACK) t.equal(isInsecure(parse({ baseUrl: 'http://localhost:3000', issuer })), true, issuer)
})

t.test('nothing else is a loopback address', async (t) => {
  const message = /http is for loopback addresses only|must be an absolute URL|without credentials or fragment/
  for (const address of NOT_LOOPBACK) {
    for (const allowInsecureLoopback of [false, true]) {
      const options = { baseUrl: 'http://localhost:3000', allowInsecureLoopback }
      t.throws(() => parse({ ...options, baseUrl: address }), { message }, address)
      t.throws(() => parse({ ...options, issuer: address }), { message }, address)
      t.throws(() => parse({ ...options, bearer: { audience: 'a', resource: address } }), { message }, address)
    }
  }
  t.throws(() => parse({ baseUrl: 'http://user@localhost' }), { message: /without credentials/ })
})

t.test('S82 production refuses http, and the message names the way to say that it is meant', async (t) => {
  inProduction(t)
  const baseUrl = 'http://localhost:3000'
  t.throws(() => parse({ baseUrl }), {
    message: /^"baseUrl" must be an https URL: NODE_ENV is "production"\. .*"allowInsecureLoopback: true"/
  })
  t.throws(() => parse({ baseUrl, allowInsecureLoopback: false }), { message: /NODE_ENV is "production"/ })
  t.equal(isInsecure(parse({ baseUrl, issuer: 'http://localhost:8080', allowInsecureLoopback: true })), true)
  t.throws(() => parse({ baseUrl: 'http://10.0.0.1', allowInsecureLoopback: true }), { message: /loopback/ })
})

t.test('S82 production refuses a provider on http beside an https baseUrl, also with the option', async (t) => {
  inProduction(t)
  const issuer = 'http://localhost:8080'
  t.throws(() => parse({ issuer }), { message: /^"issuer" must be an https URL: http is for development/ })
  t.throws(() => parse({ issuer, allowInsecureLoopback: true }), { message: /must not be set in production, unless/ })
})

t.test('outside production, a provider on http beside an https baseUrl needs the option', async (t) => {
  const issuer = 'http://localhost:8080'
  t.throws(() => parse({ issuer }), { message: /^"issuer" must be an https URL: .*"allowInsecureLoopback: true"/ })
  t.throws(() => parse({ issuer: undefined, discoveryUrl: `${issuer}/.well-known/openid-configuration` }), {
    message: /^"discoveryUrl" must be an https URL: .*"allowInsecureLoopback: true"/
  })
  t.equal(isInsecure(parse({ issuer, allowInsecureLoopback: true })), true)
  t.equal(isInsecure(parse({ allowInsecureLoopback: true })), false, 'a provider on https')
})

t.test('http addresses are accepted only of a provider whose issuer is http on a loopback address', async (t) => {
  const http = 'http://localhost:8080/x'
  const metadata = { issuer: http, authorization_endpoint: http, token_endpoint: http, jwks_uri: http }
  for (const base of [{ baseUrl: 'http://localhost:3000' }, { allowInsecureLoopback: true }]) {
    const message = /must be an https URL: http is accepted only of an issuer that is itself http on a loopback address/
    t.throws(() => parse({ ...base, jwksUri: http }), { message })
    t.throws(() => parse({ ...base, discoveryUrl: http }), { message })
    const trusts = (trusted: { issuer: string, jwksUri: string }) => (): Settings =>
      parse({ ...base, store: 'memory:', broker: { audience: 'a', trustedIssuers: [trusted] } })
    t.throws(trusts({ issuer: 'https://peer.example.com', jwksUri: http }), { message })
    t.ok(trusts({ issuer: 'http://localhost:4000', jwksUri: http })())
    const ofIssuer = { ...base, issuer: 'http://127.0.0.1:8080' }
    t.ok(parse({ ...ofIssuer, jwksUri: http, discoveryUrl: http }))
    t.throws(() => parse({ ...ofIssuer, jwksUri: 'http://10.0.0.1' }), { message: /^"jwksUri": http is for loopback/ })
    t.equal(isInsecure(parse({ ...ofIssuer, expectedIssuer: 'https://id.example.com' })), true, 'the address counts')
    t.equal(isInsecure(parse({ ...base, expectedIssuer: 'http://localhost' })), false)
    t.equal(isInsecure(parse({ ...base, issuer: undefined, metadata })), true)
    const unparsable = { ...metadata, issuer: 'http://localhost:99999' }
    t.equal(isInsecure(parse({ ...base, issuer: undefined, metadata: unparsable })), false)
  }
  t.equal(isInsecure(parse({ issuer: undefined, metadata })), false, 'beside an https baseUrl')
})

async function start (t: Test, provider: Provider, options: Partial<OidcOptions>): Promise<FastifyInstance> {
  const { allowInsecureLoopback, ...others } = optionsFor(provider, { baseUrl: 'http://localhost:3000', ...options })
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, others)
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  return app
}

t.test('a login on http://localhost, at a provider on http://127.0.0.1', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const baseUrl of ['http://localhost:3000', 'http://shop.localhost', 'http://127.0.0.1:3000', 'http://[::1]:3000']) {
    const browser = client({ app: await start(t, provider, { baseUrl }), baseUrl })
    const page = await browser.goto('/me')
    t.same([page.status, page.json()], [200, { sub: 'alice' }], baseUrl)
    for (const { name, secure } of browser.cookies.list(baseUrl)) t.same([name.startsWith('__'), secure], [false, false])
    t.equal((await browser.fetch('/auth/logout', { method: 'POST' })).status, 200)
    t.equal((await browser.fetch('/me')).status, 401)
  }
})

t.test('S50 endpoints of a provider on https must be https, also in development', async (t) => {
  const issuer = 'https://op.example'
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const endpoints = { authorization_endpoint: `${issuer}/a`, token_endpoint: `${issuer}/t`, jwks_uri: `${issuer}/k` }
  for (const name of Object.keys(endpoints)) {
    const fetch = async () => Response.json({ issuer, ...endpoints, [name]: `${provider.issuer}/x` })
    const app = await start(t, provider, { issuer, fetch })
    const { statusCode, ...response } = await app.inject('/auth/login')
    t.same([statusCode, response.json().code], [502, 'FST_OIDC_PROVIDER_RESPONSE'], name)
  }
})

t.test('S50 endpoints of a provider on http must be on loopback addresses', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const url of ['http://op.example/token', 'http://127.0.0.1.nip.io/token', 'http://2130706433/token']) {
    const stop = provider.fault({ on: 'metadata', metadata: (found) => ({ ...found, token_endpoint: url }) })
    const { statusCode } = await (await start(t, provider, {})).inject('/auth/login')
    t.equal(statusCode, 502, url)
    stop()
  }
})

t.test('S55 a tenant on http is accepted in development, and none beside an https baseUrl', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const login = async (options: Partial<OidcOptions>) => {
    const { issuer, clientId, clientSecret, ...others } = optionsFor(provider, options)
    const app = Fastify()
    t.teardown(async () => await app.close())
    const resolveProvider = (): ReturnType<typeof registrationOf> => registrationOf(provider)
    await app.register(oidc, { ...others, resolveProvider } as unknown as OidcOptions)
    return (await app.inject('/auth/one/login')).statusCode
  }
  t.equal(await login({ baseUrl: 'http://localhost:3000', allowInsecureLoopback: false }), 302)
  t.equal(await login({ allowInsecureLoopback: false }), 500)
})

t.test('S54 one line says that http is for development', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const http = { baseUrl: 'http://localhost:3000' }
  for (const [options, count] of [
    [{ ...http, allowInsecureLoopback: false }, 1],
    [{ ...http, allowInsecureLoopback: true }, 1],
    [{ issuer: 'https://id.example.com', allowInsecureLoopback: false }, 0]
  ] as const) {
    const { lines, server } = captureLog()
    const app = Fastify(server)
    await app.register(oidc, optionsFor(provider, options))
    const warnings = lines().split('\n').filter((line) => line.includes('"level":40'))
    t.equal(warnings.length, count)
    for (const line of warnings) t.match(line, /http.* on .*loopback address.* for development only/)
    await app.close()
  }
})
