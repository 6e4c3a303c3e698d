import { EventEmitter, once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import { HTML, NAVIGATION, beginsLogin } from '../support/navigation.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyRequest, HTTPMethods, preHandlerHookHandler } from 'fastify'
import type { Provider } from '../../lib/testing/index.ts'

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

type Headers = Record<string, string>

t.test('S7 the kind of request decides between a redirect, a page and JSON', async (t) => {
  const { app, provider } = await startApp(t)
  type Answer = 'login' | 'page' | 'json'
  const cases: Array<[answer: Answer, headers: Headers, method?: typeof METHODS[number]]> = [
    ['login', NAVIGATION],
    ['login', { ...NAVIGATION, 'sec-fetch-site': 'cross-site' }],
    ['login', { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }],
    ['login', { accept: HTML, 'sec-fetch-mode': 'navigate' }],
    ['login', { accept: 'text/html' }],
    ['login', { ...NAVIGATION, 'x-requested-with': '' }], // K1
    ['login', { ...NAVIGATION, 'sec-fetch-dest': '' }], // K1
    ['login', { accept: 'application/xml, TEXT/HTML;q=0.1' }],
    ['json', {}],
    ['json', { accept: '*/*' }],
    ['json', { accept: 'application/json' }],
    ['json', { accept: 'application/x-text/htmlx' }],
    ['json', { accept: HTML, 'x-requested-with': 'XMLHttpRequest' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'same-origin' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'websocket', upgrade: 'websocket' }],
    ['json', { accept: '*/*', upgrade: 'websocket', connection: 'upgrade' }],
    ['page', { ...NAVIGATION, 'sec-fetch-dest': 'iframe' }],
    ['page', { ...NAVIGATION, 'sec-fetch-dest': 'embed' }],
    ['page', NAVIGATION, 'POST'],
    ['json', {}, 'POST'],
    ['page', NAVIGATION, 'HEAD']
  ]
  for (const [answer, headers, method = 'GET'] of cases) {
    const title = `${method} ${JSON.stringify(headers)}`
    const response = await app.inject({ method, url: '/me', headers })
    t.equal(response.statusCode, answer === 'login' ? 302 : 401, title)
    t.equal(beginsLogin(provider, response), answer === 'login', title)
    t.equal(response.headers['cache-control'], 'no-store', title)
    if (answer === 'login') continue
    t.notOk(response.headers['set-cookie'], `${title}: no login begins`)
    t.notOk(response.headers.location, title)
    t.match(response.headers['content-type'], answer === 'page' ? /^text\/html/ : /^application\/json/, title)
    if (answer === 'json') {
      t.same(
        response.json(),
        {
          statusCode: 401,
          code: 'FST_OIDC_LOGIN_REQUIRED',
          error: 'Unauthorized',
          message: 'You need to log in.',
          login: `${BASE_URL}/auth/login`
        },
        title
      )
    } else if (method !== 'HEAD') t.match(response.body, `<a href="${BASE_URL}/auth/login">Log in again</a>`, title)
  }
  t.equal(provider.count('authorize'), 0)
})

t.test('S8 a prefetch begins no login', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  for (const headers of [
    { 'sec-purpose': 'prefetch' },
    { 'sec-purpose': 'prefetch;prerender' },
    { purpose: 'prefetch' },
    { 'x-moz': 'prefetch' },
    { 'x-purpose': 'preview' }
  ] as Headers[]) {
    const title = JSON.stringify(headers)
    const response = await app.inject({ url: '/me', headers: { ...NAVIGATION, ...headers } })
    t.equal(response.statusCode, 503, title)
    t.match(response.body, 'FST_OIDC_PREFETCH', title)
    t.equal(response.headers['cache-control'], 'no-store', title)
    t.notOk(response.headers['set-cookie'], title)
    t.equal(
      (await app.inject({ url: '/me', headers: { ...NAVIGATION, ...headers, cookie: browser.cookies.header('/') } }))
        .statusCode,
      200,
      `${title}, with a session`
    )
  }
})

