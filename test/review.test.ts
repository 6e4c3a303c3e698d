import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../index.ts'
import { createBoundedMap } from '../lib/util/bounded-map.ts'
import { sessionCookie, startClock } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, startApp } from './support/app.ts'
import type { AddressInfo } from 'node:net'
import type { OidcError } from '../index.ts'

// What a review found: each test failed before its fix.

t.test('V24 a client that closes the connection while it is turned away does not get the handler run', async (t) => {
  const { app } = await startApp(t)
  let ran = 0
  app.addHook('onSend', async (_request, _reply, payload) => { await delay(30); return payload })
  app.post('/danger', { preHandler: app.oidc.required() }, async () => { ran += 1 })
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => { ran += 1 })
  app.get('/optional', { preHandler: app.oidc.optional({ roles: 'admin' }) }, async () => { ran += 1 })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const cookie = sessionCookie(app)
  const heads = [
    'POST /danger HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
    'GET /admin HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n',
    `GET /admin HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`,
    `GET /optional HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`,
    `POST /danger HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.test\r\nContent-Length: 0\r\nCookie: ${cookie}\r\n\r\n`
  ]
  for (const head of heads) {
    for (const wait of [1, 10]) {
      const socket = connect(port, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(head)
      await delay(wait)
      socket.destroy()
    }
  }
  await delay(120)
  t.equal(ran, 0)
  t.equal((await app.inject({ url: '/optional' })).statusCode, 200)
  t.equal(ran, 1, 'the spy does see a handler that runs')
})

t.test('V33 a reply that onClaims sends replaces the login, although another hook delays it', async (t) => {
  const answers = {
    'without await': (reply: { code: (n: number) => { send: (b: string) => unknown } }) => {
      reply.code(403).send('blocked')
    },
    returned: (reply: { code: (n: number) => { send: (b: string) => unknown } }) => reply.code(403).send('blocked')
  }
  for (const [name, answer] of Object.entries(answers)) {
    const { app, browser } = await startApp(t, {
      onClaims: async (_claims, { reply }) => {
        await delay(1)
        return answer(reply as never) as never
      }
    })
    app.addHook('onSend', async (_request, _reply, payload) => {
      await delay(20)
      return payload
    })
    const page = await browser.goto('/me')
    t.equal(page.status, 403, name)
    t.equal(page.text(), 'blocked')
    t.equal(browser.cookies.get('__Host-oidc'), undefined)
    t.equal(
      (await app.inject({ url: '/me', headers: { cookie: browser.cookies.header(BASE_URL) ?? '' } })).statusCode,
      401
    )
  }
})

t.test(
  "a reply that onError sends stands, although another hook delays it; a failing onError leaves the plugin's own answer",
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
      await delay(5)
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

t.test('R27 S47 a parallel request that only touches the session does not lose the refreshed tokens', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, browser, provider } = await startApp(t, { scope: 'openid offline_access' }, { accessTokenTtl: 300 })
  app.get('/touch', { preHandler: app.oidc.required() }, async () => 'touched')
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(400)
  const other = browser.clone()
  const token = (await browser.goto('/token')).text()
  const touched = await other.goto('/touch')
  t.equal(touched.history[0]?.setCookie.length, 1, 'the other request writes only the hot part')
  browser.cookies.set('__Host-oidc', other.cookies.get('__Host-oidc') as string)
  t.equal((await browser.goto('/token')).text(), token)
  t.equal(provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length, 1)
})

t.test('S38 a request that touches the session and refreshes prolongs the idle time', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, browser } = await startApp(
    t,
    { scope: 'openid offline_access', session: { key: SESSION_KEY, idleTimeout: 3600 } },
    { accessTokenTtl: 300 }
  )
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(3000)
  t.equal((await browser.goto('/token')).status, 200)
  clock.advance(900)
  t.equal((await browser.fetch('/me')).status, 200)
})

