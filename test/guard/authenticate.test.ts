import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { client, sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, startApp } from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { captureLog } from '../support/protocol.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { GuardOptions, OidcError } from '../../index.ts'

/** Each route says what `authenticate` did, always with status 200. */
function addRoute (app: FastifyInstance, url: string, options?: GuardOptions): void {
  app.route({
    method: ['GET', 'POST'],
    url,
    handler: async (request) => {
      try {
        const { claims, user, session, token } = await app.oidc.authenticate(request, options)
        const isSame = claims === request.oidcClaims && user === request.oidcUser &&
          session === request.oidcSession && token === request.oidcToken
        return { sub: claims.sub, user, session: session?.provider ?? null, token: token?.clientId ?? null, isSame }
      } catch (error) {
        return { threw: (error as OidcError).code, status: (error as OidcError).statusCode }
      }
    }
  })
}

t.test('K12 authenticate decides as a guard, and never answers', async (t) => {
  const { app, provider } = await start(t, {}, { onClaims: ({ sub }) => ({ name: sub }) })
  addRoute(app, '/authenticate')
  addRoute(app, '/admins', { roles: 'admin' })
  addRoute(app, '/recent', { maxAge: 60 })
  addRoute(app, '/checked', { check: (_claims, { query }) => (query as { pass?: string }).pass === 'yes' })
  addRoute(app, '/wrong', { role: 'admin' } as GuardOptions)
  const cookie = sessionCookie(app, { user: { name: 'alice' } })
  const authorization = `Bearer ${tokenOf(provider)}`

  const anonymous = await app.inject({ url: '/authenticate', headers: NAVIGATION })
  t.same(anonymous.json(), { threw: 'FST_OIDC_LOGIN_REQUIRED', status: 401 })
  t.same([anonymous.statusCode, anonymous.headers['set-cookie']], [200, undefined], 'no login begins')
  t.equal(provider.count('authorize'), 0)

  const answerTo = async (url: string, headers: Record<string, string>, method: 'GET' | 'POST' = 'GET') =>
    (await app.inject({ method, url, headers })).json()
  t.same(
    await answerTo('/authenticate', { cookie }),
    { sub: 'alice', user: { name: 'alice' }, session: 'default', token: null, isSame: true }
  )
  t.same(
    await answerTo('/authenticate', { authorization, cookie }),
    { sub: 'alice', user: null, session: null, token: 'web', isSame: true },
    'with an access token, cookies do not count'
  )
  t.same(await answerTo('/checked?pass=yes', { cookie }), {
    sub: 'alice', user: { name: 'alice' }, session: 'default', token: null, isSame: true
  })
  const refused = [
    [await answerTo('/admins', { cookie }), 'FST_OIDC_FORBIDDEN', 403],
    [await answerTo('/admins', { authorization }), 'FST_OIDC_FORBIDDEN', 403],
    [await answerTo('/checked', { cookie }), 'FST_OIDC_FORBIDDEN', 403],
    [await answerTo('/authenticate', { authorization: 'Bearer forged', cookie }), 'FST_OIDC_TOKEN', 401],
    [await answerTo('/authenticate', { cookie, origin: 'https://evil.test' }, 'POST'), 'FST_OIDC_CROSS_SITE', 403],
    [await answerTo('/wrong', { cookie }), 'FST_OIDC_OPTION', 500],
    [
      await answerTo('/recent', { cookie: sessionCookie(app, { authTime: 1 }) }),
      'FST_OIDC_AUTHENTICATION_TOO_OLD',
      401
    ]
  ] as const
  for (const [answer, threw, status] of refused) t.same(answer, { threw, status }, threw)
})

t.test('K12 authenticate says that the store cannot be asked', async (t) => {
  const broken = async (): Promise<never> => { throw new Error('the disk is full') }
  const names = ['get', 'has', 'set', 'create', 'replace', 'take', 'list', 'purge'] as const
  const methods = Object.fromEntries(names.map((name) => [name, broken])) as Record<typeof names[number], typeof broken>
  const store = { ...methods, close: async () => {} }
  const { app } = await startApp(t, { store, session: { key: SESSION_KEY } })
  addRoute(app, '/authenticate')
  const { body } = await app.inject({ url: '/authenticate', headers: { cookie: sessionCookie(app) } })
  t.same(JSON.parse(body), { threw: 'FST_OIDC_STORE_UNAVAILABLE', status: 503 })
})

