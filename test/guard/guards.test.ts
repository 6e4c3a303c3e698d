import { EventEmitter, once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import Fastify from 'fastify'
import oidc from '../../index.ts'
import { rolesOf } from '../../lib/provider/claims.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock } from '../support/app.ts'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions, HTTPMethods, preHandlerHookHandler } from 'fastify'
import type { IncomingHttpHeaders, RequestOptions } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { GuardOptions, OidcOptions } from '../../index.ts'
import type { Injectable, Provider, TestBrowser } from '../../lib/testing/index.ts'

type Headers = Record<string, string>

const HTML = 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8'
const NAVIGATION = {
  accept: HTML,
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'none'
}
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** Whether a response begins a login: a redirect to the provider, and a cookie to remember it by. */
function beginsLogin (provider: Provider, { headers }: { headers: Record<string, unknown> }): boolean {
  return (
    String(headers['location']).startsWith(`${provider.issuer}/authorize?`) &&
    String(headers['set-cookie']).startsWith('__Host-oidc-login-')
  )
}

t.test('S7 who asks decides between a redirect, a page and JSON', async (t) => {
  const { app, provider } = await startApp(t)
  type Answer = 'login' | 'page' | 'json'
  const cases: Array<[answer: Answer, headers: Headers, method?: typeof METHODS[number]]> = [
    ['login', NAVIGATION],
    ['login', { ...NAVIGATION, 'sec-fetch-site': 'cross-site' }],
    ['login', { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }],
    ['login', { accept: HTML, 'sec-fetch-mode': 'navigate' }],
    ['login', { accept: 'text/html' }],
    ['login', { accept: 'application/xml, TEXT/HTML;q=0.1' }],
    ['json', {}],
    ['json', { accept: '*/*' }],
    ['json', { accept: 'application/json' }],
    ['json', { accept: 'application/x-text/htmlx' }],
    ['json', { accept: HTML, 'x-requested-with': 'XMLHttpRequest' }],
    ['json', { ...NAVIGATION, 'x-requested-with': '' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'same-origin' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }],
    ['json', { accept: HTML, 'sec-fetch-mode': 'websocket', upgrade: 'websocket' }],
    ['json', { accept: '*/*', upgrade: 'websocket', connection: 'upgrade' }],
    ['page', { ...NAVIGATION, 'sec-fetch-dest': 'iframe' }],
    ['page', { ...NAVIGATION, 'sec-fetch-dest': 'embed' }],
    ['page', { ...NAVIGATION, 'sec-fetch-dest': '' }],
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
    t.notOk(response.headers['set-cookie'], `${title}: no cookie of a login that nobody asked for`)
    t.notOk(response.headers.location, title)
    t.match(response.headers['content-type'], answer === 'page' ? /^text\/html/ : /^application\/json/, title)
    if (answer === 'json') {
      t.same(
        response.json(),
        {
          statusCode: 401,
          code: 'FST_OIDC_LOGIN_REQUIRED',
          message: 'You need to log in.',
          login: `${BASE_URL}/auth/login`
        },
        title
      )
    } else if (method !== 'HEAD') t.match(response.body, `<a href="${BASE_URL}/auth/login">Log in again</a>`, title)
  }
  t.equal(provider.count('authorize'), 0)
})

t.test('S8 nothing is begun for a page that is fetched ahead of time', async (t) => {
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
      `${title}, of somebody who is logged in`
    )
  }
})

t.test('V24 behind a guard that refuses nothing runs', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(oidc, optionsFor(provider))
  app.get('/', async () => 'public')
  app.addHook('onSend', async () => { await sleep(1) }) // the answer is on its way for a while
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
  t.same(ran, ['preHandler', 'handler'], 'and the spies do see what runs')
})

t.test('V24 nor when the client goes away while the guard is at work', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  const atWork = new EventEmitter<{ work: [goOn: () => void] }>()
  const work = async (): Promise<void> => await new Promise<void>((resolve) => { atWork.emit('work', resolve) })
  await app.register(oidc, optionsFor(provider, { onError: work }))
  app.addHook('onSend', async () => { await sleep(5) })
  let ran = false
  app.post('/secret', { preHandler: app.oidc.required() }, async () => { ran = true })
  app.get('/secret', { preHandler: app.oidc.required() }, async () => { ran = true })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  provider.fault({ on: 'metadata', before: work })
  // GET waits for the provider, to begin a login; POST for onError.
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
    goOn()
    await sleep(30)
    t.notOk(ran, method)
  }
})

