import fc from 'fast-check'
import t from 'tap'
import { refuse } from '../../index.ts'
import { createUrls } from '../../lib/http/urls.ts'
import { createAcceptLogin } from '../../lib/login/accept-login.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor, startApp } from '../support/app.ts'
import { anotherApp, assertAnonymous, captureLog, untilCallback } from '../support/protocol.ts'
import type { OidcError, OidcOptions } from '../../index.ts'
import type { Page } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const MESSAGE = 'Ask <b>Zoë</b> & your manager for "access".'
const ESCAPED = 'Ask &#60;b&#62;Zoë&#60;/b&#62; &#38; your manager for &#34;access&#34;.'

const provider = await startProvider({ users: [{ sub: 'alice' }, { sub: 'bob' }] })
t.teardown(async () => await provider.close())

function otherAccount (page: Page): string {
  const link = /<a href="([^"]*)">Use another account<\/a>/.exec(page.text())?.[1] as string
  return link.replaceAll('&#38;', '&')
}

const onlyBob: OidcOptions['onClaims'] = ({ sub }) => {
  if (sub !== 'bob') throw refuse(MESSAGE, { detail: 'not on the list of the database' })
}

t.test('K12 refuse() with a message: the page has it escaped, JSON as it is, and only the log has the detail', async (t) => {
  const { lines, server } = captureLog()
  const { browser, app } = await startApp(t, { onClaims: onlyBob }, {}, server)
  const page = await browser.goto('/me')
  t.equal(page.status, 403)
  t.match(page.text(), `<h1>${ESCAPED}</h1>`)
  t.match(page.text(), `<title>${ESCAPED}`)
  t.notMatch(page.text(), '<b>')
  t.notMatch(page.text(), 'database')
  await assertAnonymous(t, browser)

  const { pathname, search } = await untilCallback(browser)
  const headers = { cookie: browser.cookies.header(), accept: 'application/json' }
  const answer = await app.inject({ url: pathname + search, headers })
  t.same(answer.json(), { statusCode: 403, code: 'FST_OIDC_CLAIMS', error: 'Forbidden', message: MESSAGE })
  const entries = lines().trim().split('\n').map((line) => JSON.parse(line) as { code?: string })
  t.match(entries.filter(({ code }) => code === 'FST_OIDC_CLAIMS'), Array(2).fill({
    level: 30, msg: MESSAGE, detail: 'not on the list of the database'
  }))
})

