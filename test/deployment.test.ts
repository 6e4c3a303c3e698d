import { request as httpRequest } from 'node:http'
import { once } from 'node:events'
import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../index.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, startApp } from './support/app.ts'
import { enlargeTokens } from './support/enlarge.ts'
import { captureLog } from './support/protocol.ts'
import { NAVIGATION } from './support/navigation.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyServerOptions, preHandlerHookHandler } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'
import type { Injectable, Provider } from '../lib/testing/index.ts'
import type { Sizes } from './support/enlarge.ts'

// Where the plugin runs: behind proxies and CDNs, below a path, and beside other plugins.

const CDN_HEADERS = {
  'cdn-cache-control': 'max-age=600',
  'cloudflare-cdn-cache-control': 'max-age=600',
  'netlify-cdn-cache-control': 'public, max-age=600',
  'surrogate-control': 'max-age=600',
  'x-accel-expires': '600',
  expires: new Date(Date.now() + 600_000).toUTCString()
}

async function provider (t: Test): Promise<Provider> {
  const started = await startProvider()
  t.teardown(async () => await started.close())
  return started
}

t.test('K10 no header for CDNs is beside a response of a session, wherever it was set', async (t) => {
  const { app, provider } = await startApp(t)
  app.addHook('onSend', async (_request, reply) => { reply.headers({ ...CDN_HEADERS, 'cache-control': 'public, max-age=60' }) })
  app.get('/own', {
    preHandler: app.oidc.required(),
    onSend: async (_request, reply) => { reply.header('CDN-Cache-Control', 'max-age=60') }
  }, async (_request, reply) => {
    reply.raw.setHeader('Surrogate-Control', 'max-age=60')
    return 'own'
  })
  app.get('/private', {
    preHandler: app.oidc.required(),
    onSend: [async (_request, reply) => { reply.headers({ ...CDN_HEADERS, 'cache-control': 'private, max-age=60' }) }]
  }, async () => 'private')
  app.get('/sign-in', async (request, reply) => await app.oidc.login(request, reply))
  const none = Object.fromEntries(Object.keys(CDN_HEADERS).map((name) => [name, undefined]))
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  for (const url of [
    '/me', '/own', '/maybe', '/sign-in', '/auth/login', '/auth/session', '/auth/logged-out', '/auth/callback?state=x'
  ]) {
    for (const headers of [{ ...NAVIGATION }, { ...NAVIGATION, cookie }]) {
      const response = await app.inject({ url, headers })
      t.match(response.headers, { ...none, 'cache-control': 'no-store' }, `${url} ${response.statusCode}`)
    }
  }
  const kept = await app.inject({ url: '/private', headers: { cookie } })
  t.match(kept.headers, { ...none, 'cache-control': 'private, max-age=60', vary: 'Cookie' })
  t.match((await app.inject('/')).headers, CDN_HEADERS, 'a public page keeps its own')
})

t.test('K10 V14 no cache keeps what a guarded handler for unknown routes answers', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: 'api' } })
  app.setNotFoundHandler({ preHandler: app.oidc.required() }, async (_request, reply) => {
    return reply.code(200).send('personal')
  })
  app.addHook('onSend', async (_request, reply) => {
    reply.headers({ ...CDN_HEADERS, 'Cache-Control': 'public, max-age=60', 'x-own': 'kept' })
  })
  const none = Object.fromEntries(Object.keys(CDN_HEADERS).map((name) => [name, undefined]))
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const authorization = `Bearer ${provider.accessToken({ overrides: { aud: 'api' } })}`
  for (const headers of [{ ...NAVIGATION, cookie }, { ...NAVIGATION }, {}]) {
    const response = await app.inject({ url: '/unknown.css', headers })
    t.match(response.headers, { ...none, 'cache-control': 'no-store', vary: 'Cookie', 'x-own': 'kept' })
  }
  const byToken = await app.inject({ url: '/unknown.css', headers: { authorization } })
  t.match([byToken.statusCode, byToken.headers], [200, { ...none, 'cache-control': undefined }])
})

t.test('K10 a handler for unknown routes without a guard keeps its headers', async (t) => {
  const { app, provider } = await startApp(t)
  app.addHook('onSend', async (_request, reply) => { reply.headers({ ...CDN_HEADERS, 'cache-control': 'public' }) })
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  t.match((await app.inject({ url: '/unknown', headers: { cookie } })).headers, { ...CDN_HEADERS, 'cache-control': 'public' })
})

