import Fastify from 'fastify'
import t from 'tap'
import websocket from '@fastify/websocket'
import { WebSocket } from 'ws'
import oidc from '../../index.ts'
import { faults, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import { NAVIGATION } from '../support/navigation.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { GuardOptions, OidcError } from '../../index.ts'

t.setTimeout(300_000) // where other work shares the cores

type Line = Record<string, unknown>

function keepLines () {
  const lines: Line[] = []
  const logger = { level: 'info', stream: { write: (line: string) => { lines.push(JSON.parse(line) as Line) } } }
  return { logger, refusals: () => lines.splice(0).filter(({ code }) => code !== undefined) }
}

const identityOf = ({ oidcClaims, oidcUser, oidcSession, oidcToken }: FastifyRequest) =>
  [oidcClaims, oidcUser, oidcSession, oidcToken]

/** Says who it is, with status 200, and what `session` left on the request. */
function addRoute (app: FastifyInstance, url = '/who', options?: Pick<GuardOptions, 'refresh'>): void {
  app.route({
    method: ['GET', 'HEAD', 'POST', 'DELETE'],
    url,
    handler: async (request) => {
      try {
        const before = identityOf(request)
        const found = await app.oidc.session(request, options)
        t.same(identityOf(request), before, 'the properties of the request stay as they are')
        return found === null
          ? { sub: null }
          : { sub: found.claims.sub, user: found.user, provider: found.session.provider }
      } catch (error) {
        return { threw: (error as OidcError).code, status: (error as OidcError).statusCode }
      }
    }
  })
}

t.test('session reads who it is, and never answers', async (t) => {
  const { app, provider } = await startApp(t)
  addRoute(app)
  const cookie = sessionCookie(app, { user: { name: 'Alice' } })
  const known = await app.inject({ url: '/who', headers: { cookie } })
  t.same([known.statusCode, known.json()], [200, { sub: 'alice', user: { name: 'Alice' }, provider: 'default' }])
  t.match(known.headers, { 'cache-control': 'no-store', vary: 'Cookie' })
  t.equal(known.headers['set-cookie'], undefined, 'there is nothing new to write')

  const anonymous = await app.inject({ url: '/who', headers: NAVIGATION })
  t.same([anonymous.statusCode, anonymous.json()], [200, { sub: null }])
  t.match(anonymous.headers, { 'cache-control': 'no-store', vary: 'Cookie' }, 'it depends on the session as well')
  t.equal(anonymous.headers['set-cookie'], undefined, 'no login begins')
  t.equal(provider.count('authorize'), 0)

  const [broken] = cookie.split('=', 1)
  t.same((await app.inject({ url: '/who', headers: { cookie: `${broken}=forged` } })).json(), { sub: null })
})

t.test('S43 session is null for what another origin may have caused', async (t) => {
  const { logger, refusals } = keepLines()
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const session = { key: SESSION_KEY, trustedOrigins: ['https://www.example.com'] }
  const app = await buildApp(t, optionsFor(provider, { session }), { logger })
  addRoute(app)
  app.route({
    method: ['GET', 'POST'],
    url: '/authenticate',
    handler: async (request) => (await app.oidc.authenticate(request)).claims.sub
  })
  // Of a login: the cookie of the test kit counts as same-origin.
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header()
  const evil = 'https://evil.test'
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket' }
  const all: Array<[method: 'GET' | 'HEAD' | 'POST' | 'DELETE', headers: Record<string, string>, isAlice: boolean]> = [
    ['GET', {}, true],
    ['GET', { origin: evil, 'sec-fetch-site': 'cross-site' }, true],
    ['POST', { origin: BASE_URL }, true],
    ['POST', { 'sec-fetch-site': 'same-origin' }, true],
    ['DELETE', { origin: 'https://www.example.com', 'sec-fetch-site': 'same-site' }, true],
    ['GET', { ...upgrade, origin: BASE_URL }, true],
    ['POST', {}, false],
    ['POST', { origin: evil }, false],
    ['POST', { origin: 'null' }, false],
    ['POST', { origin: BASE_URL, 'sec-fetch-site': 'cross-site' }, false],
    ['DELETE', { origin: 'https://other.example.com', 'sec-fetch-site': 'same-site' }, false],
    ['GET', { ...upgrade, origin: evil }, false],
    ['GET', upgrade, false]
  ]
  for (const [method, headers, isAlice] of all) {
    const what = `${method} ${JSON.stringify(headers)}`
    refusals()
    const answer = await app.inject({ method, url: '/who', headers: { cookie, ...headers } })
    t.same([answer.statusCode, answer.json().sub], [200, isAlice ? 'alice' : null], what)
    t.match(answer.headers, { 'cache-control': 'no-store', vary: 'Cookie' })
    const said = { level: 30, code: 'FST_OIDC_CROSS_SITE', detail: /"session.trustedOrigins"/ }
    t.match(refusals(), isAlice ? [] : [said], `${what}: said once in the log`)
    if (method !== 'GET' && method !== 'POST') continue
    const { statusCode, body } = await app.inject({ method, url: '/authenticate', headers: { cookie, ...headers } })
    t.match([statusCode, body], isAlice ? [200, 'alice'] : [403, /FST_OIDC_CROSS_SITE/], `authenticate, ${what}`)
  }
  refusals()
  t.same((await app.inject({ method: 'POST', url: '/who', headers: { origin: evil } })).json(), { sub: null })
  t.same(refusals(), [], 'an anonymous request is nothing to report')
  await app.inject({ url: '/who', headers: { cookie, ...upgrade, origin: evil, 'sec-fetch-site': 'cross-site' } })
  t.match(refusals(), [{ detail: `an upgrade with Origin ${evil} and Sec-Fetch-Site cross-site` }])
  await app.inject({ method: 'POST', url: '/who', headers: { cookie } })
  t.match(refusals(), [{ detail: 'a POST with Origin none and Sec-Fetch-Site none; it must come from https://app.' }])
})

t.test('session prolongs the session as a guard does', async (t) => {
  const clock = stopClock(t)
  const { app } = await startApp(t, { session: { key: SESSION_KEY, idleTimeout: 1000 } })
  addRoute(app)
  const headers = { cookie: sessionCookie(app) }
  clock.advance(99)
  t.equal((await app.inject({ url: '/who', headers })).headers['set-cookie'], undefined)
  clock.advance(801)
  const { headers: sent } = await app.inject({ url: '/who', headers })
  t.match(sent, { 'set-cookie': /^__Host-oidc=.+; Max-Age=\d+/, 'cache-control': 'no-store' })
  clock.advance(900)
  t.same((await app.inject({ url: '/who', headers })).json(), { sub: null }, 'the old cookie has expired')
  headers.cookie = String(sent['set-cookie']).split(';', 1)[0] as string
  t.equal((await app.inject({ url: '/who', headers })).json().sub, 'alice')
})

t.test('session refreshes the access token on demand', async (t) => {
  const clock = stopClock(t)
  const session = { key: SESSION_KEY, idleTimeout: 28_800 }
  const { app, provider } = await startApp(t, { offlineAccess: true, timeout: 30, session })
  addRoute(app, '/who')
  addRoute(app, '/fresh', { refresh: true })
  const browser = await logIn({ app, provider }, 'alice')
  clock.advance(3600)
  provider.clearRequests()
  t.match((await browser.fetch('/who')).json(), { sub: 'alice' })
  t.equal(provider.count('token'), 0)
  t.match((await browser.fetch('/fresh')).json(), { sub: 'alice' })
  t.match((await browser.fetch('/fresh')).json(), { sub: 'alice' })
  t.equal(provider.count('token'), 1, 'the new tokens reached the browser')
  clock.advance(3600)
  const off = provider.fault(faults['token-503'])
  t.same((await browser.fetch('/fresh')).json(), { threw: 'FST_OIDC_PROVIDER_UNAVAILABLE', status: 503 })
  off()
  clock.advance(60) // a refresh that failed is not tried again at once
  provider.fault(faults['refresh-token-revoked'])
  t.same((await browser.fetch('/fresh')).json(), { sub: null }, 'the provider has ended it')
  t.same((await browser.fetch('/who')).json(), { sub: null })
})

t.test('session throws where it cannot say who it is', async (t) => {
  const broken = async (): Promise<never> => { throw new Error('the disk is full') }
  const names = ['get', 'has', 'set', 'create', 'replace', 'take', 'list', 'purge'] as const
  const methods = Object.fromEntries(names.map((name) => [name, broken])) as Record<typeof names[number], typeof broken>
  const { app } = await startApp(t, { store: { ...methods, close: async () => {} }, session: { key: SESSION_KEY } })
  addRoute(app)
  addRoute(app, '/wrong', { fresh: true } as GuardOptions)
  const headers = { cookie: sessionCookie(app) }
  const answerTo = async (url: string) => (await app.inject({ url, headers })).json()
  t.same(await answerTo('/who'), { threw: 'FST_OIDC_STORE_UNAVAILABLE', status: 503 }, 'and not anonymous')
  t.same(await answerTo('/wrong'), { threw: 'FST_OIDC_OPTION', status: 500 })
})

t.test('K10 session does not work outside the scope of the plugin', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  let inside: FastifyInstance['oidc'] | undefined
  await app.register(async (scope) => {
    await scope.register(oidc, optionsFor(provider))
    inside = scope.oidc
  })
  app.get('/outside', async (request) => await inside?.session(request))
  const { statusCode, body } = await app.inject('/outside')
  t.match([statusCode, body], [500, /FST_OIDC_OUTSIDE/])
})

