import fc from 'fast-check'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { client, sessionCookie, startClock, startProvider } from '../../lib/testing/index.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { BASE_URL, SESSION_KEY, buildApp } from '../support/app.ts'
import { createGate } from '../support/gate.ts'
import { SESSION_COOKIE, assertLoggedIn, authorizationParams, captureLog } from '../support/protocol.ts'
import type { FastifyInstance, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions, ProviderOptions, Store } from '../../index.ts'
import type { Provider, TestBrowser } from '../../lib/testing/index.ts'

interface World {
  app: FastifyInstance
  google: Provider
  corp: Provider
  browser: TestBrowser
}

const shared = { baseUrl: BASE_URL, session: { key: SESSION_KEY }, allowInsecureLoopback: true }

function optionsOf (provider: Provider, options: Partial<ProviderOptions> = {}): Partial<ProviderOptions> {
  return {
    issuer: provider.issuer,
    clientId: 'web',
    clientSecret: provider.clients[0]?.client_secret as string,
    ...options
  }
}

async function startedProvider (t: Test, sub: string): Promise<Provider> {
  const provider = await startProvider({ users: [{ sub }], refreshTokens: 'always' })
  t.teardown(async () => await provider.close())
  return provider
}

/** An application of two providers. */
async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  corpOptions: Partial<ProviderOptions> = {},
  server: FastifyServerOptions = {}
): Promise<World> {
  const [google, corp] = [await startedProvider(t, 'guest'), await startedProvider(t, 'employee')]
  const providers = { google: optionsOf(google, { label: 'Google <b>' }), corp: optionsOf(corp, corpOptions) }
  const app = await buildApp(t, { ...shared, providers, ...options }, server)
  const whoIs = async ({
    oidcClaims,
    oidcSession
  }: {
    oidcClaims: { sub: string } | null
    oidcSession: { provider: string } | null
  }) => ({ sub: oidcClaims?.sub, provider: oidcSession?.provider })
  app.get('/intranet', { preHandler: app.oidc.required({ provider: 'corp' }) }, whoIs)
  app.get('/both', { preHandler: app.oidc.required({ provider: ['google', 'corp'] }) }, whoIs)
  app.get('/public', { preHandler: app.oidc.optional({ provider: 'corp' }) }, whoIs)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
    token: await app.oidc.accessToken(request),
    sub: (await app.oidc.userinfo(request)).sub
  }))
  return { app, google, corp, browser: client({ app, baseUrl: BASE_URL }) }
}

const linkOf = (html: string, name: string): string =>
  html.match(new RegExp(`href="([^"]*/auth/${name}/login[^"]*)"`))?.[1]?.replaceAll('&#38;', '&') as string

t.test(
  'each provider has its own login, callback and settings; common options are the defaults',
  async (t) => {
    const { app, google, corp, browser } = await start(
      t,
      { scope: 'openid email', clockTolerance: 10 },
      { scope: 'openid groups', responseMode: 'form_post', audience: 'api' }
    )
    const toGoogle = authorizationParams(await browser.step('/auth/google/login'))
    t.match(toGoogle, { redirect_uri: `${BASE_URL}/auth/google/callback`, scope: 'openid email' })
    t.notOk('response_mode' in toGoogle)
    t.match(authorizationParams(await browser.step('/auth/corp/login')), {
      redirect_uri: `${BASE_URL}/auth/corp/callback`,
      scope: 'openid groups',
      response_mode: 'form_post',
      audience: 'api'
    })
    t.equal(
      (await app.inject('/auth/callback?code=x&state=y')).json().message,
      'Route GET:/auth/callback?code=x&state=y not found'
    )
    t.equal((await app.inject('/auth/other/login')).statusCode, 404)
    t.equal((await app.inject('/auth/corp/callback')).headers.allow, 'POST')
    t.equal((await app.inject({ method: 'POST', url: '/auth/google/callback' })).headers.allow, 'GET')

    await browser.goto('/auth/google/login')
    await assertLoggedIn(t, browser, 'guest')
    t.same([google.count('token'), corp.count('token')], [1, 0])
    await browser.goto('/auth/corp/login')
    await assertLoggedIn(t, browser, 'employee')
    t.same([google.count('token'), corp.count('token')], [1, 1])
  })

