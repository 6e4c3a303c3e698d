import Fastify from 'fastify'
import t from 'tap'
import { nothingKept } from '../../lib/session/kept-tokens.ts'
import { createRefreshes } from '../../lib/session/refresh-once.ts'
import { createTelemetry } from '../../lib/telemetry.ts'
import { startClock } from '../../lib/testing/index.ts'
import { SESSION_KEY, logIn, startApp, stopClock } from '../support/app.ts'
import type { Provider as OpenIdProvider } from '../../lib/provider/provider.ts'

t.setTimeout(120_000) // where other work shares the cores

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
  t.equal(touched.history[0]?.setCookie.length, 1, 'the other request writes the session cookie only')
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

t.test('R22 a refreshed ID token that is too large for the cookies does not end the session', async (t) => {
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

t.test('R31 R3 a failed refresh is tried again after five seconds', async (t) => {
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

t.test('S58 R3 a refresh while the keys cannot be fetched drops the ID token and keeps the session', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true }, { accessTokenTtl: 300 })
  const clock = startClock()
  t.teardown(() => clock.restore())
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const browser = await logIn({ app, provider }, 'alice')
  provider.rotateKeys()
  const off = provider.fault({ on: 'jwks', status: 503 })
  clock.advance(400)
  const token = await browser.fetch('/token')
  t.equal(token.status, 200)
  off()
  clock.advance(100)
  t.equal((await browser.fetch('/token')).text(), token.text())
  clock.advance(400)
  t.equal((await browser.fetch('/token')).status, 200, 'the refresh token of the response was kept')
  provider.fault({ on: 'token', signWith: 'other-key' })
  clock.advance(400)
  t.equal((await browser.fetch('/token')).status, 403, 'a wrong ID token is refused')
})

t.test('R32 at most 10,000 results of refreshes are shared, each for a minute', async (t) => {
  const clock = stopClock(t)
  let asked = 0
  const provider = {
    id: 'provider',
    settings: { resource: [] },
    refresh: async (refreshToken: string) => {
      asked += 1
      return { tokens: { access_token: `new ${refreshToken}`, token_type: 'bearer' }, claims: undefined }
    }
  }
  const refreshes = createRefreshes({
    log: Fastify().log,
    telemetry: await createTelemetry({ telemetry: false, resolveProvider: undefined }),
    store: undefined,
    kept: nothingKept
  })
  const token = async (refreshToken: string): Promise<string> => {
    const fresh = await refreshes.refresh(provider as unknown as OpenIdProvider, {
      access_token: 'old',
      expires_at: 1,
      refresh_token: refreshToken
    }, { sub: 'alice', authTime: undefined })
    return fresh.tokens.access_token
  }
  for (let count = 0; count < 10_000; count++) await token(`token ${count}`)
  t.equal(asked, 10_000)
  t.equal(await token('token 0'), 'new token 0')
  t.equal(asked, 10_000, 'ten thousand')
  await token('one more')
  await token('token 1')
  t.equal(asked, 10_001)
  await token('token 0')
  t.equal(asked, 10_002, 'past the limit the oldest is refreshed again')
  clock.advance(60)
  await token('token 9999')
  t.equal(asked, 10_003, 'after a minute as well')
})