t.test('V24 a guard that was not called, and a request that nothing guards', async (t) => {
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
      t.equal((await app.inject({ url: `/forgotten/${index}`, headers })).statusCode, 500)
    }
  }
  t.notOk(ran)
  t.same((await app.inject({ url: '/unguarded', headers: { cookie } })).json(), [null, null, null])
})

t.test('required and optional', async (t) => {
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

t.test('a person who is sent to log in comes back to the page that was asked for', async (t) => {
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
  t.equal(down.statusCode, 503, 'or reads that it is not possible now')
  t.match([down.headers['retry-after'], down.body], ['7', /FST_OIDC_PROVIDER_UNAVAILABLE/])
  t.notOk(down.headers['set-cookie'])
})

t.test("S43 a request that may change something must come from the application's own pages", async (t) => {
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
      `${method} changes nothing, from wherever`
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
      'without a session there is nothing to protect'
    )
  }
})

t.test('S43 what browsers send by themselves', async (t) => {
  const { app, provider } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'none' } })
  const browser = await logIn({ app, provider }, 'alice')
  t.equal((await browser.fetch('/me', { method: 'POST' })).status, 200)
  t.equal(
    (await browser.post('/me')).status,
    415,
    'a form of the own pages reaches the application, which has no parser for it here'
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

/** The application on a port of its own. */
async function listening (app: FastifyInstance): Promise<Injectable> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return over({ host: '127.0.0.1', port: (app.server.address() as AddressInfo).port })
}

/** An application as it is reached over a socket, where no client makes another path of the one that is asked for. */
function over (where: RequestOptions): Injectable {
  return {
    inject: async ({
      method, url, headers, payload
    }: {
      method: string
      url: string
      headers: Headers
      payload?: string
    }) => {
      const sent = httpRequest({ ...where, method, path: url, headers, agent: false }).end(payload)
      const [response] = (await once(sent, 'response')) as [
        AsyncIterable<Buffer> & { statusCode: number; headers: IncomingHttpHeaders }
      ]
      const chunks: Buffer[] = []
      for await (const chunk of response) chunks.push(chunk)
      return { statusCode: response.statusCode, headers: response.headers, rawPayload: Buffer.concat(chunks) }
    }
  } as unknown as Injectable
}

/** Every way to ask for a path that a router may take for `/secret`. */
const SPELLINGS = [
  '/secret', '/secret/', '//secret', '///secret', '/secret//', '/./secret', '/x/../secret', '/%2e/secret',
  '/%73ecret', '/%73%65%63%72%65%74', '/%2573ecret', '/secret;x', '/secret;x=1', '/secret;/public', '/;/secret',
  '/secret%3bx', '/secret%2f', '/secret%2f..', '/secret/..', '/secret%00', '/secret%20', '/secret.',
  '/secret.json', '/SECRET', '/Secret', '/%53ecret', '/secret?x=/public', '/secret?/public', '/secret#/public',
  '/secret%23', '/secret%3f', '/secret\\', '\\secret', '/public/../secret', '/public/..%2fsecret',
  '/public%2f..%2fsecret', '/public;/../secret', '/secret/../public', '/nested/secret', '//nested//secret',
  '/nested/secret/', '/NESTED/secret', '/nested/%73ecret', '/nested/secret;x', '/files/secret.txt',
  '//files/secret.txt', '/files//secret.txt', '/files/%2e%2e/secret.txt', '/files/..%2fsecret.txt',
  '/FILES/secret.txt', '/files', '/files/', '/files;x/secret', '/%66iles/secret', '/files/é', '/files/%C3%A9'
]
const SEMICOLON = { useSemicolonDelimiter: true } as FastifyServerOptions['routerOptions'] & object // missing in the types
const ROUTER_OPTIONS: Record<string, FastifyServerOptions> = {
  default: {},
  tolerant: {
    routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, ...SEMICOLON }
  },
  semicolon: { routerOptions: SEMICOLON },
  rewriting: { rewriteUrl: ({ url = '/' }) => url.replace(/^\/public(?:%2f|\/)\.\.(?:%2f|\/)/, '/') }
}