t.test('a user chooses a provider, and ends at the page of the login', async (t) => {
  const { app, google, corp, browser } = await start(t)
  const page = await browser.goto('/me?x=1')
  t.equal(page.url, `${BASE_URL}/auth/login?return_to=${encodeURIComponent(`${BASE_URL}/me?x=1`)}`)
  t.equal(page.status, 200)
  t.match(page.text(), 'Google &#60;b&#62;')
  t.match(page.headers.get('content-security-policy'), "default-src 'none'")
  t.equal(page.headers.get('cache-control'), 'no-store')
  t.same(
    [google.count('metadata'), corp.count('metadata'), browser.cookies.list().length],
    [0, 0, 0],
    'nothing is begun'
  )
  const after = await browser.goto(linkOf(page.text(), 'corp'))
  t.equal(after.url, `${BASE_URL}/me?x=1`)
  t.match(after.json(), { claims: { sub: 'employee' }, session: { provider: 'corp' } })

  t.match((await app.inject({ url: '/me', headers: { accept: 'application/json' } })).json(), {
    statusCode: 401,
    login: `${BASE_URL}/auth/login`
  })
  t.match((await app.inject({ url: '/intranet', headers: { accept: 'application/json' } })).json(), {
    statusCode: 401,
    login: `${BASE_URL}/auth/login?provider=corp`
  })
})

t.test('S48 V1 the choice lists the providers of the route, and keeps a safe return_to', async (t) => {
  const { app, browser } = await start(t, { loginParams: ['login_hint'] })
  const open = async (query: string) =>
    await app.inject({ url: `/auth/login${query}`, headers: { accept: 'text/html' } })
  const names = (body: string): string[] =>
    [...body.matchAll(/\/auth\/([\w-]+)\/login/g)].map(([, name]) => name as string)
  t.same(names((await open('')).body), ['google', 'corp'])
  t.same(names((await open('?provider=google+corp')).body), ['google', 'corp'])
  t.same(names((await open('?provider=corp+other')).body), ['corp'])
  t.match(authorizationParams({ location: (await open('?provider=corp')).headers.location as string }), {
    redirect_uri: `${BASE_URL}/auth/corp/callback`
  })
  for (const query of ['?provider=other', '?provider=__proto__', '?provider=../corp', '?provider=other+another']) {
    const response = await open(query)
    t.equal(response.statusCode, 404, query)
    t.match(response.body, 'FST_OIDC_PROVIDER_UNKNOWN')
  }
  t.equal((await open('?provider=corp&provider=google')).statusCode, 400, 'a repeated parameter')
  for (const evil of ['https://evil.example/', '//evil.example', '/\\evil.example', '/.//evil.example']) {
    const response = await open(`?return_to=${encodeURIComponent(evil)}`)
    t.equal(new URL(linkOf(response.body, 'corp')).searchParams.get('return_to'), `${BASE_URL}/`, evil)
  }
  const hinted = await browser.goto('/auth/login?login_hint=me%40example.com&prompt=none&return_to=/me')
  t.match(authorizationParams(await browser.step(linkOf(hinted.text(), 'corp'))), { login_hint: 'me@example.com' })
  t.notOk('prompt' in authorizationParams(await browser.step(linkOf(hinted.text(), 'corp'))))
  for (const headers of [
    { 'sec-fetch-mode': 'cors' },
    { 'sec-fetch-dest': 'iframe', 'sec-fetch-mode': 'navigate' },
    { 'x-requested-with': 'XMLHttpRequest' }
  ]) {
    t.equal((await app.inject({ url: '/auth/login', headers })).statusCode, 400)
    t.equal((await app.inject({ url: '/auth/corp/login', headers })).statusCode, 400)
  }
  t.equal((await app.inject({ url: '/auth/corp/login', headers: { 'sec-purpose': 'prefetch' } })).statusCode, 503)
})