t.test('S29 S34 UserInfo does not decide when, how and in which session a person authenticated', async (t) => {
  const { app, browser, provider } = await startApp(t, { userinfo: true })
  provider.fault({
    on: 'userinfo',
    userinfo: (claims) => ({ ...claims, auth_time: '1700000000', acr: 'gold', sid: 'forged', department: 'sales' })
  })
  provider.fault({
    on: 'token',
    idToken: (claims) => ({ ...claims, auth_time: undefined, acr: undefined, sid: undefined })
  })
  app.get('/recent', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'recent')
  const me = (await browser.goto('/me')).json() as { claims: Record<string, unknown>, session: Record<string, unknown> }
  t.match(me.claims, { department: 'sales' })
  t.notOk('authTime' in me.session || 'acr' in me.session || 'sid' in me.session)
  t.equal((await browser.fetch('/recent')).status, 401)
})

t.test(
  'S44 GET logout does nothing without a click: an image, a script, a refresh, a redirect of a login',
  async (t) => {
    for (const sameSite of ['lax', 'strict'] as const) {
      const { app, browser } = await startApp(t, { session: { key: SESSION_KEY, sameSite } })
      await browser.goto('/me')
      const cookie = browser.cookies.header(BASE_URL) as string
      const from = { 'sec-fetch-site': 'same-origin', cookie }
      const image = await app.inject({
        url: '/auth/logout',
        headers: { ...from, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' }
      })
      t.match(image, { statusCode: 403, headers: { 'cache-control': 'no-store' } })
      const refresh = await app.inject({
        url: '/auth/logout',
        headers: { ...from, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
      })
      t.equal(refresh.statusCode, 403)
      t.match(refresh.body, /<form method="post" action="https:\/\/app.example.com\/auth\/logout"><button>/)
      t.equal(refresh.headers['referrer-policy'], 'same-origin', 'so that the form has an Origin')
      t.equal((await browser.fetch('/me')).status, 200)

      await browser.goto('/auth/logout', { from: `${BASE_URL}/` })
      t.equal((await browser.fetch('/me')).status, 401)
    }
  })

t.test('roles of another client are none here', async (t) => {
  const { app } = await startApp(t)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  const status = async (claims: Record<string, unknown>): Promise<number> =>
    (await app.inject({ url: '/admin', headers: { cookie: sessionCookie(app, { claims }) } })).statusCode
  t.equal(await status({ resource_access: { wiki: { roles: ['admin'] } } }), 403)
  t.equal(await status({ resource_access: { web: { roles: ['admin'] } } }), 200)
})

t.test('an error of another plugin keeps its status: one that limits requests', async (t) => {
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

t.test('R15 S21 other methods get 405 and their queries are not logged', async (t) => {
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

t.test('S59 a refreshed ID token with another nonce is not used', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, browser, provider } = await startApp(t, { scope: 'openid offline_access' }, { accessTokenTtl: 300 })
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(400)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, nonce: 'another' }) })
  t.match((await browser.fetch('/token')).json(), { code: 'FST_OIDC_ID_TOKEN' })
})

t.test('R32 a bounded map lets go of what is over', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const map = createBoundedMap<number>(1000)
  const soon = Math.floor(Date.now() / 1000) + 60
  for (let index = 0; index < 500; index++) map.set(`key${index}`, index, soon)
  clock.advance(61)
  t.equal(map.get('key0'), undefined)
  map.set('new', 1)
  t.equal(map.size, 1)
})

t.test('R22 a refreshed ID token that does not fit does not cost the session', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, browser, provider } = await startApp(
    t,
    { scope: 'openid offline_access', claims: [] },
    { accessTokenTtl: 300 }
  )
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(400)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, padding: 'x'.repeat(4000) }) })
  t.equal((await browser.goto('/token')).status, 200)
  clock.advance(400)
  t.equal((await browser.goto('/token')).status, 200, 'the rotated refresh token was kept')
})