t.test('V22 V23 V3 no spelling of a path gets around a guard', async (t) => {
  for (const [name, server] of Object.entries(ROUTER_OPTIONS)) {
    await t.test(name, async (t) => {
      const { app, provider } = await startApp(t, {}, {}, server)
      const ran: Array<{ url: string, sub: unknown }> = []
      const handler = async ({ url, oidcClaims }: FastifyRequest): Promise<string> => {
        ran.push({ url, sub: oidcClaims?.sub })
        return 'secret content'
      }
      app.get('/public', async () => 'public')
      app.get('/secret', { preHandler: app.oidc.required() }, handler)
      app.get('/files/*', { preHandler: app.oidc.required() }, handler)
      await app.register(async (scope) => {
        scope.addHook('preHandler', app.oidc.required())
        scope.get('/secret', handler)
      }, { prefix: '/nested' })
      const wire = await listening(app)
      const disguises: Headers[] = [
        {},
        NAVIGATION,
        { 'user-agent': 'kube-probe/1.29' },
        { 'x-original-url': '/public', 'x-rewrite-url': '/public', 'x-forwarded-uri': '/public' },
        {
          'x-forwarded-for': '127.0.0.1',
          'x-forwarded-host': 'localhost',
          'x-forwarded-user': 'alice',
          'x-oidc-claims': '{"sub":"alice"}',
          x_forwarded_user: 'alice'
        },
        { authorization: 'Bearer x' }
      ]
      for (const url of SPELLINGS) {
        for (const headers of disguises) {
          const response = await wire.inject({ url, headers })
          const body = response.rawPayload.toString()
          const allowed = [
            400,
            401,
            404,
            headers === NAVIGATION ? 302 : 401,
            /^public$|:"public"/.test(body) ? 200 : 401
          ]
          t.ok(allowed.includes(response.statusCode), `${url} ${JSON.stringify(headers)}: ${response.statusCode}`)
          t.notMatch(body, 'secret content')
          if (response.statusCode === 302) t.ok(beginsLogin(provider, response), url)
        }
      }
      t.same(ran, [], 'no handler ran for somebody anonymous')
      const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
      for (const url of SPELLINGS) await wire.inject({ url, headers: { cookie } })
      t.ok(
        ran.length >= (name === 'tolerant' ? 30 : 10),
        `${ran.length} of ${SPELLINGS.length} spellings are the path, for those who may`
      )
      t.ok(ran.every(({ sub }) => sub === 'alice'))
    })
  }
})

t.test('V3 V22 wherever the page was, the way back stays on the application', async (t) => {
  const { app } = await startApp(t, {}, {}, ROUTER_OPTIONS['tolerant'])
  app.get('/*', { preHandler: app.oidc.required() }, async ({ url }) => ({ url }))
  const wire = await listening(app)
  for (const url of [
    '//evil.example/x',
    '///evil.example',
    '/\\evil.example',
    '/%5cevil.example',
    '/.//evil.example',
    '/%2e//evil.example',
    '/a/..//evil.example',
    '//evil.example/%2f..',
    '/x@evil.example',
    '/https://evil.example',
    '/%0d%0aset-cookie:x',
    '/x?next=//evil.example',
    `/${'x'.repeat(3000)}`
  ]) {
    const browser = client({ app, baseUrl: BASE_URL })
    const first = await wire.inject({ url, headers: NAVIGATION })
    t.equal(first.statusCode, 302, url.slice(0, 40))
    for (const line of [first.headers['set-cookie'] ?? []].flat()) {
      browser.cookies.set(line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1, line.indexOf(';')))
    }
    const page = await browser.goto(String(first.headers.location))
    t.equal(new URL(page.url).origin, BASE_URL, url.slice(0, 40))
    t.equal(page.status, 200, url.slice(0, 40))
    t.equal(page.history.length, 3, 'provider, callback, page')
  }
})

/** Tells for claims what a guard answers to a person who has them. */
async function guardWith (
  t: Test,
  options: GuardOptions,
  plugin: Partial<OidcOptions> = {}
): Promise<(claims: object) => Promise<number>> {
  const { app, provider } = await startApp(t, plugin)
  app.get('/guarded', { preHandler: app.oidc.required(options) }, async () => 'passed')
  app.get('/guarded-optional', { preHandler: app.oidc.optional(options) }, async () => 'passed')
  return async (claims) => {
    const browser = client({ app, baseUrl: BASE_URL })
    provider.options.approve = () => ({ sub: 'alice', ...claims })
    await browser.goto('/auth/login')
    const [one, other] = [await browser.fetch('/guarded'), await browser.fetch('/guarded-optional')]
    t.equal(other.status, one.status, 'required and optional ask the same of a person')
    if (one.status !== 200) {
      t.match(one.json(), { code: 'FST_OIDC_FORBIDDEN', message: 'Your account does not have access to this.' })
    }
    return one.status
  }
}

