import t from 'tap'
import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import { createSeen } from '../../lib/store/seen.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { client, logoutFaults, sessionCookie, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock } from '../support/app.ts'
import { faultyStore, modes } from '../support/modes.ts'
import { until } from '../support/until.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcOptions, OidcSession } from '../../index.ts'
import type { Provider, SendLogoutOptions, TestBrowser } from '../../lib/testing/index.ts'

const URL_ = `${BASE_URL}/auth/backchannel-logout`

async function statusOf (browser: TestBrowser): Promise<number> {
  return (await browser.fetch('/me')).status
}

async function sidOf (browser: TestBrowser): Promise<string> {
  return ((await browser.fetch('/me')).json() as { session: OidcSession }).session.sid as string
}

async function post (app: FastifyInstance, payload: string, headers: Record<string, string> = {}) {
  return await app.inject({
    method: 'POST',
    url: '/auth/backchannel-logout',
    payload,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers }
  })
}

/** The same browser at another process. */
function seenBy (app: FastifyInstance, browser: TestBrowser): () => Promise<number> {
  const cookie = browser.cookies.header(BASE_URL)
  return async () => (await app.inject({ url: '/me', headers: { cookie } })).statusCode
}

for (const { name, shared, listed, options } of modes) {
  const withStore = (): Partial<OidcOptions> => options(shared ? createMemoryStore() : undefined)

  t.test(`C27 S63 S65 V29 ${name}: a sid ends one session, a sub ends all, and later sessions stay`, async (t) => {
    const own = withStore()
    const { app, provider } = await startApp(t, own)
    const other = await buildApp(t, optionsFor(provider, own))
    const send = async (token: SendLogoutOptions) => await provider.sendLogoutToken(URL_, { app, ...token })
    const browsers = [
      await logIn({ app, provider }, 'alice'),
      await logIn({ app, provider }, 'alice'),
      await logIn({ app, provider }, 'alice'),
      await logIn({ app, provider }, 'bob')
    ]
    const [first, second, bob] = [browsers[0], browsers[1], browsers[3]] as [TestBrowser, TestBrowser, TestBrowser]
    const elsewhere = browsers.map((browser) => seenBy(other, browser))

    const answer = await send({ sub: 'alice', sid: await sidOf(first), ...logoutFaults.valid })
    t.match(
      [answer.status, answer.body, answer.headers.get('cache-control'), answer.headers.get('set-cookie')],
      [200, '', 'no-store', null]
    )
    t.same(await Promise.all(browsers.map(statusOf)), [401, 200, 200, 200], 'exactly that session')
    if (shared) {
      t.same(
        await Promise.all(elsewhere.map(async (status) => await status())),
        [401, 200, 200, 200],
        'on another process as well'
      )
    }

    t.equal((await send({ sub: 'bob', sid: await sidOf(second) })).status, 200)
    t.equal(await statusOf(second), 200, 'the sid of another user ends no session')

    const again = provider.logoutToken({ sub: 'alice' })
    t.equal((await post(app, `logout_token=${again}`)).statusCode, 200)
    t.same(await Promise.all(browsers.map(statusOf)), [401, 401, 401, 200], 'all of the person')
    if (shared) t.same(await Promise.all(elsewhere.map(async (status) => await status())), [401, 401, 401, 200])

    const later = await logIn({ app, provider }, 'alice')
    t.equal(await statusOf(later), 200, 'a login after that is not concerned')
    t.same(
      await Promise.all(elsewhere.slice(0, 3).map(async (status) => await status())).then((statuses) =>
        shared ? statuses : [401, 401, 401]
      ),
      [401, 401, 401],
      'and brings none back'
    )
    t.equal((await post(app, `logout_token=${again}`)).statusCode, 200)
    if (shared) t.equal((await post(other, `logout_token=${again}`)).statusCode, 200)
    t.equal(await statusOf(later), 200, 'a logout token that is sent again ends nothing')
    t.equal((await send({ sub: 'nobody', sid: 'unknown' })).status, 200, 'a logout of an unknown user succeeds')
    t.equal((await send({ sid: await sidOf(bob) })).status, 200, 'a sid alone will do')
    t.equal(await statusOf(bob), 401)
  })

  t.test(`R29 ${name}: a logout during a login, or during a request`, async (t) => {
    let during = async (): Promise<unknown> => undefined
    const store = createMemoryStore()
    const { app, provider } = await startApp(t, { ...options(store), onClaims: async () => { await during() } })
    app.get('/slow', { preHandler: app.oidc.required() }, async () => { await during(); return {} })
    during = async () => await provider.sendLogoutToken(URL_, { app, sub: 'alice' })
    await t.rejects(logIn({ app, provider }, 'alice'), /401/)
    if (listed) t.same(await app.oidc.sessions.list({ sub: 'alice' }), [], 'no session is left behind')

    during = async () => undefined
    const browser = await logIn({ app, provider }, 'alice')
    during = async () => await provider.sendLogoutToken(URL_, { app, sub: 'alice' })
    const page = await browser.fetch('/slow')
    t.equal(page.status, 200, 'what is under way is finished')
    during = async () => undefined
    t.equal(await statusOf(browser), 401)
  })

  t.test(`S65 ${name}: a logout token that comes late`, async (t) => {
    const { app, provider } = await startApp(t, options())
    const browser = await logIn({ app, provider }, 'alice')
    const issued = async (secondsAgo: number): Promise<number> =>
      (
        await provider.sendLogoutToken(URL_, {
          app,
          sub: 'alice',
          overrides: { iat: Math.floor(Date.now() / 1000) - secondsAgo, exp: undefined }
        })
      ).status
    t.equal(await issued(60), 200)
    t.equal(await statusOf(browser), 200, 'it does not end a later session')
    t.equal(await issued(20), 200)
    t.equal(await statusOf(browser), 401, 'but clocks differ')

    const again = await logIn({ app, provider }, 'alice')
    t.equal(
      (
        await provider.sendLogoutToken(URL_, {
          app,
          sub: 'alice',
          sid: await sidOf(again),
          overrides: { iat: Math.floor(Date.now() / 1000) - 320, exp: undefined }
        })
      ).status,
      200
    )
    t.equal(await statusOf(again), 401, 'a session that it names is over, whatever the clocks say')
  })

  t.test(`S65 ${name}: an older logout does not undo a newer one`, async (t) => {
    const { app, provider } = await startApp(t, options())
    const browser = await logIn({ app, provider }, 'alice')
    await app.oidc.sessions.revoke({ sub: 'alice' })
    t.equal(await statusOf(browser), 401)
    t.equal(
      (
        await provider.sendLogoutToken(URL_, {
          app,
          sub: 'alice',
          overrides: { iat: Math.floor(Date.now() / 1000) - 100, exp: undefined }
        })
      ).status,
      200
    )
    t.equal(await statusOf(browser), 401)
  })

  t.test(`S65 ${name}: a session that the provider has ended before it began, and a long sid`, async (t) => {
    const sid = 's'.repeat(300)
    const { app, provider, browser } = await startApp(t, options())
    provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, sid }) })
    t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
    t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice', sid })).status, 200)
    t.equal(await statusOf(browser), 401)
    t.match(await browser.goto('/auth/login?return_to=/me'), { status: 401 }, 'a code that was on its way')
    t.equal(await statusOf(browser), 401)
  })

  t.test(`S64 ${name}: at the very moment of the logout`, async (t) => {
    const clock = stopClock(t)
    const { app, provider } = await startApp(t, options())
    const before = await logIn({ app, provider }, 'alice')
    t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice' })).status, 200)
    t.equal(await statusOf(before), 401, 'a session of the same millisecond ends')
    clock.advance(1)
    t.equal(await statusOf(await logIn({ app, provider }, 'alice')), 200)
    clock.advance(28_700)
    t.equal(await statusOf(before), 401, 'for as long as the session could last')
  })
}