t.test('K12 refuse() in a silent login: the same page, and another account can log in', async (t) => {
  const { browser, app } = await anotherApp(t, provider, { onClaims: onlyBob })
  app.get('/news', { preHandler: app.oidc.optional({ silent: true }) }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  t.equal((await browser.goto('/auth/login')).status, 403, 'the provider has a session now')
  const page = await browser.goto('/news')
  t.match([page.status, page.text()], [403, ESCAPED])
  t.same((await browser.goto('/news')).json(), {}, 'the page is public, and does not ask again')
  provider.options.approve = ({ prompt }) => prompt === 'select_account' ? 'bob' : 'alice'
  const next = await browser.goto(otherAccount(page))
  delete provider.options.approve
  t.same([next.status, next.json()], [200, { sub: 'bob' }])
})

t.test('onClaims chooses where the browser goes', async (t) => {
  const cases: Array<[target: string, url: string, options: Partial<OidcOptions>]> = [
    ['/welcome', '/welcome', {}],
    [`${BASE_URL}/welcome?x=1`, '/welcome?x=1', {}],
    ['welcome', '/welcome', { session: { key: SESSION_KEY, sameSite: 'strict' } }]
  ]
  for (const [target, url, options] of cases) {
    const { browser, app } = await anotherApp(t, provider, {
      onClaims: (_claims, { returnTo, redirectTo }) => {
        redirectTo('/overwritten')
        redirectTo(target)
        return { returnTo }
      },
      ...options
    })
    app.get('/welcome', { preHandler: app.oidc.required() }, async ({ oidcUser }) => oidcUser)
    const page = await browser.goto('/me?y=2')
    t.same([page.status, page.url, page.json()], [200, BASE_URL + url, { returnTo: `${BASE_URL}/me?y=2` }])
  }
})

t.test('S48 an address on another origin is a fault of the application, with a log line and without a session', async (t) => {
  const targets: unknown[] = ['https://evil.example/', '/.//evil.example', 'javascript:alert(1)', undefined]
  const { lines, server } = captureLog()
  const { browser } = await startApp(t, {
    onClaims: (_claims, { redirectTo }) => { redirectTo(targets.shift() as string) }
  }, {}, server)
  while (targets.length > 0) {
    const page = await browser.goto('/me')
    t.match([page.status, page.location, page.text()], [500, undefined, 'FST_OIDC_UNEXPECTED'])
    await assertAnonymous(t, browser)
  }
  t.match(lines(), /"level":50.*onClaims failed: redirectTo: https:\/\/evil\.example\/ is not on the origin of/)
})

t.test('S48 R35 whatever onClaims names, the browser stays on the own origin', async (t) => {
  const settings = parseOptions(optionsFor(provider))
  const userClaims = { read: async () => ({ all: {}, kept: {} }) } as never
  const onClaims: OidcOptions['onClaims'] = (_claims, { redirectTo, request }) => { redirectTo(request as never) }
  const acceptLogin = createAcceptLogin({ onClaims, userClaims, urls: createUrls(settings, '') } as never)
  const accept = async (target: string): Promise<string | undefined> => {
    const context = { returnTo: `${BASE_URL}/me`, request: target, reply: {} }
    const accepted = await acceptLogin({} as never, {} as never, context as never).catch((error: OidcError) => {
      if (error.code !== 'FST_OIDC_UNEXPECTED') throw error
    })
    return accepted?.returnTo
  }
  const piece = fc.constantFrom(
    '/', '//', '\\', '.', '..', '%2e', '%2f', '@', ':', 'evil.com', 'app.example.com', 'https:', 'javascript:', '\t', '\n',
    '\u0000', '?', '#', '。', '\ud800', 'a'
  )
  const target = fc.oneof(fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join('')), fc.webUrl(), fc.string())
  await fc.assert(fc.asyncProperty(target, async (target) => {
    const returnTo = await accept(target)
    return returnTo === undefined || new URL(returnTo, `${BASE_URL}/auth/callback`).origin === BASE_URL
  }), { numRuns: 300 })
  t.equal(await accept('/welcome'), `${BASE_URL}/welcome`)
})

t.test('a silent login goes there as well, and what comes too late has no effect', async (t) => {
  let late: (target: string) => void = () => {}
  let isNew = true
  const { browser, app } = await anotherApp(t, provider, {
    onClaims: (_claims, { redirectTo }) => {
      late = redirectTo
      if (isNew) redirectTo('/?welcome')
    }
  })
  app.get('/news', { preHandler: app.oidc.optional({ silent: true }) }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
  t.equal((await browser.goto('/me')).url, `${BASE_URL}/?welcome`)
  browser.cookies.delete('__Host-oidc')
  t.equal((await browser.goto('/news')).url, `${BASE_URL}/?welcome`)
  isNew = false
  late('/elsewhere')
  t.equal((await browser.goto('/auth/login?return_to=/me')).url, `${BASE_URL}/me`)
})

t.test('K1 an address of onClaims does not make a login without cookies endless, and does not stop a later one', async (t) => {
  const onClaims: OidcOptions['onClaims'] = (_claims, { redirectTo }) => { redirectTo('/me') }
  const { browser, app } = await anotherApp(t, provider, { onClaims })
  app.get('/fresh', { preHandler: app.oidc.required({ maxAge: 60 }) }, async () => 'fresh')
  app.get('/private', { preHandler: app.oidc.required() }, async () => 'private')
  provider.clearRequests()
  t.equal((await browser.goto('/fresh')).url, `${BASE_URL}/me`)
  t.equal((await browser.goto('/fresh')).status, 200)
  t.equal(provider.count('token'), 1)

  browser.cookies.clear()
  t.equal((await browser.step((await untilCallback(browser, '/private')).href)).location, `${BASE_URL}/me`)
  browser.cookies.set('__Host-oidc', 'lost')
  const page = await browser.goto('/me')
  t.match([page.status, page.text()], [400, 'FST_OIDC_LOGIN_LOST'])
})