t.test('V24 no hook and no handler runs after a guard that refuses', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, optionsFor(provider))
  app.get('/', async () => 'public')
  app.addHook('onSend', async () => { await nextTurn() }) // the response is not sent at once
  const ran: string[] = []
  const handler = async (): Promise<string> => {
    ran.push('handler')
    return 'the payload'
  }
  const after = async (): Promise<void> => { ran.push('preHandler') }
  const guards: Array<[name: string, guard: preHandlerHookHandler, status: number]> = [
    ['anonymous', app.oidc.required(), 401],
    ['role', app.oidc.required({ roles: 'admin' }), 403],
    ['optional-role', app.oidc.optional({ roles: 'admin' }), 403],
    ['old', app.oidc.required({ acr: 'gold' }), 401]
  ]
  for (const [name, preHandler] of guards) {
    app.route({
      method: [...METHODS] as HTTPMethods[],
      url: `/${name}`,
      exposeHeadRoute: false,
      preHandler: [preHandler, after],
      handler
    })
    app.route({
      method: [...METHODS] as HTTPMethods[],
      url: `/early/${name}`,
      exposeHeadRoute: false,
      onRequest: preHandler as never,
      preHandler: after,
      handler
    })
    await app.register(async (scope) => {
      scope.addHook('preHandler', preHandler)
      scope.route({
        method: [...METHODS] as HTTPMethods[],
        url: `/scope/${name}`,
        exposeHeadRoute: false,
        preHandler: after,
        handler
      })
    })
  }
  app.get('/raw', { preHandler: app.oidc.required() }, (_request, reply) => {
    ran.push('handler')
    reply.send('the payload')
  })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  for (const [name, , status] of guards) {
    for (const url of [`/${name}`, `/early/${name}`, `/scope/${name}`]) {
      for (const method of METHODS) {
        for (const headers of [{}, NAVIGATION] as Headers[]) {
          const sent = name === 'anonymous' ? headers : { ...headers, cookie, 'sec-fetch-site': 'same-origin' }
          const response = await app.inject({ method, url, headers: sent })
          const login = method === 'GET' && status === 401 && headers === NAVIGATION
          t.equal(response.statusCode, login ? 302 : status, `${method} ${url}`)
          t.notMatch(response.body, 'payload')
        }
      }
    }
  }
  t.equal((await app.inject('/raw')).statusCode, 401)
  t.same(ran, [])
  t.equal((await app.inject({ url: '/anonymous', headers: { cookie } })).body, 'the payload')
  t.same(ran, ['preHandler', 'handler'], 'the spies see the hooks and handlers that run')
})

t.test('V24 no handler runs when the client disconnects while the guard works', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  const atWork = new EventEmitter<{ work: [goOn: () => void], sent: [] }>()
  const work = async (): Promise<void> => await new Promise<void>((resolve) => { atWork.emit('work', resolve) })
  await app.register(oidc, optionsFor(provider, { onError: work }))
  app.addHook('onSend', async () => {
    await nextTurn()
    atWork.emit('sent')
  })
  let ran = false
  app.post('/secret', { preHandler: app.oidc.required() }, async () => { ran = true })
  app.get('/secret', { preHandler: app.oidc.required() }, async () => { ran = true })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  provider.fault({ on: 'metadata', before: work })
  // The guard waits for the provider (GET, to begin a login) or for onError (POST).
  for (const method of ['GET', 'POST']) {
    const working = once(atWork, 'work')
    const closed = new Promise<void>((resolve) => {
      app.server.once('connection', (socket) => socket.once('close', () => resolve()))
    })
    const request = httpRequest({
      host: '127.0.0.1',
      port,
      path: '/secret',
      method,
      headers: NAVIGATION,
      agent: false
    }).on('error', () => {})
    request.end()
    const [goOn] = await working as [() => void]
    request.destroy()
    await closed
    const sent = once(atWork, 'sent')
    goOn()
    await sent
    await app.inject('/')
    t.notOk(ran, method)
  }
})