t.test('C28-C34 S64 V29 a logout token that is wrong ends nothing', async (t) => {
  const lines: string[] = []
  const stream = { write: (line: string) => { lines.push(line) } }
  const { app, provider } = await startApp(t, {}, {}, { logger: { level: 'trace', stream } })
  const browser = await logIn({ app, provider }, 'alice')
  const sid = await sidOf(browser)
  const good = ['valid', 'no-exp', 'typ-jwt', 'no-typ']
  for (const [name, fault] of Object.entries(logoutFaults).filter(([name]) => !good.includes(name))) {
    const answer = await provider.sendLogoutToken(URL_, { app, sub: 'alice', sid, ...fault })
    t.match([answer.status, JSON.parse(answer.body)], [400, { error: 'invalid_request', error_description: /./ }], name)
    t.equal(answer.headers.get('cache-control'), 'no-store', name)
    t.equal(await statusOf(browser), 200, name)
  }
  const more: Array<[string, SendLogoutOptions['overrides'] & object]> = [
    ['iat too old', { iat: Math.floor(Date.now() / 1000) - 331, exp: undefined }],
    ['iat a string', { iat: String(Math.floor(Date.now() / 1000)) }],
    ['iat not finite', { iat: 1e300 }],
    ['jti a number', { jti: 7 }],
    ['jti empty', { jti: '' }],
    ['jti long', { jti: 'x'.repeat(1001) }],
    ['sub empty', { sub: '' }],
    ['sid an array', { sid: [sid] }],
    ['events null', { events: null }],
    ['nonce null', { nonce: null }],
    ['aud of others', { aud: ['other', 'another'] }],
    ['iss an array', { iss: [provider.issuer] }],
    ['sub null', { sub: null, sid }]
  ]
  for (const [name, overrides] of more) {
    t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice', sid, overrides })).status, 400, name)
    t.equal(await statusOf(browser), 200, name)
  }
  t.equal((await post(app, `logout_token=${provider.idToken({ sub: 'alice' })}`)).statusCode, 400, 'an ID token')
  t.notMatch(lines.join(), /eyJ[\w-]+\.eyJ/, 'no token is in the log')

  for (const name of good as Array<'valid'>) {
    t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'nobody', ...logoutFaults[name] })).status, 200, name)
  }
  t.equal(
    (
      await provider.sendLogoutToken(URL_, {
        app,
        sub: 'alice',
        overrides: { iat: Math.floor(Date.now() / 1000) - 320, exp: undefined }
      })
    ).status,
    200,
    'just in time'
  )
  t.equal(await statusOf(browser), 200, 'a session that began after the token was issued stays')
})

