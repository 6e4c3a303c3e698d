import { createServer, request as httpRequest } from 'node:http'
import { once } from 'node:events'
import t from 'tap'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import cookie from '@fastify/cookie'
import secureSession from '@fastify/secure-session'
import session from '@fastify/session'
import oidc, { OidcError } from '../index.ts'
import { client, faults, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock } from './support/app.ts'
import { captureLog } from './support/protocol.ts'
import { until } from './support/until.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'
import type { FaultName, Provider } from '../lib/testing/index.ts'

const NAME = '__Host-oidc'
const OWN = { 'sec-fetch-site': 'same-origin' }
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

interface Neighbour {
  register: (app: FastifyInstance) => Promise<void>
  /** Counts the visits in its own cookie. */
  count: (request: FastifyRequest, reply: FastifyReply) => number
  cookieName: string
}

/** Each of the plugins gives `request.session` another type, and this file loads all of them. */
function storeOf (
  request: FastifyRequest,
  name = 'session'
): { get: (key: string) => unknown; set: (key: string, value: unknown) => void } {
  return (request as unknown as Record<string, ReturnType<typeof storeOf>>)[name] as ReturnType<typeof storeOf>
}

function countIn (store: ReturnType<typeof storeOf>): number {
  const count = Number(store.get('count') ?? 0) + 1
  store.set('count', count)
  return count
}

const NEIGHBOURS: Record<string, Neighbour> = {
  '@fastify/cookie': {
    register: async (app) => { await app.register(cookie, { secret: 'a secret of the application itself' }) },
    count (request, reply) {
      const count = Number(request.cookies['visits'] ?? 0) + 1
      reply.setCookie('visits', String(count), { path: '/' })
      return count
    },
    cookieName: 'visits'
  },
  '@fastify/session': {
    async register (app) {
      await app.register(cookie)
      await app.register(session, {
        secret: 'a secret of the application itself',
        cookie: { secure: false, path: '/' },
        cookieName: 'sid',
        saveUninitialized: false
      })
    },
    count: (request) => countIn(storeOf(request)),
    cookieName: 'sid'
  },
  '@fastify/secure-session': {
    register: async (app) => {
      await app.register(secureSession, { key: Buffer.alloc(32, 3), cookieName: 'own', cookie: { path: '/' } })
    },
    count: (request) => countIn(storeOf(request)),
    cookieName: 'own'
  },
  'several of @fastify/secure-session': {
    async register (app) {
      await app.register(secureSession, [
        { sessionName: 'first', key: Buffer.alloc(32, 3), cookie: { path: '/' } },
        { sessionName: 'second', key: Buffer.alloc(32, 4), cookieName: 'own', cookie: { path: '/' } }
      ])
    },
    count: (request) => countIn(storeOf(request, 'second')),
    cookieName: 'own'
  }
}

type Placement = (
  app: FastifyInstance,
  neighbour: Neighbour,
  options: OidcOptions,
  routes: (scope: FastifyInstance) => void
) => Promise<void>

const PLACEMENTS: Record<string, Placement> = {
  async before (app, neighbour, options, routes) {
    await neighbour.register(app)
    await app.register(oidc, options)
    routes(app)
  },
  async after (app, neighbour, options, routes) {
    await app.register(oidc, options)
    await neighbour.register(app)
    routes(app)
  },
  async 'the neighbour around it' (app, neighbour, options, routes) {
    await neighbour.register(app)
    await app.register(async (scope) => {
      await scope.register(oidc, options)
      routes(scope)
    })
  },
  async 'the neighbour inside of it' (app, neighbour, options, routes) {
    await app.register(oidc, options)
    await app.register(async (scope) => {
      await neighbour.register(scope)
      routes(scope)
    })
  }
}