t.test('a page of the application for the choice', async (t) => {
  const { app, browser } = await start(t, { loginPage: '/sign-in?theme=dark' })
  app.get('/sign-in', async (request) => request.query)
  app.get('/start', async (request, reply) => await app.oidc.login(request, reply, { returnTo: '/maybe' }))
  t.same((await browser.goto('/me')).json(), { theme: 'dark', return_to: `${BASE_URL}/me` })
  t.same((await browser.goto('/both')).json(), {
    theme: 'dark',
    return_to: `${BASE_URL}/both`,
    provider: 'google corp'
  })
  t.same((await browser.goto('/start')).json(), { theme: 'dark', return_to: `${BASE_URL}/maybe` })
})

t.test('without a page for the choice a user gets 401, without a loop', async (t) => {
  const { browser, app } = await start(t, { routes: { login: false } })
  const page = await browser.goto('/me')
  t.match([page.status, page.history.length], [401, 1])
  t.match(page.text(), /FST_OIDC_LOGIN_REQUIRED.*Back to the start/s)
  t.equal((await app.inject('/auth/corp/login')).statusCode, 404)
})

t.test('required({ provider }): a session of another provider counts as no session', async (t) => {
  const { app, google, corp, browser } = await start(t)
  await browser.goto('/auth/google/login')
  t.match((await browser.goto('/both')).json(), { sub: 'guest', provider: 'google' })
  t.match((await browser.fetch('/intranet')).json(), { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED' })
  t.same((await browser.fetch('/public')).json(), {}, 'an optional guard sees no user')
  const old = browser.cookies.get(SESSION_COOKIE) as string
  const page = await browser.goto('/intranet')
  t.match(
    [page.url, page.json()],
    [`${BASE_URL}/intranet`, { sub: 'employee', provider: 'corp' }],
    'straight to the login that helps'
  )
  t.equal(google.count('authorize'), 1)
  t.same((await browser.fetch('/public')).json(), { sub: 'employee', provider: 'corp' })
  t.equal(
    (await app.inject({ url: '/both', headers: { cookie: `${SESSION_COOKIE}=${old}` } })).statusCode,
    401,
    'one session at a time: the one before has ended'
  )
  t.same([google.count('revocation'), corp.count('token')], [0, 1])
})

t.test('required({ provider }) by a function, which fails closed', async (t) => {
  const { app, browser } = await start(t)
  let answer: () => string | undefined = () => 'corp'
  app.get('/by-function', { preHandler: app.oidc.required({ provider: () => answer() as string }) }, async () => 'in')
  await browser.goto('/auth/corp/login')
  t.equal((await browser.fetch('/by-function')).status, 200)
  for (const name of ['google', 'other', '', '__proto__', undefined]) {
    answer = () => name
    t.equal((await browser.fetch('/by-function')).status, 401, String(name))
    const page = await browser.step('/by-function')
    t.equal(page.status, name === 'google' ? 302 : 404, String(name))
  }
  answer = () => { throw new Error('no') }
  t.equal((await browser.fetch('/by-function')).status, 500)
  for (const provider of ['other', ['corp', 'other'], [], '', [7]]) {
    t.throws(() => app.oidc.required({ provider: provider as string }), {
      code: 'FST_OIDC_OPTION',
      message: /"provider"/
    })
  }
})

t.test('S16 a response at the callback of another provider is refused, and the login can go on', async (t) => {
  const { google, corp, browser } = await start(t)
  const stop = async (name: string): Promise<URL> =>
    new URL(
      (
        await browser.goto(`/auth/${name}/login?return_to=/me`, {
          until: ({ pathname }) => pathname.endsWith('/callback')
        })
      ).location as string
    )
  const right = await stop('google')
  const mixed = new URL(right)
  mixed.pathname = '/auth/corp/callback'
  const page = await browser.goto(mixed.href)
  t.match([page.status, page.text()], [400, /FST_OIDC_RESPONSE_ISSUER/])
  t.same([google.count('token'), corp.count('token')], [0, 0], 'the code goes nowhere')
  t.equal((await browser.goto(right.href)).url, `${BASE_URL}/me`)
  await assertLoggedIn(t, browser, 'guest')

  const other = await stop('corp')
  other.searchParams.set('iss', google.issuer)
  t.match((await browser.goto(other.href)).text(), 'FST_OIDC_RESPONSE_ISSUER')
  t.equal(corp.count('token'), 0)
  const [one, two] = [await stop('google'), await stop('corp')]
  two.searchParams.set('code', one.searchParams.get('code') as string)
  t.match(
    (await browser.goto(two.href)).url,
    `${BASE_URL}/me`,
    'a code of another provider is refused; the session stays'
  )
  await assertLoggedIn(t, browser, 'guest')
})

t.test('S16 S37 another provider under an old name does not get its sessions or logins', async (t) => {
  const { app, google, corp, browser } = await start(t)
  await browser.goto('/auth/corp/login')
  const callback = new URL(
    (await browser.goto('/auth/corp/login', { until: ({ pathname }) => pathname.endsWith('/callback') }))
      .location as string
  )
  const changes: Array<Partial<ProviderOptions>> = [optionsOf(google), optionsOf(corp, { clientId: 'other' })]
  for (const change of changes) {
    const changed = await buildApp(t, { ...shared, providers: { corp: change, google: optionsOf(google) } })
    const jar = browser.clone()
    const there = client({ app: changed, baseUrl: BASE_URL })
    for (const { name, value } of jar.cookies.list(BASE_URL)) there.cookies.set(name, value)
    const answer = await there.fetch('/me')
    t.equal(answer.status, 401)
    t.match(answer.headers.getSetCookie().join(), `${SESSION_COOKIE}=; Max-Age=0`, 'what is worth nothing is removed')
    t.equal((await there.goto(callback.href)).status, 400)
    const bye = await changed.inject({
      method: 'POST',
      url: '/auth/logout',
      headers: {
        cookie: browser.cookies.header(`${BASE_URL}/me`),
        'sec-fetch-site': 'same-origin',
        'sec-fetch-mode': 'navigate'
      }
    })
    t.equal(bye.headers.location, `${BASE_URL}/`, 'and is told of no logout')
  }
  const same = await buildApp(t, {
    ...shared,
    providers: { google: optionsOf(google), corp: optionsOf(corp, { scope: 'openid' }) }
  })
  t.equal(
    (await same.inject({ url: '/me', headers: { cookie: browser.cookies.header(`${BASE_URL}/me`) } })).statusCode,
    200,
    'other settings of the same client are no reason'
  )
  t.equal(
    (await app.inject({ url: '/me', headers: { cookie: browser.cookies.header(`${BASE_URL}/me`) } })).statusCode,
    200
  )
})

t.test('V16 tokens, refresh, UserInfo, revocation and logout use the provider of the session', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, google, corp } = await start(t, { session: { key: SESSION_KEY, idleTimeout: 28_800 } })
  for (const provider of [google, corp]) {
    provider.fault({
      on: 'token',
      tokenResponse: (answer) => {
        if (answer['refresh_token'] !== undefined) answer['refresh_token'] = 'the same at both'
      }
    })
  }
  const [guest, employee] = [client({ app, baseUrl: BASE_URL }), client({ app, baseUrl: BASE_URL })]
  await guest.goto('/auth/google/login')
  await employee.goto('/auth/corp/login')
  clock.advance(3590)
  google.clearRequests()
  corp.clearRequests()
  const answer = (provider: Provider, token: string): void => {
    provider.fault({
      on: 'token',
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ access_token: token, token_type: 'Bearer', expires_in: 3600 })
    })
  }
  answer(google, 'of google')
  answer(corp, 'of corp')
  const token = async (browser: TestBrowser) => (await browser.fetch('/token')).text()
  await Promise.all([token(guest), token(employee)])
  t.same(
    [google, corp].map(
      ({ requests }) => requests.find(({ endpoint }) => endpoint === 'userinfo')?.headers.authorization
    ),
    ['Bearer of google', 'Bearer of corp']
  )
  const bye = await employee.post('/auth/logout', {}, { until: ({ origin }) => origin === corp.url })
  t.match(bye.form?.action.href, `${corp.issuer}/end-session`)
  t.equal(google.count('revocation'), 0)
  t.equal((await guest.fetch('/me')).status, 200)
})