t.test('K12 V33 what authenticate refused is no identity for another way of authentication', async (t) => {
  const { app, provider } = await start(t)
  const refusals: Record<string, GuardOptions> = {
    roles: { roles: 'admin' },
    check: { check: () => false },
    bug: { check: () => { throw new Error('a bug of the application') } }
  }
  const identityOf = ({ oidcClaims, oidcUser, oidcSession, oidcToken }: FastifyRequest) =>
    [oidcClaims?.sub, oidcUser, oidcSession?.provider, oidcToken?.clientId].map((value) => value ?? null)
  for (const [name, options] of Object.entries(refusals)) {
    for (const [prefix, preHandler] of [['/only', []], ['/after', [app.oidc.required()]]] as const) {
      app.post(`${prefix}/${name}`, { preHandler: [...preHandler] }, async (request) => {
        await t.rejects(app.oidc.authenticate(request, options), name)
        return identityOf(request)
      })
    }
  }
  app.post('/cross-site', async (request) => {
    await t.rejects(app.oidc.authenticate(request), { code: 'FST_OIDC_CROSS_SITE' })
    return identityOf(request)
  })
  const cookie = sessionCookie(app)
  const own = { 'sec-fetch-site': 'same-origin' }
  const post = async (url: string, headers: Record<string, string>) =>
    (await app.inject({ method: 'POST', url, headers })).json()
  const nothing = [null, null, null, null]
  for (const name of Object.keys(refusals)) {
    t.same(await post(`/only/${name}`, { cookie, ...own }), nothing, name)
    t.same(await post(`/only/${name}`, { authorization: `Bearer ${tokenOf(provider)}` }), nothing, `${name}, a token`)
    t.same(
      await post(`/after/${name}`, { cookie, ...own }),
      ['alice', null, 'default', null],
      'the identity that a guard has accepted stays'
    )
  }
  t.same(await post('/cross-site', { cookie, 'sec-fetch-site': 'cross-site' }), nothing, 'S43 another site')
})

t.test('K12 V24 a handler that awaits a guard goes on only when the request may pass', async (t) => {
  const { app, provider } = await startApp(t)
  const ran: string[] = []
  const guards = {
    required: app.oidc.required(),
    admins: app.oidc.required({ roles: 'admin' }),
    optional: app.oidc.optional(),
    silent: app.oidc.optional({ silent: true })
  }
  for (const [name, guard] of Object.entries(guards)) {
    app.get(`/${name}`, async (request, reply) => {
      await guard(request, reply)
      ran.push(name)
      return request.oidcClaims?.sub ?? 'anonymous'
    })
  }
  const cookie = sessionCookie(app)
  const get = async (url: string, headers: Record<string, string>) => {
    const { statusCode, body } = await app.inject({ url, headers })
    return [statusCode, body]
  }
  t.same(await get('/required', { cookie }), [200, 'alice'])
  t.same(await get('/optional', {}), [200, 'anonymous'])
  t.same(await get('/silent', { cookie }), [200, 'alice'])
  t.same(await get('/silent', {}), [200, 'anonymous'], 'a script is asked nothing')
  t.same(ran.splice(0), ['required', 'optional', 'silent', 'silent'])

  t.equal((await get('/required', {}))[0], 401)
  t.equal((await get('/admins', { cookie }))[0], 403)
  for (const url of ['/required', '/silent']) {
    const { statusCode, headers } = await app.inject({ url, headers: NAVIGATION })
    t.equal(statusCode, 302, url)
    t.match(headers.location, `${provider.issuer}/authorize?`, url)
  }
  t.same(ran, [], 'the line after a guard that refused has not run')
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/required')).status, 200, 'the user logs in, and comes back')
  t.same(ran, ['required'])
})