t.test('V24 a guard that was not called fails, and an unguarded request has no user', async (t) => {
  const { app, provider } = await startApp(t)
  let ran = false
  for (const [index, guard] of [app.oidc.required, app.oidc.optional].entries()) {
    app.get(`/forgotten/${index}`, { preHandler: guard as unknown as preHandlerHookHandler }, async () => {
      ran = true
    })
  }
  app.get('/unguarded', async ({ oidcClaims, oidcUser, oidcSession }) => [oidcClaims, oidcUser, oidcSession])
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  for (const index of [0, 1]) {
    for (const headers of [{}, { cookie }] as Headers[]) {
      const { statusCode, body } = await app.inject({ url: `/forgotten/${index}`, headers })
      t.equal(statusCode, 500)
      t.match(body, /it returns one: call it, app\.oidc\.(required|optional)\(\)/, 'K12')
    }
  }
  t.notOk(ran)
  t.same((await app.inject({ url: '/unguarded', headers: { cookie } })).json(), [null, null, null])
})

t.test('required and optional guards add the claims, the user and the session', async (t) => {
  const { app, provider } = await startApp(t, { onClaims: ({ sub }) => ({ name: sub }) })
  app.get('/optional', { preHandler: app.oidc.optional() }, async ({ oidcClaims, oidcUser, oidcSession }) => [
    oidcClaims?.sub,
    oidcUser,
    typeof oidcSession?.id
  ])
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  t.same((await app.inject({ url: '/optional', headers: { cookie } })).json(), ['alice', { name: 'alice' }, 'string'])
  t.same((await app.inject('/optional')).json(), [null, null, 'undefined'])
  t.same((await app.inject({ url: '/optional', headers: { cookie: '__Host-oidc=broken' } })).json(), [
    null,
    null,
    'undefined'
  ])
  const { claims, user, session } = (await browser.goto('/me')).json()
  t.same(
    [claims.iss, claims.sub, claims.email, user],
    [provider.issuer, 'alice', 'alice@example.com', { name: 'alice' }]
  )
  t.match(session, { provider: 'default', scopes: ['openid', 'profile', 'email'], acr: '1', id: /^[\w-]{22}$/ })
  t.equal(session.expiresAt - session.loginTime, 28_800)
  t.equal(typeof session.authTime, 'number')
  t.equal(typeof session.sid, 'string')
})

t.test('after a login the user returns to the page that was requested', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/deep/:page', { preHandler: app.oidc.required() }, async ({ url }) => ({ url }))
  const page = await browser.goto('/deep/%C3%A9?b=2&b=3&c=%2F%2Fevil.example')
  t.match(
    [page.status, page.url, page.json()],
    [200, `${BASE_URL}/deep/%C3%A9?b=2&b=3&c=%2F%2Fevil.example`, { url: '/deep/%C3%A9?b=2&b=3&c=%2F%2Fevil.example' }]
  )
  t.equal(provider.count('authorize'), 1)

  provider.fault({ ...faults['metadata-503'], times: 1 })
  const other = await buildApp(t, optionsFor(provider))
  const down = await other.inject({ url: '/me', headers: NAVIGATION })
  t.equal(down.statusCode, 503, 'the user sees an error page while the provider is unreachable')
  t.match([down.headers['retry-after'], down.body], ['7', /FST_OIDC_PROVIDER_UNAVAILABLE/])
  t.notOk(down.headers['set-cookie'])
})