t.test('app.oidc.login with a provider', async (t) => {
  const { app, browser } = await start(t)
  app.get(
    '/start/:name',
    async (request, reply) =>
      await app.oidc.login(request, reply, { provider: (request.params as { name: string }).name, returnTo: '/me' })
  )
  t.match((await browser.goto('/start/corp')).json(), { session: { provider: 'corp' } })
  t.match((await browser.fetch('/start/other')).json(), { statusCode: 404, code: 'FST_OIDC_PROVIDER_UNKNOWN' })
  t.equal(
    (
      await app.inject({
        url: '/both',
        headers: { cookie: sessionCookie(app, { provider: 'corp', claims: { sub: 'x' } }) }
      })
    ).json().provider,
    'corp'
  )
  t.throws(() => sessionCookie(app, { provider: 'other' }), /not known/)
})

t.test('S82 wrong options of a provider are refused, and the message names the provider', async (t) => {
  const one = { issuer: 'https://id.example.com', clientId: 'web' }
  const wrong: Array<[object, RegExp]> = [
    [{ providers: {} }, /"providers" must be an object with a member/],
    [{ providers: [one] }, /"providers" must be an object with a member/],
    [{ providers: { corp: one }, resolveProvider: () => null }, /do not go together/],
    [{ providers: { corp: one }, issuer: 'https://id.example.com' }, /"issuer" belongs to one provider/],
    [{ providers: { corp: one }, label: 'x' }, /"label" belongs to one provider/],
    [{ resolveProvider: () => null, metadata: {} }, /"metadata" belongs to one provider/],
    [{ resolveProvider: {} }, /"resolveProvider" must be a function/],
    [{ resolveProvider: () => null, resolveMaxAge: -1 }, /"resolveMaxAge" must be a number from 0/],
    [{ providers: { corp: { ...one, issuer: 'x' } } }, /providers\.corp: "issuer" must be an absolute URL/],
    [{ providers: { corp: { ...one, baseUrl: 'https://x' } } }, /providers\.corp: "baseUrl" is not an option/],
    [{ providers: { corp: { clientId: 'x' } } }, /providers\.corp: one of "issuer"/],
    [{ providers: { corp: 'https://id.example.com' } }, /providers\.corp: the options must be an object/],
    [{ providers: { corp: { ...one, clientKey: 'x' } } }, /providers\.corp: "clientKey" must be a private key/],
    [{ providers: { corp: { ...one, clientKey: { kty: 'RSA' } } } }, /"clientKey" must be a private key/],
    [{ providers: { corp: { ...one, clientAuth: 'private_key_jwt' } } }, /"clientKey" does not go with/],
    [
      { providers: { corp: { ...one, clientAuth: 'tls_client_auth', clientSecret: 'x' } } },
      /"clientSecret" does not go with/
    ],
    [{ providers: { corp: { ...one, decryptionKey: { kty: 'RSA', d: 'x' } } } }, /"decryptionKey" goes with/],
    [{ providers: { corp: { ...one, idTokenEncryption: { alg: 'RSA-OAEP' } } } }, /"decryptionKey" goes with/],
    [
      { providers: { corp: { ...one, idTokenEncryption: { alg: 'RSA1_5' }, decryptionKey: { kty: 'RSA', d: 'x' } } } },
      /"idTokenEncryption\.alg" must be one of/
    ],
    [
      { providers: { corp: { ...one, idTokenEncryption: { alg: 'dir' }, decryptionKey: { kty: 'oct', d: 'x' } } } },
      /"idTokenEncryption\.alg" must be one of/
    ],
    [
      {
        providers: {
          corp: { ...one, userinfoEncryption: { alg: 'RSA-OAEP', enc: 'x' }, decryptionKey: { kty: 'RSA', d: 'x' } }
        }
      },
      /"userinfoEncryption\.enc" must be one of/
    ],
    [
      {
        providers: {
          corp: { ...one, userinfoEncryption: { alg: 'RSA-OAEP', zip: 'DEF' }, decryptionKey: { kty: 'RSA', d: 'x' } }
        }
      },
      /"userinfoEncryption\.zip" is not an option/
    ],
    [
      { providers: { corp: { ...one, idTokenEncryption: 'RSA-OAEP', decryptionKey: { kty: 'RSA', d: 'x' } } } },
      /"idTokenEncryption" must be an object/
    ],
    [
      { providers: { corp: { ...one, idTokenEncryption: { alg: 'RSA-OAEP' }, decryptionKey: [] } } },
      /"decryptionKey" must be 1 to 10 keys/
    ],
    [{ providers: { corp: { ...one, userinfoSigningAlg: 'none' } } }, /"userinfoSigningAlg" must be one of/],
    [{ providers: { corp: { ...one, resource: '/api' } } }, /"resource" must be absolute URIs/],
    [{ providers: { corp: { ...one, resource: 'https://api.example.com/#x' } } }, /"resource" must be absolute URIs/],
    [{ providers: { corp: one }, loginPage: 'https://evil.example/' }, /"loginPage" must be below/],
    [{ providers: { corp: one }, loginParams: ['redirect_uri'] }, /"loginParams" must not allow redirect_uri/],
    [{ providers: { corp: one }, loginParams: 'prompt' }, /"loginParams" must be an array/],
    ...['', '..', '../x', 'a/b', 'a b', 'ä', '-x', 'x'.repeat(65)].map((name): [object, RegExp] => [
      { providers: { [name]: one } },
      /the name must consist/
    ])
  ]
  for (const [options, message] of wrong) {
    t.throws(
      () => parseOptions({ baseUrl: BASE_URL, session: { key: SESSION_KEY }, ...options } as OidcOptions),
      { code: 'FST_OIDC_OPTION', message },
      JSON.stringify(options).slice(0, 90)
    )
  }
})