t.test('the plugin works beside other plugins that use cookies', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const [name, neighbour] of Object.entries(NEIGHBOURS)) {
    for (const [placement, place] of Object.entries(PLACEMENTS)) {
      await t.test(`${name}, ${placement}`, async (t) => {
        const clock = stopClock(t)
        const app = Fastify()
        t.teardown(async () => await app.close())
        await place(app, neighbour, optionsFor(provider), (scope) => {
          scope.get('/count', async (request, reply) => ({ count: neighbour.count(request, reply) }))
          scope.get('/both', { preHandler: scope.oidc.required() }, async (request, reply) => ({
            count: neighbour.count(request, reply),
            sub: request.oidcClaims?.sub,
            private: Object.keys(request).filter((key) => key.startsWith('oidc.'))
          }))
        })
        const browser = client({ app, baseUrl: BASE_URL })
        t.same((await browser.goto('/count')).json(), { count: 1 })
        t.same((await browser.goto('/count')).json(), { count: 2 })
        t.equal((await browser.fetch('/both')).status, 401)
        provider.options.approve = () => 'alice'
        t.same(
          (await browser.goto('/both')).json(),
          { count: 3, sub: 'alice', private: [] },
          'the login leaves the neighbour alone'
        )
        clock.advance(400)
        const page = await browser.goto('/both')
        t.same(page.json(), { count: 4, sub: 'alice', private: [] })
        const names = page.history[0]?.setCookie.map((line) => line.split('=', 1)[0] as string) ?? []
        t.ok(names.includes(NAME), 'the session is written')
        t.ok(name === '@fastify/session' || names.includes(neighbour.cookieName), 'beside the cookie of the neighbour')
        t.equal(new Set(names).size, names.length, 'each once')
        await browser.post('/auth/logout')
        t.equal((await browser.fetch('/both')).status, 401)
        t.same((await browser.goto('/count')).json(), { count: 5 }, 'the logout leaves the neighbour alone')
        t.same(browser.cookies.refused, [])
      })
    }
    await t.test(`${name}, in a sibling scope`, async (t) => {
      const app = Fastify()
      t.teardown(async () => await app.close())
      await app.register(async (scope) => {
        await neighbour.register(scope)
        scope.get('/count', async (request, reply) => ({
          count: neighbour.count(request, reply),
          decorated: 'oidcClaims' in request
        }))
      })
      await app.register(async (scope) => {
        await scope.register(oidc, optionsFor(provider))
        scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
      })
      const browser = client({ app, baseUrl: BASE_URL })
      await browser.goto('/count')
      t.same((await browser.goto('/me')).json(), { sub: 'alice' })
      t.same((await browser.goto('/count')).json(), { count: 2, decorated: false })
    })
  }
})

t.test('the plugin does not accept the cookies of other plugins, nor they its cookies', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  // The same key, and the cookie name of this plugin.
  await app.register(secureSession, {
    key: Buffer.from(SESSION_KEY, 'base64'),
    cookieName: 'own',
    cookie: { path: '/' }
  })
  await app.register(oidc, optionsFor(provider))
  app.get('/', async (request) => ({
    claims: storeOf(request).get('claims') ?? null,
    content: storeOf(request).get('content') ?? null
  }))
  app.get('/plant', async (request) => {
    storeOf(request).set('content', {
      version: 1,
      session: { id: 'x', expiresAt: 1e12, loginTime: 1e12 },
      seenAt: 1e12,
      claims: { sub: 'mallory' }
    })
  })
  app.get('/me', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => oidcClaims)
  const browser = await logIn({ app, provider }, 'alice')
  await browser.goto('/plant')
  const [own, ours] = [browser.cookies.get('own') as string, browser.cookies.get(NAME) as string]
  t.ok(own)
  for (const value of [own, decodeURIComponent(own), decodeURIComponent(own).replace(';', '.')]) {
    t.equal((await app.inject({ url: '/me', headers: { cookie: `${NAME}=${value}` } })).statusCode, 401)
  }
  for (const value of [ours, encodeURIComponent(ours.replace('.', ';'))]) {
    t.same((await app.inject({ url: '/', headers: { cookie: `own=${value}` } })).json(), {
      claims: null,
      content: null
    })
  }
})