t.test('S63 requests without a valid form are refused', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  const token = provider.logoutToken({ sub: 'alice' })
  const bad: Array<[string, Promise<{ statusCode: number, json: () => unknown }>]> = [
    ['no token', post(app, 'other=1')],
    ['nothing', post(app, '')],
    ['an empty token', post(app, 'logout_token=')],
    ['two tokens', post(app, `logout_token=${token}&logout_token=${token}`)],
    ['no JWT', post(app, 'logout_token=abc')],
    ['too large', post(app, `logout_token=${token}&x=${'x'.repeat(70_000)}`)],
    ['JSON', post(app, JSON.stringify({ logout_token: token }), { 'content-type': 'application/json' })],
    ['in the address', app.inject({ method: 'POST', url: `/auth/backchannel-logout?logout_token=${token}` })]
  ]
  for (const [name, answer] of bad) {
    const { statusCode, json } = await answer
    t.match(
      [statusCode, json()],
      name === 'too large'
        ? [413, { code: 'FST_OIDC_BODY' }]
        : name === 'JSON'
          ? [415, { code: 'FST_OIDC_MEDIA_TYPE' }]
          : [400, { error: 'invalid_request' }],
      name
    )
  }
  t.equal((await app.inject({ url: `/auth/backchannel-logout?logout_token=${token}` })).statusCode, 405, 'GET')
  t.equal(await statusOf(browser), 200)
  t.equal(
    (
      await post(app, `logout_token=${token}`, {
        origin: 'https://provider.test',
        cookie: browser.cookies.header(BASE_URL)
      })
    ).statusCode,
    200,
    'from anywhere'
  )
  t.equal(await statusOf(browser), 401)
})