t.test('K12 at start, the log has the redirect URIs to register', async (t) => {
  const { baseUrl, session } = shared
  const own = { issuer: 'https://id.example.com', clientId: 'web', clientSecret: 'secret of web' }
  const cases: Array<[options: Partial<OidcOptions>, redirectUris: string[]]> = [
    [own, [`${baseUrl}/auth/callback`]],
    [{ ...own, baseUrl: `${baseUrl}/app`, routes: { prefix: '/id' } }, [`${baseUrl}/app/id/callback`]],
    [
      { providers: { one: own, two: own } as never },
      [`${baseUrl}/auth/one/callback`, `${baseUrl}/auth/two/callback`]
    ],
    [{ resolveProvider: async () => null }, [`${baseUrl}/auth/{provider}/callback`]]
  ]
  for (const [options, redirectUris] of cases) {
    const { lines, server } = captureLog()
    await buildApp(t, { baseUrl, session, ...options } as OidcOptions, server)
    const line = lines().split('\n').find((text) => text.includes('register these redirect URIs')) as string
    t.match(JSON.parse(line), { level: 30, redirectUris })
    t.notMatch(line, 'secret of web')
  }
})

t.test('S52 R1 health: the status of each provider, within the timeout', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { app, google, corp } = await start(t, {}, { timeout: 4 })
  t.same(await app.oidc.health(), { status: 'ok', providers: { google: { status: 'ok' }, corp: { status: 'ok' } } })
  t.same(await app.oidc.health(), { status: 'ok', providers: { google: { status: 'ok' }, corp: { status: 'ok' } } })
  t.same(
    [google, corp].map((provider) => [provider.count('metadata'), provider.count('jwks')]),
    [
      [1, 1],
      [1, 1]
    ],
    'a probe asks only for what is missing or too old'
  )
  const back = corp.fault({ on: 'jwks', status: 500 }, { on: 'metadata', status: 500 })
  clock.advance(3601)
  t.match(await app.oidc.health(), {
    status: 'degraded',
    providers: { google: { status: 'ok' }, corp: { status: 'stale' } }
  })
  clock.advance(24 * 3600)
  t.match(await app.oidc.health(), {
    status: 'degraded',
    providers: { google: { status: 'ok' }, corp: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } }
  })
  back()
  const gate = createGate()
  let answered = false
  corp.fault({ on: 'metadata', before: async () => { await gate.pass(); answered = true } })
  clock.advance(60)
  t.match(await app.oidc.health(), { providers: { corp: { status: 'unavailable' } } })
  t.notOk(answered, 'the timeout ends the wait, not the answer of the provider')
  gate.open()
  corp.clearFaults()
  clock.advance(60)
  t.match(await app.oidc.health(), { status: 'ok' }, 'healthy again without a restart')
})