t.test('the plugin does not change the body parsers of the application', async (t) => {
  const parseForm = (app: FastifyInstance): void => {
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
      done(null, { form: Object.fromEntries(new URLSearchParams(body as string)) })
    )
  }
  const parseAll = (app: FastifyInstance): void => {
    app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, { text: body }))
  }
  const none = (): void => {}
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const [name, before, after, form] of [
    ['none', none, none, 415],
    ['a form parser before', parseForm, none, { form: { a: '1' } }],
    ['a form parser after', none, parseForm, { form: { a: '1' } }],
    ['a parser of everything before', parseAll, none, { text: 'a=1' }],
    ['a parser of everything after', none, parseAll, { text: 'a=1' }]
  ] as const) {
    await t.test(name, async (t) => {
      const app = Fastify()
      t.teardown(async () => await app.close())
      before(app)
      await app.register(oidc, optionsFor(provider))
      after(app)
      app.post('/echo', async ({ body }) => body)
      app.get('/', async () => 'public')
      const sent = await app.inject({ method: 'POST', url: '/echo', headers: FORM, payload: 'a=1' })
      if (form === 415) t.equal(sent.statusCode, 415, 'the parser of the plugin is not lent to the application')
      else t.same(sent.json(), form)
      t.same((await app.inject({ method: 'POST', url: '/echo', payload: { json: true } })).json(), { json: true })
      const browser = await logIn({ app, provider }, 'alice')
      const gone = await browser.post('/auth/logout', { return_to: '/?bye' })
      t.match([gone.status, gone.url], [200, `${BASE_URL}/?bye`], 'and the plugin has its own')
      for (const type of ['application/json', 'text/plain', 'application/octet-stream', 'x/y']) {
        t.match(
          await app.inject({
            method: 'POST',
            url: '/auth/logout',
            headers: { ...OWN, 'content-type': type },
            payload: '{}'
          }),
          { statusCode: 415 },
          type
        )
      }
    })
  }
})

t.test('the error handler of the application gets the errors of its own routes only', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  for (const first of [true, false]) {
    const app = Fastify()
    t.teardown(async () => await app.close())
    const handled: string[] = []
    const handle = (): void => {
      app.setErrorHandler(async (error: Error & { statusCode?: number }, request, reply) => {
        handled.push(`${request.url} ${error.message}`)
        return await reply.code(error.statusCode ?? 500).send({ own: error.message, oidc: error instanceof OidcError })
      })
    }
    if (first) handle()
    await app.register(oidc, optionsFor(provider))
    if (!first) handle()
    app.get('/broken', { preHandler: app.oidc.optional() }, async () => { throw new Error('broken') })
    app.get('/me', { preHandler: app.oidc.required() }, async () => 'me')
    app.get('/token', async (request) => await app.oidc.accessToken(request))
    t.same((await app.inject('/broken')).json(), { own: 'broken', oidc: false })
    t.same(
      (await app.inject('/token')).json(),
      { own: 'You need to log in.', oidc: true },
      'what the application asks for, it handles'
    )
    t.equal((await app.inject('/token')).statusCode, 401)
    const before = handled.length
    t.match((await app.inject('/me')).json(), { code: 'FST_OIDC_LOGIN_REQUIRED' }, 'what a guard refuses, it answers')
    t.match((await app.inject('/auth/callback')).json(), { code: 'FST_OIDC_STATE' }, 'as do the routes of the plugin')
    t.match((await app.inject({ method: 'POST', url: '/auth/logout' })).json(), { code: 'FST_OIDC_CROSS_SITE' })
    t.equal(handled.length, before)
  }
})