t.test("S43 an unsafe request must come from the application's own pages", async (t) => {
  const { app, provider } = await startApp(t, {
    session: { key: SESSION_KEY, trustedOrigins: ['https://admin.example.com', 'http://localhost:8080'] }
  })
  const ran: string[] = []
  app.addHttpMethod('PROPFIND')
  app.route({
    method: [...METHODS, 'PROPFIND'] as HTTPMethods[],
    url: '/change',
    exposeHeadRoute: false,
    preHandler: app.oidc.required(),
    handler: async ({ method }) => {
      ran.push(method)
    }
  })
  app.post('/optional', { preHandler: app.oidc.optional() }, async ({ oidcClaims }) => [oidcClaims?.sub])
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const cases: Array<[passes: boolean, headers: Headers]> = [
    [true, { 'sec-fetch-site': 'same-origin' }],
    [true, { 'sec-fetch-site': 'none' }],
    [true, { 'sec-fetch-site': 'same-origin', origin: BASE_URL }],
    [true, { origin: BASE_URL }],
    [true, { origin: 'https://admin.example.com', 'sec-fetch-site': 'same-site' }],
    [true, { origin: 'http://localhost:8080', 'sec-fetch-site': 'cross-site' }],
    [true, { origin: 'https://admin.example.com' }],
    [false, {}],
    [false, { 'sec-fetch-site': 'cross-site' }],
    [false, { 'sec-fetch-site': 'same-site' }],
    [false, { 'sec-fetch-site': 'cross-site', origin: BASE_URL }],
    [false, { 'sec-fetch-site': 'same-site', origin: 'https://evil.example.com' }],
    [false, { 'sec-fetch-site': '' }],
    [false, { 'sec-fetch-site': 'Same-Origin' }],
    [false, { 'sec-fetch-site': 'same-origin, cross-site' }],
    [false, { origin: 'null' }],
    [false, { origin: '' }],
    [false, { origin: 'https://evil.example' }],
    [false, { origin: 'https://evil.example.com' }],
    [false, { origin: 'https://example.com' }],
    [false, { origin: 'https://app.example.com.evil.example' }],
    [false, { origin: 'https://evil-app.example.com' }],
    [false, { origin: 'http://app.example.com' }],
    [false, { origin: 'https://app.example.com:8443' }],
    [false, { origin: 'HTTPS://APP.EXAMPLE.COM' }],
    [false, { origin: 'https://app.example.com/' }],
    [false, { origin: 'https://admin.example.com.evil.example' }],
    [false, { origin: 'https://sub.admin.example.com' }],
    [false, { origin: 'http://localhost:8081' }],
    [false, { referer: `${BASE_URL}/form` }],
    [
      false,
      {
        host: 'evil.example',
        origin: 'https://evil.example',
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'https'
      }
    ],
    [false, { 'x-csrf': '1', 'x-requested-with': 'XMLHttpRequest' }]
  ]
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND'] as const) {
    for (const [passes, headers] of cases) {
      ran.length = 0
      const response = await app.inject({ method: method as 'POST', url: '/change', headers: { ...headers, cookie } })
      t.equal(response.statusCode, passes ? 200 : 403, `${method} ${JSON.stringify(headers)}`)
      t.same(ran, passes ? [method] : [], `${method} ${JSON.stringify(headers)}`)
      if (!passes) t.equal(response.json().code, 'FST_OIDC_CROSS_SITE')
    }
  }
  for (const method of ['GET', 'HEAD', 'OPTIONS'] as const) {
    t.equal(
      (await app.inject({ method, url: '/change', headers: { cookie, 'sec-fetch-site': 'cross-site' } })).statusCode,
      200,
      `${method} is safe, and allowed from any origin`
    )
  }
  for (const [passes, headers] of cases) {
    const response = await app.inject({
      url: '/change',
      headers: { ...headers, cookie, upgrade: 'websocket', connection: 'upgrade' }
    })
    t.equal(response.statusCode, passes ? 200 : 403, `WebSocket ${JSON.stringify(headers)}`)
  }
  for (const [passes, headers] of cases) {
    t.equal(
      (await app.inject({ method: 'POST', url: '/optional', headers: { ...headers, cookie } })).statusCode,
      passes ? 200 : 403,
      `optional ${JSON.stringify(headers)}`
    )
    t.same(
      (await app.inject({ method: 'POST', url: '/optional', headers })).json(),
      [null],
      'a request without a session is not checked'
    )
  }
})