t.test('S64 S65 several providers: each logs out its own users only', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const optionsOf = ({ issuer, clients: [client] }: Provider) => ({
    issuer,
    clientId: 'web',
    clientSecret: client?.client_secret as string
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    providers: { one: optionsOf(one), two: optionsOf(two) }
  })
  const browsers = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const browser = client({ app, baseUrl: BASE_URL })
      t.equal((await browser.goto(`/auth/${name}/login`)).status, 200)
      return browser
    })
  )
  const url = (name: string): string => `${BASE_URL}/auth/${name}/backchannel-logout`
  t.equal((await one.sendLogoutToken(url('two'), { app, sub: 'alice' })).status, 400)
  t.equal((await one.sendLogoutToken(url('three'), { app, sub: 'alice' })).status, 404)
  t.same(await Promise.all(browsers.map(statusOf)), [200, 200])
  t.equal((await one.sendLogoutToken(url('one'), { app, sub: 'alice' })).status, 200)
  t.same(await Promise.all(browsers.map(statusOf)), [401, 200], 'the same sub at another provider is another user')
})

t.test('S66 logout tokens of unknown keys do not flood the provider', async (t) => {
  const { app, provider } = await startApp(t)
  await logIn({ app, provider }, 'alice')
  provider.clearRequests()
  const tokens = Array.from({ length: 200 }, () =>
    provider.logoutToken({ sub: 'alice', ...logoutFaults['unknown-kid'] })
  )
  const statuses = await Promise.all(tokens.map(async (token) => (await post(app, `logout_token=${token}`)).statusCode))
  t.same([...new Set(statuses)], [400])
  t.ok(provider.requests.length <= 10, `${provider.requests.length} requests`)
})

t.test('S68 S61 a logout revokes the refresh token unless it is for offline use', async (t) => {
  for (const [offlineAccess, revoked] of [
    [false, ['revocation']],
    [true, []]
  ] as const) {
    const { app, provider } = await startApp(
      t,
      { offlineAccess, store: createMemoryStore(), session: { key: SESSION_KEY, store: true } },
      { refreshTokens: 'always' }
    )
    const browser = await logIn({ app, provider }, 'alice')
    const later = await logIn({ app, provider }, 'bob')
    provider.clearRequests()
    t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice' })).status, 200)
    t.equal(await statusOf(browser), 401)
    // The revocation of a later logout arrives after those before it.
    await until(() => provider.requests.length >= revoked.length)
    await app.inject({
      method: 'POST',
      url: '/auth/logout',
      headers: { origin: BASE_URL, cookie: later.cookies.header(BASE_URL) }
    })
    await until(() => provider.requests.length > revoked.length)
    t.same(
      provider.requests.map(({ endpoint }) => endpoint),
      [...revoked, 'revocation'],
      `offline_access ${offlineAccess}`
    )
  }
  const { app, provider } = await startApp(
    t,
    { store: createMemoryStore(), session: { key: SESSION_KEY, store: true } },
    { refreshTokens: 'always' }
  )
  await logIn({ app, provider }, 'alice')
  provider.fault({ on: 'revocation', status: 500 })
  t.equal(
    (await provider.sendLogoutToken(URL_, { app, sub: 'alice' })).status,
    200,
    'a revocation that fails does not fail the logout'
  )
  await until(() => provider.count('revocation') === 1)
})

for (const { name, options } of modes.filter(({ shared }) => shared)) {
  t.test(`S63 R25 ${name}: an unavailable store is 400, and the same logout token works later`, async (t) => {
    const { store, fault } = faultyStore()
    const { app, provider } = await startApp(t, options(store))
    const other = await buildApp(t, optionsFor(provider, options(store)))
    const browser = await logIn({ app, provider }, 'alice')
    const elsewhere = seenBy(other, browser)
    const token = provider.logoutToken({ sub: 'alice' })
    for (const verb of ['get', 'create', 'all']) {
      fault.verbs = new Set([verb])
      const answer = await post(app, `logout_token=${token}`)
      t.match(
        [answer.statusCode, answer.json()],
        [
          400,
          { error: 'invalid_request', error_description: 'This application cannot look up who you are at the moment.' }
        ],
        verb
      )
    }
    fault.verbs = null
    t.equal(await elsewhere(), 200)
    t.equal((await post(app, `logout_token=${token}`)).statusCode, 200)
    t.same([await statusOf(browser), await elsewhere()], [401, 401])
  })
}