t.test('claims by path', async (t) => {
  const claims = {
    department: { name: 'sales', floors: [2, 3], head: true, nested: { deep: { er: 'x' } } },
    level: 3,
    vip: true,
    none: null,
    tags: ['red', 'blue'],
    teams: [{ name: 'a' }],
    'https://example.com/roles': ['admin'],
    'https://example.com/plan': { name: 'gold' },
    'a.b': 'flat',
    a: { b: 'nested', c: 'only nested' },
    empty: '',
    email_verified: 'true'
  }
  const cases: Array<[status: number, claims: GuardOptions['claims']]> = [
    [200, { sub: 'alice' }],
    [200, {}],
    [200, { 'department.name': 'sales' }],
    [200, { 'department.name': ['finance', 'sales'] }],
    [200, { 'department.nested.deep.er': 'x', level: 3 }],
    [200, { 'department.floors': 3 }],
    [200, { 'department.head': true, vip: [true] }],
    [200, { tags: ['green', 'blue'] }],
    [200, { 'https://example.com/roles': 'admin' }],
    [200, { 'a.b': 'flat' }],
    [200, { 'a.c': 'only nested' }],
    [200, { empty: '' }],
    [200, { 'tags.0': 'red' }],
    [403, { sub: 'Alice' }],
    [403, { sub: ['bob', 'alice '] }],
    [403, { 'department.name': 'sale' }],
    [403, { 'department.name': 'finance', sub: 'alice' }],
    [403, { 'department.floors': '3' }],
    [403, { level: '3' }],
    [403, { level: 3.5 }],
    [403, { vip: 'true' }],
    [403, { vip: 1 }],
    [403, { email_verified: true }],
    [403, { 'a.b': 'nested' }],
    [403, { department: 'sales' }],
    [403, { none: '' }],
    [403, { none: false }],
    [403, { missing: false }],
    [403, { missing: 'undefined' }],
    [403, { 'missing.deeper': 'x' }],
    [403, { 'sub.length': 5 }],
    [403, { 'teams.name': 'a' }],
    [403, { 'https://example.com/plan.name': 'gold' }],
    [403, { constructor: 'Object' }],
    [403, { 'constructor.name': 'Object' }],
    [403, { 'toString.name': 'toString' }],
    [403, { '__proto__.x': 'x' }],
    [403, { 'tags.__proto__.length': 0 }],
    [403, { 'department.constructor.name': 'Object' }],
    [403, { '': 'alice' }],
    [403, { '.': 'alice' }],
    [403, { '.sub': 'alice' }],
    [403, { 'sub.': 'alice' }]
  ]
  const { app, provider } = await startApp(t, {}, { users: [{ sub: 'alice', ...claims }] })
  for (const [index, [, constraint]] of cases.entries()) {
    app.get(`/claims/${index}`, { preHandler: app.oidc.required({ claims: constraint ?? {} }) }, async () => 'passed')
  }
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  for (const [index, [status, constraint]] of cases.entries()) {
    t.equal(
      (await app.inject({ url: `/claims/${index}`, headers: { cookie } })).statusCode,
      status,
      JSON.stringify(constraint)
    )
  }
})

t.test('V32 the identity of a person is compared byte by byte', async (t) => {
  const { app, provider } = await startApp(t)
  app.get(
    '/only-her',
    { preHandler: app.oidc.required({ claims: { iss: provider.issuer, sub: 'zoë' } }) },
    async () => 'passed'
  )
  app.get('/verified', { preHandler: app.oidc.required({ claims: { email_verified: true } }) }, async () => 'passed')
  for (const [status, sub] of [
    [200, 'zoë'],
    [403, 'zoe\u0308'],
    [403, 'ZOË'],
    [403, 'zoë '],
    [403, 'zoe'],
    [403, 'zoë\u200b']
  ] as const) {
    const browser = await logIn({ app, provider }, sub)
    const { claims } = (await browser.goto('/me')).json()
    t.same([claims.iss, claims.sub], [provider.issuer, sub], 'as the provider wrote it')
    t.equal((await browser.goto('/only-her')).status, status, JSON.stringify(sub))
  }
  for (const [status, email_verified] of [
    [200, true],
    [403, 'true'],
    [403, 1],
    [403, false],
    [403, undefined]
  ] as const) {
    provider.options.approve = () => ({ sub: 'x', ...(email_verified !== undefined && { email_verified }) })
    const browser = client({ app, baseUrl: BASE_URL })
    await browser.goto('/auth/login')
    t.equal((await browser.goto('/verified')).status, status, `email_verified ${JSON.stringify(email_verified)}`)
  }
})