t.test('S43 a browser sends the headers that the check of the origin needs', async (t) => {
  const { app, provider } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'none' } })
  const browser = await logIn({ app, provider }, 'alice')
  t.equal((await browser.fetch('/me', { method: 'POST' })).status, 200)
  t.equal(
    (await browser.post('/me')).status,
    415,
    'a form from a page of the application passes the guard, and this application has no parser for it'
  )
  for (const from of [
    'https://evil.example/', 'https://evil.example.com/', 'http://app.example.com/',
    'https://app.example.com:444/'
  ]) {
    t.match(
      (await browser.fetch('/me', { method: 'POST', from, credentials: 'include' })).json(),
      { code: 'FST_OIDC_CROSS_SITE' },
      from
    )
  }
})

t.test('of a session and a token in one request, only the token counts', async (t) => {
  const { app, provider } = await start(t, {}, { onClaims: () => ({ name: 'Bob' }) as never })
  const answer = async ({ oidcClaims, oidcToken, oidcSession, oidcUser }: FastifyRequest): Promise<unknown> => [
    oidcClaims?.sub,
    oidcUser,
    oidcSession !== null,
    oidcToken !== null
  ]
  app.get(
    '/after',
    { preHandler: [app.oidc.optional({ accept: ['session'] }), app.oidc.required({ accept: ['bearer'] })] },
    answer
  )
  app.get(
    '/before',
    { preHandler: [app.oidc.required({ accept: ['bearer'] }), app.oidc.required({ accept: ['session'] })] },
    answer
  )
  app.get(
    '/provider-token',
    { preHandler: app.oidc.optional() },
    async (request) => await app.oidc.accessToken(request)
  )
  const browser = await logIn({ app, provider }, 'bob')
  const headers = { authorization: `Bearer ${tokenOf(provider)}` }
  t.same((await browser.fetch('/after', { headers })).json(), ['alice', null, false, true])
  t.same((await browser.fetch('/before', { headers })).json(), ['bob', { name: 'Bob' }, true, false])
  t.equal((await browser.fetch('/provider-token')).status, 200)
  t.match(
    (await browser.fetch('/provider-token', { headers })).json(),
    { code: 'FST_OIDC_LOGIN_REQUIRED' },
    'accessToken does not return the tokens of the session for another user'
  )
})

t.test('onError can answer the error of a guard', async (t) => {
  const seen: string[] = []
  const { app, provider } = await startApp(t, {
    onError: async (error, { request, reply }) => {
      seen.push(`${error.code} ${request.url}`)
      if (request.url === '/own') await reply.code(418).send('own')
    },
    routes: { login: false }
  })
  app.get('/own', { preHandler: app.oidc.required() }, async () => 'secret')
  t.match(await app.inject('/own'), { statusCode: 418, body: 'own' })
  t.same(
    (await app.inject('/me')).json(),
    { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED', error: 'Unauthorized', message: 'You need to log in.' },
    'without a login route the response contains no login URL'
  )
  t.notMatch((await app.inject({ method: 'POST', url: '/me', headers: NAVIGATION })).body, '/auth/login')
  t.same(seen, ['FST_OIDC_LOGIN_REQUIRED /own', 'FST_OIDC_LOGIN_REQUIRED /me', 'FST_OIDC_LOGIN_REQUIRED /me'])
  t.equal(
    (await (await client({ app, baseUrl: BASE_URL })).goto('/me')).status,
    200,
    'a guard can still begin a login'
  )
  t.equal((await logInThroughGuard(app, provider)).status, 200)
})

async function logInThroughGuard (app: FastifyInstance, provider: Provider, baseUrl = BASE_URL) {
  provider.options.approve = () => 'alice'
  return await client({ app, baseUrl }).goto(`${baseUrl}/me`)
}

t.test('an onError that throws opens no route and leaves no request without a response', async (t) => {
  const lines: string[] = []
  const { app } = await startApp(
    t,
    {
      onError: async () => {
        throw new Error('the hook failed')
      }
    },
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
  t.match((await app.inject('/me')).json(), { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED' })
  t.match((await app.inject('/auth/callback')).json(), { statusCode: 400, code: 'FST_OIDC_STATE' })
  t.match(lines, [/the hook failed/, /the hook failed/])
})