t.test('health warns when the marks of logouts are nowhere but in memory, and the log has it once', async (t) => {
  const provider = await startedProvider(t, 'alice')
  const memory = createMemoryStore()
  const cases: Array<[what: string, isDurable: Store['isDurable'], session: object, isWarned: boolean]> = [
    ['not durable', async () => false, {}, true],
    ['durable', async () => true, {}, false],
    ['unknown', async () => undefined, {}, false],
    ['a store that does not tell', undefined, {}, false],
    ['a store that fails', async () => { throw new Error('down') }, {}, false],
    ['sessions in the store', async () => false, { store: true }, false]
  ]
  for (const [what, isDurable, session, isWarned] of cases) {
    const { lines, server } = captureLog()
    const store: Store = { ...memory, ...(isDurable !== undefined && { isDurable }) }
    const options = { ...shared, ...optionsOf(provider), store, session: { ...shared.session, ...session } }
    const app = await buildApp(t, options as OidcOptions, server)
    const healthy = { status: 'ok', providers: { default: { status: 'ok' } }, store: { status: 'ok' } }
    for (let probe = 0; probe < 2; probe++) {
      const { warnings, ...health } = await app.oidc.health()
      t.same(health, healthy, what)
      t.match(warnings, isWarned ? [/^The store keeps nothing on disk/] : undefined, what)
    }
    t.equal(lines().split('keeps nothing on disk').length - 1, isWarned ? 1 : 0, what)
  }
})