t.test('K17 V14 no cache keeps a response that a guarded route writes without Fastify', async (t) => {
  const { app, provider } = await startApp(t)
  app.addHook('onRequest', async (_request, { raw }) => {
    raw.setHeader('CDN-Cache-Control', 'max-age=60')
    raw.setHeader('Vary', 'Accept')
  })
  const guard = { preHandler: app.oidc.required() }
  app.get('/page.css', guard, (_request, reply) => {
    reply.hijack()
    reply.raw.end('personal')
  })
  app.get('/private', guard, (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'cache-control': 'private, max-age=60' })
    reply.raw.end('personal')
  })
  app.get('/begun', {
    preHandler: [async (_request, reply) => { reply.raw.write('begun') }, app.oidc.required()]
  }, (_request, reply) => { reply.raw.end() })
  app.get('/for-all', { preHandler: app.oidc.optional() }, (_request, reply) => { reply.raw.end('all') })
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const headersOf = async (url: string, headers = {}) => (await app.inject({ url, headers })).headers
  const kept = { 'cdn-cache-control': undefined, vary: 'Accept, Cookie' }
  t.match(await headersOf('/page.css', { cookie }), { ...kept, 'cache-control': 'no-store' })
  t.match(await headersOf('/private', { cookie }), { ...kept, 'cache-control': 'private, max-age=60' })
  t.match(await headersOf('/for-all'), { ...kept, 'cache-control': 'no-store' }, 'it depends on the session as well')
  t.equal((await app.inject({ url: '/begun', headers: { cookie } })).body, 'begun', 'what has begun goes on')
})

t.test('K10 a public document of the plugin keeps the headers for CDNs', async (t) => {
  const { app } = await startApp(t, { store: 'memory:', broker: { audience: 'api' } })
  app.addHook('onSend', async (_request, reply) => { reply.headers(CDN_HEADERS) })
  const { headers } = await app.inject('/auth/.well-known/jwks.json')
  t.match(headers, { ...CDN_HEADERS, 'cache-control': /public/ })
})

t.test('K10 the routes of the plugin are not in the document of @fastify/swagger', async (t) => {
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(swagger)
  await app.register(oidc, optionsFor(await provider(t), { store: 'memory:', broker: { audience: 'api' } }))
  app.get('/mine', { preHandler: app.oidc.required() }, async () => 'mine')
  await app.ready()
  t.same(Object.keys(app.swagger().paths ?? {}), ['/mine'])
  t.equal((await app.inject('/auth/session')).statusCode, 401, 'they are there')
})

t.test('K10 a guard outside the scope of the plugin is an error that names the remedy', async (t) => {
  const { lines, server } = captureLog()
  const app = Fastify(server)
  t.teardown(async () => await app.close())
  const outside: FastifyInstance[] = []
  await app.register(async (before) => { outside.push(before) })
  let scoped: FastifyInstance | undefined
  const options = optionsFor(await provider(t), { bearer: { audience: 'api' } })
  await app.register(async (scope) => {
    await scope.register(oidc, options)
    scoped = scope
    scope.get('/inside', { preHandler: scope.oidc.optional() }, async () => 'inside')
    await scope.register(async (child) => {
      child.get('/child', { preHandler: scope.oidc.optional() }, async () => 'child')
    })
  })
  const guards: Record<string, preHandlerHookHandler> = {
    required: (scoped as FastifyInstance).oidc.required(),
    optional: (scoped as FastifyInstance).oidc.optional()
  }
  for (const [name, guard] of Object.entries(guards)) {
    app.get(`/${name}`, { preHandler: guard }, async () => { t.fail('the handler runs') })
  }
  app.get('/authenticate', async (request) => await (scoped as FastifyInstance).oidc.authenticate(request))
  for (const headers of [{}, { authorization: 'Bearer x' }, NAVIGATION]) {
    for (const url of ['/required', '/optional', '/authenticate']) {
      const response = await app.inject({ url, headers: { ...headers } })
      t.equal(response.statusCode, 500, url)
      t.match(response.body, url === '/authenticate' || headers !== NAVIGATION ? '"FST_OIDC_OUTSIDE"' : 'FST_OIDC_OUTSIDE')
      t.notOk(response.headers['set-cookie'])
    }
  }
  t.match(lines(), 'register the plugin in the scope of the route or around it')
  t.equal((await app.inject('/inside')).body, 'inside')
  t.equal((await app.inject('/child')).body, 'child')
})

/** Removes the path of `baseUrl`, as a proxy does. */
const strip = (app: FastifyInstance): Injectable => ({
  inject: async (options: { url: string }) =>
    await app.inject({ ...options, url: options.url.replace(/^\/app(?=[/?]|$)/, '') || '/' })
}) as unknown as Injectable

