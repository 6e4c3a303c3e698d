import { setImmediate as nextTurn } from 'node:timers/promises'
import cors from '@fastify/cors'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp } from '../support/app.ts'
import { times } from '../support/crowd.ts'
import { CALLBACK, SESSION_COOKIE, anotherApp, captureLog, untilCallback } from '../support/protocol.ts'
import { startProvider } from '../../lib/testing/index.ts'
import type { FastifyInstance, InjectOptions } from 'fastify'
import type { OidcError } from '../../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const PAGE = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'cross-site'
}

function hostileRequests (callback: URL, cookie: string): InjectOptions[] {
  const state = callback.searchParams.get('state') as string
  const flipped = cookie.replace(/=(.)/, (_, first: string) => `=${first === 'A' ? 'B' : 'A'}`)
  const junk = (length: number): string => 'QUJD'.repeat(length)
  const own = { origin: BASE_URL, 'content-type': 'application/x-www-form-urlencoded' }
  return [
    ...[
      '',
      '?state=x&code=y',
      `?state=${state}&code=a&code=b`,
      `?state=${'s'.repeat(10_000)}&code=y`,
      `?state=${state}`,
      '?state=%FF&code=%00',
      '?error=access_denied'
    ].map((query) => ({ url: `/auth/callback${query}` })),
    { url: callback.href, headers: PAGE },
    { url: callback.href, headers: { ...PAGE, cookie: flipped } },
    {
      url: callback.href,
      headers: { ...PAGE, cookie: `${SESSION_COOKIE}-login-${state.slice(0, 16)}=${junk(200)}.${junk(8)}` }
    },
    { url: callback.href, headers: { ...PAGE, cookie, 'sec-purpose': 'prefetch' } },
    ...(['HEAD', 'POST', 'PUT', 'DELETE'] as const).map((method) => ({
      method,
      url: callback.href,
      headers: { ...PAGE, cookie }
    })),
    ...['/me', '/maybe', '/auth/session', '/auth/userinfo', '/token'].flatMap((url) => [
      { url },
      {
        url,
        headers: {
          cookie: `${SESSION_COOKIE}=${junk(400)}.${junk(8)}; ${SESSION_COOKIE}-tokens-0=${junk(900)}.${junk(8)}`
        }
      },
      { url, headers: { cookie: times(200, (index) => `${SESSION_COOKIE}-tokens-${index}=x`).join('; ') } }
    ]),
    { method: 'POST', url: '/auth/logout', headers: own, payload: 'return_to=https://evil.test' },
    { method: 'POST', url: '/auth/logout', headers: { ...own, cookie: `${SESSION_COOKIE}=${junk(400)}.${junk(8)}` } },
    { method: 'POST', url: '/auth/logout', headers: own, payload: 'x'.repeat(70_000) },
    { url: '/auth/logged-out?state=x' },
    { url: `/auth/logged-out?state=${junk(500)}.${junk(8)}` },
    { url: '/auth/login?return_to=https://evil.test', headers: PAGE },
    { url: '/auth/login', headers: { 'sec-fetch-mode': 'cors' } },
    { url: '/auth/login', headers: { ...PAGE, 'sec-fetch-dest': 'iframe' } }
  ]
}