t.test('hooks of the application that refuse a request of the plugin\'s routes', async (t) => {
  const lines: string[] = []
  const { app, provider } = await startApp(
    t,
    {},
    {},
    {
      logger: {
        level: 'error',
        stream: {
          write: (line) => {
            lines.push(line)
          }
        }
      }
    }
  )
  let refusal: Error | undefined
  app.addHook('preHandler', async (request) => {
    if (refusal !== undefined && request.url.startsWith('/auth/')) throw refusal
  })
  for (const statusCode of [401, 403, 429, 503]) {
    refusal = Object.assign(new Error('not now'), { statusCode })
    t.match(await app.inject('/auth/session'), { statusCode }, 'such as one that limits how often a client may ask')
    t.match((await app.inject('/auth/session')).json(), { message: 'not now' })
  }
  lines.length = 0
  for (const error of [
    new Error('a password is in here'),
    Object.assign(new Error('a password is in here'), { statusCode: 500 })
  ]) {
    refusal = error
    const response = await app.inject('/auth/login')
    t.match(
      [response.statusCode, response.json()],
      [500, { code: 'FST_OIDC_UNEXPECTED', message: 'Something went wrong.' }]
    )
    t.notMatch(response.body, 'password')
    t.match(lines.join(''), 'a password is in here', 'the log has it')
  }
  refusal = undefined
  t.equal((await (await logIn({ app, provider }, 'alice')).goto('/me')).status, 200)
})

t.test('the application answers unknown paths, and its routes keep HEAD', async (t) => {
  const { app, provider } = await startApp(t)
  app.setNotFoundHandler(async (request, reply) => await reply.code(404).send({ own: request.url }))
  for (const url of ['/nothing', '/auth', '/auth/', '/auth/nothing', '/auth/login/deeper', '/authentication']) {
    const response = await app.inject(url)
    t.match(
      [response.statusCode, response.json(), response.headers['cache-control']],
      [404, { own: url }, undefined],
      url
    )
  }
  const browser = await logIn({ app, provider }, 'alice')
  t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 200)
  t.equal(
    (await app.inject({ method: 'HEAD', url: '/me', headers: { cookie: browser.cookies.header('/') } })).statusCode,
    200
  )
  t.equal((await app.inject({ method: 'HEAD', url: '/me' })).statusCode, 401)
})

t.test('the plugin can be named as a dependency, and is registered once in a scope', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, optionsFor(provider))
  await app.register(
    fp(
      async (app) => {
        t.type(app.oidc.required, 'function')
      },
      { name: 'dependent', dependencies: ['fastify-oidc'] }
    )
  )
  await app.ready()
  const twice = Fastify()
  await twice.register(oidc, optionsFor(provider))
  await t.rejects(async () => await twice.register(oidc, optionsFor(provider)), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
  await twice.close()
})

t.test('R34 two registrations in one process, or in one application, are independent', async (t) => {
  const [red, blue] = [await startProvider(), await startProvider()]
  t.teardown(async () => { await Promise.all([red.close(), blue.close()]) })
  const app = Fastify()
  t.teardown(async () => await app.close())
  for (const [prefix, provider] of [
    ['/red', red],
    ['/blue', blue]
  ] as const) {
    await app.register(
      async (scope) => {
        await scope.register(oidc, {
          ...optionsFor(provider),
          defaultReturnTo: `${BASE_URL}${prefix}/me`,
          session: { key: SESSION_KEY, cookieName: prefix.slice(1) }
        })
        scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({
          iss: oidcClaims?.iss,
          sub: oidcClaims?.sub
        }))
      },
      { prefix }
    )
  }
  const browser = client({ app, baseUrl: BASE_URL })
  red.options.approve = () => 'alice'
  blue.options.approve = () => 'bob'
  t.same((await browser.goto('/red/me')).json(), { iss: red.issuer, sub: 'alice' })
  t.equal((await browser.fetch('/blue/me')).status, 401)
  t.same((await browser.goto('/blue/me')).json(), { iss: blue.issuer, sub: 'bob' })
  t.same((await browser.goto('/red/me')).json(), { iss: red.issuer, sub: 'alice' })
  for (const [from, to] of [['red', 'blue'], ['blue', 'red']] as const) {
    const cookie = `__Host-${to}=${browser.cookies.get(`__Host-${from}`)}`
    t.equal(
      (await app.inject({ url: `/${to}/me`, headers: { cookie } })).statusCode,
      401,
      'the same key does not make them one'
    )
  }
  await browser.post('/red/auth/logout', '', { until: ({ pathname }) => pathname === '/end-session' })
  t.equal((await browser.fetch('/red/me')).status, 401)
  t.equal((await browser.fetch('/blue/me')).status, 200)

  // One cookie name for two issuers: the later login replaces the cookie, and no registration accepts the other's.
  const [one, other] = [await buildApp(t, optionsFor(red)), await buildApp(t, optionsFor(blue))]
  const cookie = (await logIn({ app: one, provider: red }, 'alice')).cookies.header('/')
  t.equal((await one.inject({ url: '/me', headers: { cookie } })).statusCode, 200)
  t.equal((await other.inject({ url: '/me', headers: { cookie } })).statusCode, 401)
})

