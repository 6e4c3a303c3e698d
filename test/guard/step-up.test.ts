import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, registrationOf, startApp, stopClock } from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { SESSION_COOKIE, authorizationParams } from '../support/protocol.ts'
import type { OidcSession } from '../../index.ts'
import type { GuardOptions } from '../../types/options.ts'
import type { Page } from '../../lib/testing/index.ts'

/** What the address of the login asks the provider for. */
function asked (page: Page): Record<string, string | undefined> {
  const { max_age: maxAge, acr_values: acrValues } = authorizationParams(page)
  return { maxAge, acrValues }
}

/** The address of a login, with the page to which it returns. */
function withReturn (login: string, page: string): string {
  const url = new URL(login)
  url.searchParams.set('return_to', page)
  return url.href
}

t.test('K13 a 401 tells a script what is missing, and its login asks the provider for exactly that', async (t) => {
  const clock = stopClock(t)
  const { app, provider, browser } = await startApp(t)
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: 'gold' }) })
  const cases: Array<[path: string, constraints: GuardOptions, told: object, wanted: object]> = [
    ['/age', { maxAge: 60 }, { max_age: 60 }, { maxAge: '60', acrValues: undefined }],
    ['/zero', { maxAge: 0 }, { max_age: 0 }, { maxAge: '0', acrValues: undefined }],
    ['/acr', { acr: ['gold', 'platinum'] }, { acr_values: 'gold platinum' }, {
      maxAge: undefined,
      acrValues: 'gold platinum'
    }],
    ['/both', { maxAge: 60, acr: 'gold' }, { max_age: 60, acr_values: 'gold' }, { maxAge: '60', acrValues: 'gold' }]
  ]
  for (const [path, constraints] of cases) {
    app.get(path, { preHandler: app.oidc.required(constraints) }, async ({ oidcSession }) => ({ session: oidcSession }))
  }
  await browser.goto('/me')
  for (const [path, , told, wanted] of cases) {
    clock.advance(1000)
    browser.cookies.delete(SESSION_COOKIE)
    provider.clearFaults()
    await browser.goto('/me')
    const before = (await browser.fetch('/me')).json().session as OidcSession
    clock.advance(100)
    const refused = await browser.fetch(path)
    const { login, ...rest } = refused.json() as { login: string }
    t.equal(refused.status, 401, path)
    t.same(rest, {
      statusCode: 401,
      code: 'FST_OIDC_AUTHENTICATION_TOO_OLD',
      error: 'Unauthorized',
      message: 'You need to log in again.',
      ...told
    })
    t.same(asked(await browser.step(login)), wanted, path)
    provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: 'gold' }) })
    const page = await browser.goto(withReturn(login, path), { from: BASE_URL })
    t.match([page.status, page.url], [200, BASE_URL + path])
    const after = page.json().session as OidcSession
    if (path !== '/acr') t.ok((after.authTime as number) > (before.authTime as number), 'a new authentication')
    t.equal(after.acr, 'gold')
    t.equal((await browser.fetch(path)).status, 200, 'now the script may')
  }
})

t.test('K13 a script that is not logged in is told the same, and a posted form gets a page with that link', async (t) => {
  const { app } = await startApp(t)
  app.post('/transfer', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'done')
  app.get('/admin', { preHandler: app.oidc.required({ maxAge: 60, roles: 'admin' }) }, async () => 'admin')
  const anonymous = await app.inject({ method: 'POST', url: '/transfer' })
  t.match(anonymous.json(), { code: 'FST_OIDC_LOGIN_REQUIRED', max_age: 60, login: /\/auth\/login\?step_up=/ })
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(asked(await browser.step(anonymous.json().login))['maxAge'], '60')
  const form = await app.inject({ method: 'POST', url: '/transfer', headers: NAVIGATION })
  t.match(form.body, `<a href="${BASE_URL}/auth/login?step_up=`)
  t.notOk('max_age' in (await app.inject('/me')).json(), 'nothing is told where nothing is demanded')
  await browser.goto('/auth/login')
  const forbidden = await browser.fetch('/admin')
  t.equal(forbidden.status, 403)
  t.notOk('max_age' in forbidden.json() || 'login' in forbidden.json(), 'a login does not help against a 403')
})

t.test('K13 S6 nothing but the plugin makes a step_up', async (t) => {
  const { app, browser } = await startApp(t)
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  const login = new URL((await app.inject('/fresh')).json().login)
  const sealed = login.searchParams.get('step_up') as string
  await browser.goto('/me')
  const wrong = [
    '', 'x', '{"maxAge":0}', sealed.slice(1), `${sealed}A`, `${sealed.startsWith('A') ? 'B' : 'A'}${sealed.slice(1)}`, sealed.toLowerCase(),
    browser.cookies.get(SESSION_COOKIE) as string
  ]
  for (const value of wrong) {
    const query = new URLSearchParams({ step_up: value }).toString()
    const { statusCode, body, headers } = await app.inject({ url: `/auth/login?${query}`, headers: NAVIGATION })
    t.same([statusCode, headers.location, headers['set-cookie']], [400, undefined, undefined], value.slice(0, 20))
    t.match(body, 'FST_OIDC_PARAMETER')
  }
  const plain = await browser.step('/auth/login?max_age=60&acr_values=gold')
  t.same(asked(plain), { maxAge: undefined, acrValues: undefined }, 'the query itself still chooses nothing')
  browser.cookies.set(SESSION_COOKIE, sealed)
  t.equal((await browser.fetch('/me')).status, 401, 'it is no session')
  const wins = await startApp(t, { loginParams: ['max_age'] })
  wins.app.get('/fresh', { preHandler: wins.app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  const { login: theirs } = (await wins.app.inject('/fresh')).json()
  t.equal(asked(await wins.browser.step(`${theirs}&max_age=99999`))['maxAge'], '60', 'it cannot be weakened')
})

t.test('K13 with several providers, a user who is logged in stays with the provider', async (t) => {
  const clock = stopClock(t)
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => await Promise.all([one.close(), two.close()]))
  const { baseUrl, session, allowInsecureLoopback, ...first } = optionsFor(one)
  const app = await buildApp(t, {
    baseUrl,
    session,
    allowInsecureLoopback: true,
    providers: { one: first, two: registrationOf(two) }
  })
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async ({ oidcSession }) => ({ ...oidcSession }))
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/two/login')
  clock.advance(100)
  const { login } = (await browser.fetch('/fresh')).json()
  t.equal(new URL(login).searchParams.get('provider'), 'two')
  const page = await browser.goto(withReturn(login, '/fresh'))
  t.match([page.status, page.json()], [200, { provider: 'two' }])

  const choice = await client({ app, baseUrl: BASE_URL }).goto((await app.inject('/fresh')).json().login)
  t.equal(choice.status, 200)
  const link = /href="([^"]*\/auth\/one\/login[^"]*)"/.exec(choice.text())?.[1] as string
  const chosen = await client({ app, baseUrl: BASE_URL }).step(link.replaceAll('&#38;', '&'))
  t.equal(asked(chosen)['maxAge'], '60', 'the page for choosing passes it on')
})

t.test('K13 an API client reads the same in the body as in the challenge', async (t) => {
  const { provider, send } = await start(t)
  const old = tokenOf(provider, { overrides: { auth_time: Math.floor(Date.now() / 1000) - 1000 } })
  const { statusCode, headers, body } = await send(`Bearer ${old}`, '/fresh')
  t.equal(statusCode, 401)
  t.match(headers['www-authenticate'], /insufficient_user_authentication.*max_age="60"/)
  t.match(JSON.parse(body), { max_age: 60 })
})