t.test('S42 parallel requests whose refresh is refused end the session once', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const ends: string[] = []
  const { app, browser, provider } = await startApp(
    t,
    {
      scope: 'openid offline_access',
      onLogout: (_session, { reason }) => {
        ends.push(reason)
      }
    },
    { accessTokenTtl: 300 }
  )
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(400)
  provider.forget()
  const answers = await Promise.all(Array.from({ length: 10 }, async () => await browser.clone().fetch('/token')))
  t.ok(answers.every(({ status }) => status === 401))
  t.same(ends, ['refresh_failed'])
})

t.test('R31 R3 a failed refresh is not tried again for five seconds, then it is', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, browser, provider } = await startApp(t, { scope: 'openid offline_access' }, { accessTokenTtl: 300 })
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  await browser.goto('/me')
  clock.advance(280)
  const off = provider.fault({ on: 'token', status: 503 })
  const before = provider.count('token')
  for (let count = 0; count < 3; count++) {
    t.equal((await browser.fetch('/token')).status, 200, 'the token is still valid')
  }
  t.equal(provider.count('token'), before + 1)
  off()
  clock.advance(6)
  await browser.fetch('/token')
  t.equal(provider.count('token'), before + 2)
})

t.test('S62 a logout after the session ran out still ends the one at the provider', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { browser, provider } = await startApp(t, { session: { key: SESSION_KEY, idleTimeout: 600 } })
  await browser.goto('/me')
  clock.advance(700)
  await browser.post('/auth/logout')
  t.equal(provider.count('end_session'), 1)
})

t.test('R36 V25 hundreds of foreign cookies make little work and a small answer', async (t) => {
  const { app } = await startApp(t)
  const cookie = Array.from({ length: 600 }, (_, index) => `__Host-oidc-login-${index}=x`).join('; ')
  const response = await app.inject({ url: '/auth/login', headers: { cookie } })
  t.equal(response.statusCode, 302)
  t.equal([response.headers['set-cookie']].flat().length, 41)
})

t.test('S12 a login is not begun inside a frame', async (t) => {
  const { app, browser } = await startApp(t)
  const page = await browser.goto('/auth/login', { from: 'https://evil.test/', dest: 'iframe' })
  t.equal(page.status, 400)
  t.same(browser.cookies.list(), [])
  t.equal(
    (await app.inject({ url: '/auth/login', headers: { 'sec-fetch-dest': 'document', 'sec-fetch-mode': 'navigate' } }))
      .statusCode,
    302
  )
})

t.test(
  'V27 S5 forty tabs that begin at the very same moment leave room in the header, and the last of them logs in',
  async (t) => {
    const { browser } = await startApp(t)
    await Promise.all(Array.from({ length: 40 }, async () => await browser.step('/me')))
    t.equal(browser.cookies.list(BASE_URL).length, 40)
    t.ok(browser.cookies.bytes(BASE_URL) < 14_500, `${browser.cookies.bytes(BASE_URL)} bytes`)
    t.equal((await browser.goto('/me')).status, 200)
    t.ok(browser.cookies.bytes(BASE_URL) < 8000, `${browser.cookies.bytes(BASE_URL)} bytes`)
  }
)

t.test('S29 app.oidc.login refuses a maxAge that is none', async (t) => {
  const { app } = await startApp(t)
  app.get(
    '/in',
    async (request, reply) => await app.oidc.login(request, reply, { maxAge: Number(request.headers['x-age']) })
  )
  await app.ready()
  for (const age of ['-1', 'x', '1.5']) {
    t.match((await app.inject({ url: '/in', headers: { 'x-age': age } })).json(), { code: 'FST_OIDC_OPTION' })
  }
  t.match((await app.inject({ url: '/in', headers: { 'x-age': '60' } })).headers.location, /max_age=60/)
})

t.test('whatever is thrown in the scope of the routes gets an answer', async (t) => {
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