t.test('S52 eager: one unavailable provider of several stops the start', async (t) => {
  const provider = await startedProvider(t, 'alice')
  provider.fault({ on: 'metadata', status: 500 })
  const app = Fastify()
  const providers = { good: optionsOf(provider), bad: optionsOf(provider, { discovery: 'eager' }) }
  await t.rejects(async () => await app.register(oidc, { ...shared, providers }), {
    code: 'FST_OIDC_PROVIDER_UNAVAILABLE'
  })
})

t.test('S54 NODE_TLS_REJECT_UNAUTHORIZED=0 is logged as an error', async (t) => {
  const { lines, server } = captureLog()
  const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  t.teardown(() => {
    if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before
  })
  await start(t, {}, {}, server)
  t.match(lines(), /"level":50.*NODE_TLS_REJECT_UNAUTHORIZED/)
})

/** Two registrations in scopes that stand side by side. */
async function siblings (
  t: Test,
  scopes: Array<{ prefix?: string; options?: Partial<OidcOptions> }>
): Promise<{
  app: FastifyInstance
  providers: Provider[]
  browser: TestBrowser
  oidcs: Array<FastifyInstance['oidc']>
}> {
  const app = Fastify()
  t.teardown(async () => await app.close())
  const providers: Provider[] = []
  const oidcs: Array<FastifyInstance['oidc']> = []
  for (const [index, { prefix, options }] of scopes.entries()) {
    const provider = await startedProvider(t, `person ${index}`)
    providers.push(provider)
    await app.register(async (scope) => {
      await scope.register(oidc, { ...shared, ...optionsOf(provider), ...options })
      oidcs.push(scope.oidc)
      scope.get(`/me${index}`, { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => oidcClaims)
      scope.get(`/token-of-another${index}`, async (request) => await oidcs[1 - index]?.accessToken(request))
    }, { ...(prefix !== undefined && { prefix }) })
  }
  return { app, providers, browser: client({ app, baseUrl: BASE_URL }), oidcs }
}

t.test('R34 two registrations in sibling scopes share nothing', async (t) => {
  const long = `/${'x'.repeat(60)}`
  const cases = [
    {
      scopes: [{ prefix: '/staff' }, { prefix: '/customers' }],
      paths: ['/staff', '/customers'],
      auth: ['/staff/auth', '/customers/auth']
    },
    { scopes: [{}, { options: { routes: { prefix: '/login' } } }], paths: ['', ''], auth: ['/auth', '/login'] },
    {
      scopes: [{ prefix: `${long}/a` }, { prefix: `${long}/b` }],
      paths: [`${long}/a`, `${long}/b`],
      auth: [`${long}/a/auth`, `${long}/b/auth`]
    }
  ]
  for (const { scopes, paths, auth } of cases) {
    const { app, providers, browser } = await siblings(t, scopes)
    const waiting = await browser.goto(`${auth[1]}/login`, { until: ({ pathname }) => pathname.endsWith('/callback') })
    await browser.goto(`${auth[0]}/login?return_to=${paths[0]}/me0`)
    t.equal(
      (await browser.goto(waiting.location as string)).status,
      404,
      'the page at / is not there, but the login was completed'
    )
    const [first, second] = [await browser.fetch(`${paths[0]}/me0`), await browser.fetch(`${paths[1]}/me1`)]
    t.match([first.json(), second.json()], [{ sub: 'person 0' }, { sub: 'person 1' }], 'both at once in one browser')
    const names = browser.cookies.list(BASE_URL).map(({ name }) => name).filter((name) => !/login-|tokens/.test(name))
    t.equal(new Set(names).size, 2, names.join())
    const cookie = (index: number): string => browser.cookies.get(names[index] as string) as string
    const swapped = `${names[0]}=${cookie(1)}; ${names[1]}=${cookie(0)}`
    for (const index of [0, 1]) {
      t.equal(
        (await app.inject({ url: `${paths[index]}/me${index}`, headers: { cookie: swapped } })).statusCode,
        401,
        'with the same key, one cookie is none in the other'
      )
    }
    t.not(
      (await browser.fetch(`${paths[0]}/token-of-another0`)).text(),
      (await browser.fetch(`${paths[1]}/token-of-another1`)).text(),
      'each reads its own session of a request'
    )
    await browser.post(`${auth[0]}/logout`)
    t.same(
      [(await browser.fetch(`${paths[0]}/me0`)).status, (await browser.fetch(`${paths[1]}/me1`)).status],
      [401, 200],
      'and a logout is of one'
    )
    t.same(
      providers.map((provider) => provider.count('token')),
      [1, 1]
    )
  }
})

t.test('R38 no query of the login page causes a 5xx, or leads elsewhere than to the providers', async (t) => {
  const { app, google, corp } = await start(t, {
    loginParams: ['prompt', 'max_age', 'claims', 'resource', 'login_hint']
  })
  const names = fc.constantFrom(
    'provider', 'return_to', 'prompt', 'max_age', 'claims', 'resource', 'state', 'redirect_uri', 'client_id',
    '__proto__'
  )
  const values = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'corp', 'google', 'google corp', '//evil.example', 'https://evil.example', '{}', '1', 'constructor',
      '\u0000', '%', 'https://api.example.com/#x'
    )
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(names, values), { maxLength: 5 }), async (pairs) => {
      const response = await app.inject({
        url: `/auth/login?${new URLSearchParams(pairs).toString()}`,
        headers: { accept: 'text/html' }
      })
      if (response.statusCode >= 500) return false
      const { location } = response.headers
      if (location === undefined) return true
      const url = new URL(location)
      return (
        [google.url, corp.url].includes(url.origin) &&
        url.searchParams.get('client_id') === 'web' &&
        (url.searchParams.get('redirect_uri') ?? '').startsWith(`${BASE_URL}/auth/`) &&
        url.searchParams.get('state') !== ''
      )
    }),
    { numRuns: 300 }
  )
})