t.test('K12 V24 an answer that other hooks delay stays as it is when an awaited guard refuses', async (t) => {
  const { app, provider } = await startApp(t)
  const guard = app.oidc.required()
  app.addHook('onSend', async () => await setTimeout(20))
  let ran = 0
  const handler = async () => ran++
  app.get('/handler', async (request, reply) => {
    await guard(request, reply)
    return await handler()
  })
  app.get('/hook', { preHandler: async (request, reply) => await guard(request, reply) }, handler)
  for (const url of ['/handler', '/hook']) {
    const { statusCode, headers, body } = await app.inject({ url, headers: NAVIGATION })
    t.same([statusCode, body], [302, ''], url)
    t.match(headers.location, `${provider.issuer}/authorize?`, url)
    const refused = await app.inject(url)
    t.match([refused.statusCode, refused.json()], [401, { login: `${BASE_URL}/auth/login` }], url)
  }
  t.equal(ran, 0)
})

t.test('K12 V24 the client disconnects while an awaited guard refuses', async (t) => {
  const events = new EventEmitter<{ refusing: [goOn: () => void], rejected: [error: unknown] }>()
  const { app } = await startApp(t, {
    onError: async () => await new Promise<void>((resolve) => { events.emit('refusing', resolve) })
  })
  const guard = app.oidc.required()
  let ran = false
  app.post('/danger', async (request, reply) => {
    await guard(request, reply).catch((error: unknown) => {
      events.emit('rejected', error)
      throw error
    })
    ran = true
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const refusing = once(events, 'refusing')
  const rejected = once(events, 'rejected')
  const closed = new Promise<void>((resolve) => {
    app.server.once('connection', (socket) => socket.once('close', () => resolve()))
  })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('POST /danger HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n')
  const [goOn] = await refusing as [() => void]
  socket.destroy()
  await closed
  goOn()
  t.match((await rejected)[0], { code: 'FST_OIDC_LOGIN_REQUIRED' })
  t.notOk(ran)
})

t.test('K12 an error in the check of the application reaches the handler that awaits', async (t) => {
  const { app } = await startApp(t)
  const guard = app.oidc.required({ check: () => { throw new Error('a bug of the application') } })
  app.get('/broken', async (request, reply) => { await guard(request, reply) })
  const { statusCode, body } = await app.inject({ url: '/broken', headers: { cookie: sessionCookie(app) } })
  t.equal(statusCode, 500)
  t.match(body, 'a bug of the application')
})

t.test('K12 a guard that a handler awaits answers once, and Fastify logs no error of the handler', async (t) => {
  const { lines, server } = captureLog()
  const { app } = await startApp(t, {}, {}, server)
  const guard = app.oidc.required()
  let answers = 0
  app.addHook('onSend', async () => { answers++ })
  app.get('/plain', async (request, reply) => { await app.oidc.required()(request, reply) })
  app.get('/fault', async (request, reply) => {
    await guard(request, reply).catch(() => { throw new Error('a fault of the handler') })
  })
  app.get('/text', async (request, reply) => {
    await guard(request, reply).catch(() => {
      reply.log.error('only a text')
      reply.log.error({ err: 'another' }, 'with members')
      reply.log.info(`the level is ${reply.log.level}`)
      throw new Error('a fault of the handler')
    })
  })
  for (const headers of [{}, NAVIGATION]) {
    const { statusCode } = await app.inject({ url: '/plain', headers })
    t.equal(statusCode, headers === NAVIGATION ? 302 : 401)
  }
  t.equal(answers, 2)
  t.notMatch(lines(), 'Promise errored')
  t.match(lines(), /"code":"FST_OIDC_LOGIN_REQUIRED"[^\n]*"msg":"You need to log in."/, 'what the plugin logs')
  t.equal(lines().split('request completed').length - 1, 2, 'the other lines of Fastify stay')

  t.equal((await app.inject('/fault')).statusCode, 401)
  t.match(lines(), /a fault of the handler[^\n]*Promise errored/, 'another error is a fault')
  t.equal((await app.inject('/text')).statusCode, 401)
  t.match(lines(), /"msg":"only a text"/)
  t.match(lines(), /"msg":"the level is \w+"/)
  t.match(lines(), /"err":"another","msg":"with members"/)
})