t.test('requiredClaims hold for every guard, beside its own', async (t) => {
  const plugin = { requiredClaims: { tenant: ['one', 'two'], active: true } }
  const none = await guardWith(t, {}, plugin)
  t.equal(await none({ tenant: 'one', active: true }), 200)
  t.equal(await none({ tenant: 'three', active: true }), 403)
  t.equal(await none({ tenant: 'one' }), 403)
  const one = await guardWith(t, { claims: { tenant: ['one', 'three'] } }, plugin)
  t.equal(await one({ tenant: 'one', active: true }), 200)
  t.equal(await one({ tenant: 'two', active: true }), 403)
  t.equal(await one({ tenant: 'three', active: true }), 403, 'a guard asks for more, never for less')
})

t.test('scopes that were granted', async (t) => {
  const { app, provider } = await startApp(t, { scope: 'openid email reports:read' })
  const cases: Array<[number, GuardOptions['scopes']]> = [
    [200, 'openid'],
    [200, 'reports:read'],
    [200, ['openid', 'email']],
    [200, ' openid  email '],
    [403, 'reports:write'],
    [403, 'openid reports:write'],
    [403, ['openid', 'profile']],
    [403, 'reports'],
    [403, 'Openid'],
    [403, ['openid email']]
  ]
  for (const [index, [, scopes]] of cases.entries()) {
    app.get(`/scopes/${index}`, { preHandler: app.oidc.required({ scopes: scopes ?? '' }) }, async () => 'passed')
  }
  const browser = await logIn({ app, provider }, 'alice')
  for (const [index, [status, scopes]] of cases.entries()) {
    t.equal((await browser.fetch(`/scopes/${index}`)).status, status, JSON.stringify(scopes))
  }
  provider.fault({
    on: 'token',
    tokenResponse: (answer) => {
      answer.scope = 'openid'
    }
  })
  t.equal(
    (await (await logIn({ app, provider }, 'alice')).fetch('/scopes/1')).status,
    403,
    'what was asked for is not what was granted'
  )
})

t.test('roles, from the places where providers put them', async (t) => {
  const passes: Array<[boolean, object]> = [
    [true, { roles: ['user', 'admin'] }],
    [true, { roles: 'admin' }],
    [true, { groups: ['admin'] }],
    [true, { realm_access: { roles: ['admin'] } }],
    [true, { resource_access: { web: { roles: ['admin'] } } }],
    [true, { roles: ['owner'] }],
    [false, {}],
    [false, { roles: [] }],
    [false, { roles: ['administrator', 'Admin', 'admin ', 'super-admin'] }],
    [false, { roles: 'user admin' }],
    [false, { roles: { admin: true } }],
    [false, { roles: [['admin', ['admin']], { admin: 'admin' }, 1, null] }],
    [false, { role: 'admin', realm_access: ['admin'], resource_access: 'admin', groups: null }],
    [
      false,
      {
        realm_access: { role: ['admin'] },
        resource_access: { admin: { groups: ['admin'] }, x: null, roles: ['admin'] }
      }
    ],
    [false, { resource_access: { account: { roles: ['admin'] }, webshop: { roles: ['owner'] } } }],
    [false, { resource_access: [['admin']] }]
  ]
  const status = await guardWith(t, { roles: ['admin', 'owner'] })
  for (const [passed, claims] of passes) t.equal(await status(claims), passed ? 200 : 403, JSON.stringify(claims))
  const spaced = await guardWith(t, { roles: 'a b' })
  t.same([await spaced({ roles: ['a b'] }), await spaced({ roles: ['a', 'b'] })], [200, 403], 'a role may have a space')
  t.same(
    rolesOf(
      {
        iss: 'i',
        sub: 's',
        roles: ['a'],
        groups: 'b',
        realm_access: { roles: ['c'] },
        resource_access: { web: { roles: ['d'] }, other: { roles: ['e'] } }
      },
      ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles'],
      'web'
    ),
    ['a', 'b', 'c', 'd']
  )
})