t.test('session is null when "requiredClaims" are not met, as for every guard', async (t) => {
  const { logger, refusals } = keepLines()
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, optionsFor(provider, { requiredClaims: { hd: 'example.com' } }), { logger })
  addRoute(app)
  const answerFor = async (hd: string) => {
    const headers = { cookie: sessionCookie(app, { claims: { hd } }) }
    return (await app.inject({ url: '/who', headers })).json()
  }
  t.match(await answerFor('example.com'), { sub: 'alice' })
  refusals()
  t.same(await answerFor('example.net'), { sub: null })
  t.match(refusals(), [{ code: 'FST_OIDC_FORBIDDEN', detail: /hd/ }])
})

t.test('session reads the session only, beside an access token', async (t) => {
  const { app, provider } = await start(t)
  addRoute(app)
  app.get('/after', { preHandler: app.oidc.required() }, async (request) => {
    const before = identityOf(request)
    const session = await app.oidc.session(request)
    t.same(identityOf(request), before, 'what a guard has accepted stays')
    return { session: session?.claims.sub ?? null, guard: request.oidcClaims?.sub }
  })
  const authorization = `Bearer ${tokenOf(provider, { sub: 'bob' })}`
  t.same((await app.inject({ url: '/who', headers: { authorization } })).json(), { sub: null })
  const headers = { authorization, cookie: sessionCookie(app) }
  t.match((await app.inject({ url: '/after', headers })).json(), { session: 'alice', guard: 'bob' })
})

t.test('session in the handler of a WebSocket', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify({ forceCloseConnections: true })
  t.teardown(async () => await app.close())
  await app.register(websocket)
  await app.register(oidc, optionsFor(provider))
  app.get('/socket', { websocket: true }, async (socket, request) => {
    const found = await app.oidc.session(request)
    socket.send(found?.claims.sub ?? 'anonymous')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const cookie = sessionCookie(app)
  const open = async (headers: Record<string, string>): Promise<string> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/socket`, { headers })
    return await new Promise((resolve, reject) => {
      socket.on('error', reject)
      socket.on('message', (message: Buffer) => {
        resolve(message.toString())
        socket.close()
      })
    })
  }
  t.equal(await open({ cookie, origin: BASE_URL }), 'alice')
  t.equal(await open({ cookie, origin: 'https://evil.test' }), 'anonymous', 'S43')
  t.equal(await open({ origin: BASE_URL }), 'anonymous')
})