t.test('R36 requests without a login cause no request to the provider', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const callback = await untilCallback(browser)
  const requests = hostileRequests(callback, browser.cookies.header(CALLBACK))
  provider.clearRequests()
  const statuses = await Promise.all(
    times(8, () => requests)
      .flat()
      .map(async (request) => (await app.inject(request)).statusCode)
  )
  t.notOk(
    statuses.some((status) => status >= 500 && status !== 503),
    [...new Set(statuses)].join(' ')
  )
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    []
  )
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`, 'the pending login is still there')
})

t.test('R36 before the first login, requests without a login cause no discovery', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { browser } = await anotherApp(t, provider)
  const callback = await untilCallback(browser)
  const app = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY } }))
  provider.clearRequests()
  const requests = hostileRequests(callback, browser.cookies.header(CALLBACK)).filter(
    ({ url }) => url !== '/auth/login?return_to=https://evil.test'
  )
  for (const request of requests) await app.inject(request)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    []
  )
})

t.test('R15 S21 other methods get 405, and their queries are not logged', async (t) => {
  const lines: string[] = []
  const { app } = await startApp(
    t,
    {},
    {},
    { logger: { level: 'trace', stream: { write: (line: string) => lines.push(line) } } }
  )
  for (const method of ['HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'TRACE'] as const) {
    const response = await app.inject({
      method: method as 'HEAD',
      url: '/auth/callback?code=the-code&state=the-state',
      payload: '{}',
      headers: { 'content-type': 'application/json' }
    })
    t.equal(response.statusCode, 405, method)
    t.equal(response.headers.allow, 'GET')
  }
  t.equal((await app.inject({ method: 'DELETE', url: '/auth/logout' })).headers.allow, 'GET, POST')
  t.notMatch(lines.join(''), /the-code|the-state/)
})

t.test('R15 S21 OPTIONS is no method of the plugin, and its query is in no line', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const url = '/auth/callback?code=the-code&state=the-state'
  const origin = 'https://www.example.com'
  const preflight = { origin, 'access-control-request-method': 'POST' }
  type SetUp = (app: FastifyInstance) => unknown
  const setUps: Record<string, [before: SetUp, after: SetUp]> = {
    none: [() => {}, () => {}],
    'cors first': [(app) => app.register(cors, { origin }), () => {}],
    'cors last': [() => {}, (app) => app.register(cors, { origin })],
    'a handler for unknown routes': [() => {}, (app) => {
      app.setNotFoundHandler(async (request, reply) => await reply.code(404).send({ own: request.url }))
    }]
  }
  for (const [name, [before, after]] of Object.entries(setUps)) {
    const { lines, server } = captureLog()
    const app = Fastify(server)
    t.teardown(async () => await app.close())
    await before(app)
    await app.register(oidc, optionsFor(provider))
    await after(app)
    const answer = await app.inject({ method: 'OPTIONS', url, headers: preflight })
    if (name.startsWith('cors')) {
      t.match([answer.statusCode, answer.headers['access-control-allow-origin']], [204, origin], name)
    } else {
      t.equal(answer.statusCode, 404, name)
      t.equal(answer.headers.allow, undefined)
      t.notMatch(answer.body, 'the-code')
    }
    if (name.startsWith('a handler')) t.same(answer.json(), { own: '/auth/callback' })
    t.match(lines(), '"url":"/auth/callback"', name)
    t.notMatch(lines(), /the-code|the-state/, name)
  }
})

t.test(
  'a reply of onError is sent, also when another hook delays it; when onError fails, the plugin replies',
  async (t) => {
    const seen: string[] = []
    const { app } = await startApp(t, {
      onError: (error: OidcError, { reply }) => {
        seen.push(error.code)
        if (error.code === 'FST_OIDC_STATE') throw new Error('onError itself is wrong')
        reply.code(418).send({ own: error.code })
      }
    })
    app.addHook('onSend', async (_request, _reply, payload) => {
      await nextTurn()
      return payload
    })
    const response = await app.inject('/me')
    t.equal(response.statusCode, 418)
    t.same(response.json(), { own: 'FST_OIDC_LOGIN_REQUIRED' })
    const own = await app.inject('/auth/callback?state=x')
    t.match([own.statusCode, own.json()], [400, { code: 'FST_OIDC_STATE' }])
    t.same(seen, ['FST_OIDC_LOGIN_REQUIRED', 'FST_OIDC_STATE'])
  }
)

t.test('an error of another plugin, such as a rate limit, keeps its status', async (t) => {
  const app = Fastify()
  t.teardown(async () => await app.close())
  app.addHook('onRequest', async () => {
    throw Object.assign(new Error('slow down'), { statusCode: 429 })
  })
  await app.register(oidc, {
    issuer: 'https://id.example.com',
    clientId: 'web',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY }
  })
  const response = await app.inject('/auth/session')
  t.equal(response.statusCode, 429)
  t.match(response.json(), { message: 'slow down' })
})

t.test('any thrown value in the scope of the routes gets a reply', async (t) => {
  for (const thrown of [null, undefined, 'text', new Error('a bug')]) {
    const app = Fastify()
    t.teardown(async () => await app.close())
    app.addHook('onRequest', async () => {
      throw thrown
    })
    await app.register(oidc, {
      issuer: 'https://id.example.com',
      clientId: 'web',
      baseUrl: BASE_URL,
      session: { key: SESSION_KEY }
    })
    const response = await app.inject('/auth/session')
    t.equal(response.statusCode, 500)
    t.notMatch(response.body, /a bug/)
  }
})