t.test('acr: step-up by a login that asks for it', async (t) => {
  const { app, provider } = await startApp(t)
  app.get('/gold', { preHandler: app.oidc.required({ acr: ['gold', 'platinum'] }) }, async ({ oidcSession }) => ({
    acr: oidcSession?.acr
  }))
  const browser = await logIn({ app, provider }, 'alice')
  const before = browser.cookies.header('/')
  t.match((await browser.fetch('/gold')), { status: 401 })
  t.equal((await browser.fetch('/gold')).json().code, 'FST_OIDC_AUTHENTICATION_TOO_OLD')
  const asked = await browser.step('/gold')
  t.equal(new URL(asked.location as string).searchParams.get('acr_values'), 'gold platinum')
  const page = await browser.goto('/gold')
  t.same([page.status, page.url, page.json()], [200, `${BASE_URL}/gold`, { acr: 'gold' }])
  t.equal((await app.inject({ url: '/me', headers: { cookie: before } })).statusCode, 401, 'the weaker session ended')

  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: '1' }) })
  const other = await logIn({ app, provider }, 'bob')
  provider.clearRequests()
  const refused = await other.goto('/gold')
  t.match(
    [refused.status, refused.text()],
    [403, /FST_OIDC_ID_TOKEN/],
    'a provider that cannot do it ends in an error, not in a loop'
  )
  t.equal(provider.count('authorize'), 1)
  t.equal((await other.fetch('/me')).status, 200, 'and the session stays what it was')
  provider.clearFaults()
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: ['gold'] }) })
  t.equal((await (await logIn({ app, provider }, 'eve')).fetch('/gold')).status, 401, 'a list is no class')
})

t.test('S29 maxAge: a new login when the last is too long ago', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t)
  for (const maxAge of [0, 10, 300]) {
    app.get(`/recent/${maxAge}`, { preHandler: app.oidc.required({ maxAge }) }, async () => ({ maxAge }))
  }
  const browser = await logIn({ app, provider }, 'alice')
  const { session: { authTime } } = (await browser.goto('/me')).json()
  clock.advance(330)
  t.equal(
    (await browser.fetch('/recent/300')).status,
    200,
    'as tolerant of clocks that differ as the check of the ID token'
  )
  clock.advance(1)
  t.equal((await browser.fetch('/me')).status, 200)
  const script = await browser.fetch('/recent/300')
  t.match(
    [script.status, script.json()],
    [401, { code: 'FST_OIDC_AUTHENTICATION_TOO_OLD', login: `${BASE_URL}/auth/login` }]
  )
  const page = await browser.goto('/recent/300')
  t.match([page.status, page.url], [200, `${BASE_URL}/recent/300`])
  t.equal(new URL(page.history[1]?.url as string).searchParams.get('max_age'), '300')
  t.ok((await browser.goto('/me')).json().session.authTime > authTime)

  clock.advance(31)
  t.equal((await browser.fetch('/recent/0')).status, 401)
  t.equal((await browser.goto('/recent/0')).status, 200, 'at once after the login 0 passes')

  // A provider whose clock is behind: every login is old already, by less than the tolerance.
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, auth_time: Number(claims.auth_time) - 25 }) })
  const slow = client({ app, baseUrl: BASE_URL })
  const arrived = await slow.goto('/recent/10')
  t.match([arrived.status, arrived.history.length], [200, 4], 'no loop: page, provider, callback, page')
})

t.test('S29 maxAge with a provider that does not say when', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/recent', { preHandler: app.oidc.required({ maxAge: 3600 }) }, async () => 'passed')
  provider.fault(faults['auth-time-missing'])
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  t.equal((await browser.fetch('/recent')).status, 401, 'unknown is not recent')
  provider.clearRequests()
  const page = await browser.goto('/recent')
  t.match([page.status, page.text()], [403, /FST_OIDC_ID_TOKEN/])
  t.equal(provider.count('authorize'), 1, 'and no loop')
})