t.test('S63 unavailable keys are 400 as well', async (t) => {
  const { app, provider } = await startApp(t)
  provider.fault({ on: 'jwks', status: 503 })
  const answer = await provider.sendLogoutToken(URL_, { app, sub: 'alice' })
  t.match(
    [answer.status, JSON.parse(answer.body)],
    [400, { error: 'invalid_request', error_description: 'The identity provider does not answer at the moment.' }]
  )
})

t.test('R30 a thousand sessions of one user end at once, and no other session', async (t) => {
  const store = createMemoryStore()
  const ended: string[] = []
  const { app, provider } = await startApp(t, {
    store,
    session: { key: SESSION_KEY, store: true },
    onLogout: ({ id }, { reason, request }) => {
      t.same([reason, request], ['backchannel', null])
      ended.push(id)
      if (ended.length === 3) throw new Error('the application fails')
    }
  })
  const cookies = Array.from({ length: 1000 }, () => sessionCookie(app))
  const other = sessionCookie(app, { claims: { sub: 'bob' } })
  t.equal((await app.oidc.sessions.list({ sub: 'alice' })).length, 1000)
  t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice' })).status, 200)
  t.equal(new Set(ended).size, 1000, 'the application is told of each')
  t.same(await app.oidc.sessions.list({ sub: 'alice' }), [])
  const statuses = await Promise.all(
    cookies.map(async (cookie) => (await app.inject({ url: '/me', headers: { cookie } })).statusCode)
  )
  t.same([...new Set(statuses)], [401])
  t.equal((await app.inject({ url: '/me', headers: { cookie: other } })).statusCode, 200)
})

t.test('R32 a bounded number of logout tokens is remembered', async (t) => {
  const clock = stopClock(t)
  const memory = createSeen(undefined)
  const until = Date.now() / 1000 + 660
  for (let id = 0; id < 100_000; id++) await memory.add(['id', String(id)], until)
  t.same(
    [await memory.has(['id', '0']), await memory.has(['id', '99999']), await memory.has(['id', 'other'])],
    [true, true, false]
  )
  await memory.add(['one more'], until)
  t.same([await memory.has(['id', '0']), await memory.has(['id', '1'])], [false, true])
  clock.advance(660)
  t.equal(await memory.has(['id', '1']), false, 'and no longer than they are accepted')
})

t.test('S64 an encrypted logout token, where ID tokens are encrypted', async (t) => {
  const { privateKey, publicKey } = await generateKeyPair('RSA-OAEP-256', { extractable: true })
  const key = { ...(await exportJWK(privateKey)), kid: 'enc', use: 'enc', alg: 'RSA-OAEP-256' }
  const { app, provider } = await startApp(t, {
    idTokenEncryption: { alg: 'RSA-OAEP-256', enc: 'A256GCM' },
    decryptionKey: key
  })
  const cookie = sessionCookie(app, { sid: 'sid' })
  const encrypt = async (content: string): Promise<string> =>
    await new CompactEncrypt(Buffer.from(content))
      .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A256GCM', kid: 'enc', cty: 'JWT' })
      .encrypt(publicKey)
  const status = async (): Promise<number> => (await app.inject({ url: '/me', headers: { cookie } })).statusCode
  for (const token of [
    provider.logoutToken({ sub: 'alice' }),
    await encrypt('nonsense'),
    await encrypt(provider.logoutToken({ sub: 'alice', ...logoutFaults['wrong-aud'] }))
  ]) {
    t.equal((await post(app, `logout_token=${token}`)).statusCode, 400)
  }
  t.equal(await status(), 200)
  t.equal((await post(app, `logout_token=${await encrypt(provider.logoutToken({ sub: 'alice' }))}`)).statusCode, 200)
  t.equal(await status(), 401)
})

t.test('the back-channel and front-channel logout routes can be moved and left out', async (t) => {
  const { app, provider } = await startApp(t, { routes: { backchannelLogout: 'bye', frontchannelLogout: false } })
  const browser = await logIn({ app, provider }, 'alice')
  t.equal((await app.inject('/auth/frontchannel-logout')).statusCode, 404)
  t.equal((await provider.sendLogoutToken(URL_, { app, sub: 'alice' })).status, 404)
  t.equal((await provider.sendLogoutToken(`${BASE_URL}/auth/bye`, { app, sub: 'alice' })).status, 200)
  t.equal(await statusOf(browser), 401)
})