interface Place {
  server?: FastifyServerOptions
  prefix?: string
  baseUrl?: string
  strips?: true
  options?: Partial<OidcOptions>
  /** The page as the application routes it. */
  page: string
}

const places: Record<string, Place> = {
  'a proxy that strips': { strips: true, page: '/me' },
  'a proxy that keeps the path, and a prefix': { prefix: '/app', page: '/me' },
  'a prefix with a slash': { prefix: '/app/', page: '/me' },
  'a proxy that keeps the path, and a deeper prefix': { prefix: '/app/v1', page: '/me' },
  'a proxy that keeps the path, and nothing else': { page: '/app/me' },
  'a proxy that keeps the path, and a prefix of the routes': { options: { routes: { prefix: '/app/auth' } }, page: '/app/me' },
  'a proxy that keeps the path, and rewriteUrl': {
    server: { rewriteUrl: ({ url }) => (url as string).replace(/^\/app(?=\/)/, '') }, page: '/me'
  },
  'a proxy that strips, and rewriteUrl that adds the path': {
    strips: true, server: { rewriteUrl: ({ url }) => `/app${url as string}` }, prefix: '/app', page: '/me'
  },
  'the prefix in the address of the host': { baseUrl: BASE_URL, prefix: '/app', page: '/me' }
}