t.test('a misspelled or empty constraint leaves no route open', async (t) => {
  const { app, provider } = await startApp(t)
  const wrong: unknown[] = [
    { role: 'admin' },
    { scope: 'x' },
    { claim: {} },
    { maxage: 1 },
    { accepts: ['session'] },
    'admin',
    ['admin'],
    null,
    { scopes: '' },
    { scopes: ' ' },
    { scopes: [] },
    { scopes: [''] },
    { scopes: [1] },
    { scopes: null },
    { scopes: { a: 1 } },
    { roles: '' },
    { roles: [] },
    { roles: ['admin', ''] },
    { roles: [['admin']] },
    { roles: true },
    { acr: '' },
    { acr: [] },
    { acr: 2 },
    { claims: { a: [] } },
    { claims: { a: null } },
    { claims: { a: undefined } },
    { claims: { a: {} } },
    { claims: { a: [['x']] } },
    { claims: [] },
    { claims: 'a' },
    { claims: null },
    { maxAge: -1 },
    { maxAge: 1.5 },
    { maxAge: NaN },
    { maxAge: Infinity },
    { maxAge: '60' },
    { maxAge: null }
  ]
  for (const options of wrong) {
    for (const guard of [app.oidc.required, app.oidc.optional]) {
      t.throws(
        () => guard(options as GuardOptions),
        options === null ? TypeError : { code: 'FST_OIDC_OPTION', message: /"/ },
        JSON.stringify(options)
      )
    }
  }
  for (const requiredClaims of [{ a: [] }, { a: {} }, [], 'a', null] as never[]) {
    await t.rejects(async () => await Fastify().register(oidc, optionsFor(provider, { requiredClaims })), {
      code: 'FST_OIDC_OPTION'
    })
  }
  t.doesNotThrow(() =>
    app.oidc.required({ maxAge: 0, scopes: 'openid', roles: 'a', acr: 'b', claims: { c: [1, 'x', false] } })
  )
})

t.test('an error of a guard can be answered by the application', async (t) => {
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
    { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED', message: 'You need to log in.' },
    'without a login route there is no address of it'
  )
  t.notMatch((await app.inject({ method: 'POST', url: '/me', headers: NAVIGATION })).body, '/auth/login')
  t.same(seen, ['FST_OIDC_LOGIN_REQUIRED /own', 'FST_OIDC_LOGIN_REQUIRED /me', 'FST_OIDC_LOGIN_REQUIRED /me'])
  t.equal(
    (await (await client({ app, baseUrl: BASE_URL })).goto('/me')).status,
    200,
    'a guard still begins a login by itself'
  )
  t.equal((await logInThroughGuard(app, provider)).status, 200)
})

t.test('an onError that fails does not open the route, nor leave the request without an answer', async (t) => {
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

async function logInThroughGuard (app: FastifyInstance, provider: Provider, baseUrl = BASE_URL) {
  provider.options.approve = () => 'alice'
  return await client({ app, baseUrl }).goto(`${baseUrl}/me`)
}

/** A whole visit: a guarded page, the login, the page, a change, the logout. */
async function visit (t: Test, browser: TestBrowser, baseUrl: string, path = '/me'): Promise<void> {
  const page = await browser.goto(baseUrl + path)
  t.match([page.status, page.url, page.json().claims?.sub], [200, baseUrl + path, 'alice'])
  t.same(page.history.map(({ status }) => status), [302, 302, 302, 200], 'page, provider, callback, page')
  t.same(browser.cookies.refused, [])
  t.equal((await browser.fetch(baseUrl + path, { method: 'POST', from: `${baseUrl}/` })).status, 200)
  t.equal(
    (await browser.fetch(baseUrl + path, { method: 'POST', from: 'https://evil.example/', credentials: 'include' }))
      .status,
    401,
    'the cookie does not come along from another site'
  )
  const gone = await browser.post(`${baseUrl}/auth/logout`, '', { from: `${baseUrl}/` })
  t.equal(new URL(gone.url).origin, new URL(baseUrl).origin)
  t.equal((await browser.fetch(baseUrl + path)).status, 401)
}

t.test('R38 server options', async (t) => {
  const servers: Record<string, [server: FastifyServerOptions, paths: string[]]> = {
    ignoreTrailingSlash: [{ routerOptions: { ignoreTrailingSlash: true } }, ['/me', '/me/']],
    caseSensitive: [{ routerOptions: { caseSensitive: false } }, ['/me', '/ME']],
    ignoreDuplicateSlashes: [{ routerOptions: { ignoreDuplicateSlashes: true } }, ['/me', '//me']],
    useSemicolonDelimiter: [{ routerOptions: SEMICOLON }, ['/me', '/me;x=1']],
    trustProxy: [{ trustProxy: true }, ['/me']],
    logger: [{ logger: { level: 'trace', stream: { write () {} } }, requestIdHeader: 'x-request-id' }, ['/me']]
  }
  for (const [name, [server, paths]] of Object.entries(servers)) {
    await t.test(name, async (t) => {
      const { app, provider } = await startApp(t, {}, {}, server)
      const forged = {
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'http',
        'x-forwarded-port': '81',
        'x-forwarded-prefix': '/evil',
        forwarded: 'host=evil.example'
      }
      const browser = client({ app, baseUrl: BASE_URL, headers: forged })
      await visit(t, browser, BASE_URL)
      for (const request of provider.requests.filter(({ endpoint }) => endpoint === 'authorize')) {
        t.equal(request.query['redirect_uri'], `${BASE_URL}/auth/callback`)
      }
      for (const path of paths) t.equal((await app.inject(path)).statusCode, 401, path)
    })
  }
})

t.test('R38 in a scope with a prefix', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(async (outer) => {
    await outer.register(async (scope) => {
      await scope.register(oidc, optionsFor(provider, { requiredClaims: { sub: 'alice' } }))
      scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ claims: oidcClaims }))
      scope.post('/me', { preHandler: scope.oidc.required() }, async () => ({}))
    }, { prefix: '/v1' })
  }, { prefix: '/api' })
  app.get('/me', async (request) => ({ decorated: 'oidcClaims' in request }))
  const browser = client({ app, baseUrl: BASE_URL })
  const page = await browser.goto('/api/v1/me')
  t.match([page.status, page.url, page.json().claims?.sub], [200, `${BASE_URL}/api/v1/me`, 'alice'])
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['redirect_uri'],
    `${BASE_URL}/api/v1/auth/callback`
  )
  t.ok(browser.cookies.list('/').every(({ path }) => path === '/'))
  t.match((await client({ app, baseUrl: BASE_URL }).fetch('/api/v1/me')).json(), {
    login: `${BASE_URL}/api/v1/auth/login`
  })
  t.equal((await browser.goto('/auth/login')).status, 404, 'nothing is where the prefix is not')
  t.same((await browser.goto('/me')).json(), { decorated: false }, 'outside of the scope nothing is decorated')
  const gone = await browser.post('/api/v1/auth/logout')
  t.equal(gone.history[1]?.url.includes(encodeURIComponent(`${BASE_URL}/api/v1/auth/logged-out`)), true)
  t.equal((await browser.fetch('/api/v1/me')).status, 401)
})