/** The unhandled rejections, from here to the end of the test. */
function uncaught (t: Test): unknown[] {
  const errors: unknown[] = []
  const note = (error: unknown): void => { errors.push(error) }
  process.on('unhandledRejection', note)
  t.teardown(() => process.off('unhandledRejection', note))
  return errors
}

/** A request that makes the application call this endpoint; without a path it is the callback. */
const REQUESTS = {
  metadata: ['GET', '/auth/login'],
  token: ['GET', undefined],
  userinfo: ['GET', '/auth/userinfo'],
  revocation: ['POST', '/auth/logout']
} as const

/**
 * A provider with this fault, an application that listens, and a request to the application that waits for the
 * provider.
 */
async function hanging (
  t: Test,
  fault: FaultName,
  options: Partial<OidcOptions> = {}
): Promise<{ app: FastifyInstance; provider: Provider; waiting: Promise<unknown>; lines: () => string }> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(provider, { timeout: 4, ...options }), server)
  const patient = await buildApp(t, optionsFor(provider))
  const browser = await logIn({ app: fault.startsWith('metadata') ? patient : app, provider }, 'alice')
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const endpoint = fault.split('-')[0] as keyof typeof REQUESTS
  const [method, path] = REQUESTS[endpoint]
  const url =
    path ??
    (await browser.goto('/auth/login', { until: ({ pathname }) => pathname === '/auth/callback' })).location?.slice(
      BASE_URL.length
    )
  provider.clearRequests()
  provider.fault(faults[fault])
  const headers = { cookie: browser.cookies.header('/'), accept: 'text/html', origin: BASE_URL }
  const request = httpRequest({ host: '127.0.0.1', port, method, path: url, headers, agent: false }).end()
  const waiting = once(request, 'response').then(
    ([response]) => (response as { statusCode: number }).statusCode,
    (error: unknown) => error
  )
  await until(() => provider.count(endpoint) > 0)
  return { app, provider, waiting, lines }
}

t.test('R34 closing while requests wait for the provider', async (t) => {
  t.jobs = 5 // each waits for a timeout
  for (const fault of ['metadata-hang', 'token-hang', 'token-stall', 'userinfo-hang', 'revocation-hang'] as const) {
    t.test(fault, { buffered: true }, async (t) => {
      const errors = uncaught(t)
      const { app, waiting, lines } = await hanging(t, fault)
      await app.close()
      const answer = await waiting
      t.ok(answer instanceof Error || [303, 503].includes(answer as number), `it ends: ${String(answer)}`)
      // The logout did not wait for it.
      if (fault === 'revocation-hang') await until(() => lines().includes('the token could not be revoked'))
      t.same(errors, [])
    })
  }

  await t.test('closing while the provider goes away', async (t) => {
    const errors = uncaught(t)
    const { app, provider, waiting } = await hanging(t, 'token-hang')
    await provider.close()
    t.equal(await waiting, 503)
    await app.close()
    t.same(errors, [])
  })

  await t.test('closing when the provider cannot be reached', async (t) => {
    const errors = uncaught(t)
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    server.close()
    const options: OidcOptions = {
      issuer,
      clientId: 'web',
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY }
    }
    const app = await buildApp(t, options)
    t.equal((await app.inject({ url: '/me', headers: { accept: 'text/html' } })).statusCode, 503)
    await app.close()
    const eager = Fastify()
    await t.rejects(async () => await eager.register(oidc, { ...options, discovery: 'eager' }), {
      code: 'FST_OIDC_PROVIDER_UNAVAILABLE'
    })
    await eager.close().catch(() => {})
    t.same(errors, [])
  })
})