for (const [name, place] of Object.entries(places)) {
  t.test(`K10 baseUrl with a path: ${name}`, async (t) => {
    const identity = await provider(t)
    const app = Fastify(place.server ?? {})
    t.teardown(async () => await app.close())
    await app.register(async (scope) => {
      await scope.register(oidc, optionsFor(identity, { baseUrl: place.baseUrl ?? `${BASE_URL}/app`, ...place.options }))
      scope.get(place.page, { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
    }, { prefix: place.prefix ?? '' })
    const browser = client({ app: place.strips === true ? strip(app) : app, baseUrl: BASE_URL })
    const path = place.prefix === '/app/v1' ? '/app/v1/me' : '/app/me'
    const page = await browser.goto(`${path}?x=1`)
    t.match([page.status, page.url, page.history.length], [200, `${BASE_URL}${path}?x=1`, 4])
    const bye = await browser.post(path.replace('me', 'auth/logout'), { return_to: `${path}?y=1` }, {
      until: ({ search }) => search === '?y=1'
    })
    t.equal(bye.location, `${BASE_URL}${path}?y=1`)
    t.equal((await browser.fetch(path)).status, 401)
  })
}

t.test('K10 a path that only begins with the letters of that of baseUrl is not below it', async (t) => {
  const app = await buildApp(t, optionsFor(await provider(t), { baseUrl: `${BASE_URL}/app` }))
  app.get('/application', { preHandler: app.oidc.required() }, async ({ url }) => ({ url }))
  const page = await client({ app: strip(app), baseUrl: BASE_URL }).goto('/app/application?x')
  t.match([page.status, page.url], [200, `${BASE_URL}/app/application?x`])
})

t.test('K10 a prefix or a baseUrl with a parameter is refused, and the message names resolveProvider', async (t) => {
  const options = optionsFor(await provider(t))
  for (const prefix of ['/:tenant', '/t/:tenant/x', '/*']) {
    const app = Fastify()
    const register = async (): Promise<unknown> =>
      await app.register(async (scope) => { await scope.register(oidc, options) }, { prefix })
    await t.rejects(register, { code: 'FST_OIDC_OPTION', message: /"resolveProvider"/ })
  }
  await t.rejects(async () => await Fastify().register(oidc, { ...options, baseUrl: `${BASE_URL}/:tenant` }), {
    code: 'FST_OIDC_OPTION', message: /"baseUrl".*"resolveProvider"/
  })
})

t.test('K10 a form to another origin is answered with a page that goes on', async (t) => {
  const { app, provider } = await startApp(t)
  app.post('/sign-in', async (request, reply) => await app.oidc.login(request, reply, { returnTo: '/me' }))
  app.addContentTypeParser(/^(?:application\/x-www-form-urlencoded|multipart\/form-data)/, (_request, body, done) => {
    body.resume().on('end', () => done(null))
  })
  const browser = await logIn({ app, provider }, 'alice')
  const out = await browser.post('/auth/logout', { return_to: '/maybe' }, { submit: false })
  t.match([out.status, out.location, out.form?.method], [200, undefined, 'GET'])
  t.match(out.form?.action.href, `${provider.issuer}/end-session?`)
  t.match(out.headers.get('content-security-policy'), /default-src 'none'/)
  t.equal(out.headers.get('cache-control'), 'no-store')
  t.match(out.text(), /<title>Logging out<\/title>[^]*<a href="[^"]*end-session[^"]*">Continue<\/a>/)

  const form = await browser.post('/sign-in', {}, { submit: false })
  t.match([form.status, form.form?.action.pathname], [200, '/authorize'])
  t.equal((await browser.post('/sign-in', {})).url, `${BASE_URL}/me`, 'the login goes on')
  for (const [type, status] of [
    ['multipart/form-data; boundary=x', 200], ['text/plain', 200], ['application/json', 303]
  ] as const) {
    const { statusCode } = await app.inject({
      method: 'POST', url: '/sign-in', headers: { ...NAVIGATION, origin: BASE_URL, 'content-type': type }, payload: '{}'
    })
    t.equal(statusCode, status, type)
  }
  t.equal((await app.inject({ method: 'POST', url: '/sign-in' })).statusCode, 303, 'a program gets a redirect')
  const local = await app.inject({
    method: 'POST',
    url: '/auth/logout',
    headers: {
      ...NAVIGATION,
      origin: BASE_URL,
      'sec-fetch-site': 'same-origin',
      'content-type': 'application/x-www-form-urlencoded'
    }
  })
  t.match([local.statusCode, local.headers.location], [303, `${BASE_URL}/`], 'to the own origin as well')
})

/** The bytes of the head of the callback's response, as the server sends it. */
async function callbackHead (t: Test, sizes: Sizes): Promise<{
  head: number, session: string[], names: string[], tokens: Record<string, string>
}> {
  const identity = await startProvider({ refreshTokens: 'always' })
  t.teardown(async () => await identity.close())
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(identity, { claims: [], timeout: 60 }), server)
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request) }))
  const issued = enlargeTokens(identity, sizes)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const browser = client({ app, baseUrl: BASE_URL })
  const callback = await browser.goto('/auth/login', { until: ({ pathname }) => pathname === '/auth/callback' })
  const { pathname, search } = new URL(callback.location as string)
  const sent = httpRequest({
    host: '127.0.0.1',
    port: (app.server.address() as AddressInfo).port,
    path: pathname + search,
    headers: { cookie: browser.cookies.header('/'), accept: 'text/html' },
    agent: false
  }).end()
  const [response] = await once(sent, 'response') as [import('node:http').IncomingMessage]
  response.resume()
  t.equal(response.statusCode, 302, `${response.statusCode ?? 0} ${lines()}`.slice(0, 2000))
  const head = response.rawHeaders.reduce((sum, text) => sum + text.length + 2, 20)
  const session = (response.headers['set-cookie'] ?? []).filter((line) => !line.includes('-login-'))
  const names = session.map((line) => line.split('=', 1)[0] as string)
  for (const line of session) browser.cookies.set(line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1, line.indexOf(';')))
  t.same((await browser.goto('/token')).json(), { token: issued['access_token'] })
  const end = await browser.post('/auth/logout', {}, { submit: false })
  const hint = end.form?.action.searchParams.get('id_token_hint') ?? end.form?.fields.get('id_token_hint')
  return { head, session, names, tokens: { ...issued, hint: hint ?? '', log: lines() } }
}

t.test('K10 the callback is small enough for nginx: the ID token goes first', async (t) => {
  const small = await callbackHead(t, { access_token: 0, refresh_token: 0, id_token: 0 })
  t.equal(small.tokens['hint'], small.tokens['id_token'], 'an ordinary ID token is kept')
  t.ok(small.head < 4096, `${small.head}`)
  t.notMatch(small.tokens['log'], 'the ID token is not kept')
  const large = await callbackHead(t, { access_token: 600, refresh_token: 0, id_token: 1500 })
  t.equal(large.tokens['hint'], '')
  t.ok(large.head < 4096, `${large.head}`)
  t.match(large.tokens['log'], /session\.store.*the ID token is not kept/)
})

t.test('K10 tokens of the size of Entra ID\'s fit, with a refresh token', async (t) => {
  const entra = await callbackHead(t, { access_token: 2000, refresh_token: 1400, id_token: 1200 })
  t.equal(entra.tokens['hint'], '', 'without the ID token')
  t.ok(entra.session.every((line) => line.length <= 4096))
  const medium = await callbackHead(t, { access_token: 1800, refresh_token: 900, id_token: 100 })
  t.equal(medium.tokens['hint'], medium.tokens['id_token'], 'it is kept where nothing would be won')
})