t.test('R38 below a path that a proxy takes away', async (t) => {
  const baseUrl = `${BASE_URL}/portal`
  const { app, provider } = await startApp(t, { baseUrl })
  const proxied = {
    inject: async (options: { url: string }) =>
      await app.inject({ ...options, url: options.url.replace(/^\/portal(?=\/)/, '') })
  } as unknown as Injectable
  await visit(t, client({ app: proxied, baseUrl: BASE_URL }), baseUrl)
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['redirect_uri'],
    `${baseUrl}/auth/callback`
  )
})

t.test('R38 over IPv6', async (t) => {
  const { app } = await startApp(t, { baseUrl: 'http://[::1]:8080' })
  await app.listen({ host: '::1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  await visit(t, client({ app: over({ host: '::1', port }), baseUrl: 'http://[::1]:8080' }), 'http://[::1]:8080')
})

t.test('R38 over a unix socket', async (t) => {
  const { app } = await startApp(t)
  const path = join(tmpdir(), `fastify-oidc-${process.pid}.sock`)
  await app.listen({ path })
  await visit(t, client({ app: over({ socketPath: path }), baseUrl: BASE_URL }), BASE_URL)
})

t.test('R38 over HTTP/2', async (t) => {
  const { app } = await startApp(t, {}, {}, { http2: true } as never)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.destroy())
  const overHttp2 = {
    inject: async ({
      method, url, headers, payload
    }: {
      method: string
      url: string
      headers: Headers
      payload?: string
    }) => {
      const { host = '', cookie = '', ...rest } = headers
      // HTTP/2 sends each cookie in a field of its own (RFC 9113, section 8.2.3).
      const stream = session.request({
        ':method': method,
        ':path': url,
        ':authority': host,
        ...rest,
        ...(cookie !== '' && { cookie: cookie.split('; ') })
      })
      stream.end(payload)
      const [received] = await once(stream, 'response') as [Record<string, string | string[]>]
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(chunk as Buffer)
      const fields = Object.entries(received).filter(([name]) => !name.startsWith(':'))
      return {
        statusCode: Number(received[':status']),
        headers: Object.fromEntries(fields),
        rawPayload: Buffer.concat(chunks)
      }
    }
  } as unknown as Injectable
  await visit(t, client({ app: overHttp2, baseUrl: BASE_URL }), BASE_URL)
})
