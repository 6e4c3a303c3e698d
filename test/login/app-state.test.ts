import fc from 'fast-check'
import t from 'tap'
import { refuse } from '../../index.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, registrationOf, stopClock } from '../support/app.ts'
import { refusal } from '../support/broker.ts'
import { captureLog, loginCookies, untilCallback } from '../support/protocol.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Page, TestBrowser } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const MAX = 128 // bytes of JSON
const SLOTS = 12

const provider = await startProvider({ users: [{ sub: 'alice' }, { sub: 'bob' }] })
t.teardown(async () => await provider.close())

interface World {
  app: FastifyInstance
  browser: TestBrowser
  /** What onClaims got. */
  seen: unknown[]
  lines: () => string
  /** Another browser of the same application. */
  another: () => TestBrowser
}

/** `GET /begin?state=…` begins a login with this appState; `to`, `max` and `prompt` are its other options. */
async function start (t: Test, options: Partial<OidcOptions> = {}): Promise<World> {
  const seen: unknown[] = []
  const { lines, server } = captureLog()
  provider.clearRequests()
  const app = await buildApp(t, optionsFor(provider, {
    onClaims: (_claims, { appState }) => { seen.push(appState) },
    ...options
  }), server)
  app.get<{ Querystring: Record<string, string> }>('/begin', async (request, reply) => {
    const { state, to = '/me', max, prompt } = request.query
    return await app.oidc.login(request, reply, {
      returnTo: to,
      ...(state !== undefined && { appState: JSON.parse(state) }),
      ...(max !== undefined && { maxAge: Number(max) }),
      ...(prompt !== undefined && { prompt })
    })
  })
  const another = (): TestBrowser => client({ app, baseUrl: BASE_URL })
  return { app, browser: another(), seen, lines, another }
}

function begin (state: unknown, others: Record<string, string> = {}): string {
  return `/begin?${new URLSearchParams({ state: JSON.stringify(state), ...others }).toString()}`
}

/** Where the first link with this text leads. */
function linkOf (page: Page, text: string): string {
  const link = new RegExp(`<a href="([^"]*)"[^>]*>${text}</a>`).exec(page.text())?.[1]
  return (link as string).replaceAll('&#38;', '&')
}

/** Where a user who must choose chooses the provider a. */
function choiceOf (page: Page): string {
  const link = /<a href="([^"]*\/auth\/a\/login[^"]*)"/.exec(page.text())?.[1]
  return (link as string).replaceAll('&#38;', '&')
}

t.test('onClaims gets the appState of the login; no address, log or cookie name tells of it', async (t) => {
  const { browser, seen, lines } = await start(t)
  const states = [{ invitation: 'secret-invitation', list: [1, null, { ü: '€' }] }, 'text', 0, false, null, []]
  for (const state of states) {
    const page = await browser.goto(begin(state, { to: '/me?x=1' }))
    t.same([page.status, page.url, seen.pop()], [200, `${BASE_URL}/me?x=1`, state])
  }
  t.notMatch(JSON.stringify(provider.requests), 'secret-invitation')
  t.notMatch(lines().replace(/"url":"\/begin[^"]*"/g, ''), 'secret-invitation')
  await browser.goto('/begin')
  t.same(seen, [undefined], 'a login without one has none')
  t.ok(browser.cookies.list(BASE_URL).every(({ name }) => /^__Host-oidc(?:$|-tokens-|-login-)/.test(name)))
})

t.test('K2 a dozen tabs at once: each has its own, in whatever order they come back, also beside a session', async (t) => {
  for (const order of [(tabs: number[]) => tabs, (tabs: number[]) => tabs.reverse()]) {
    const { browser, seen } = await start(t)
    const tabs = Array.from({ length: SLOTS }, (_, tab) => tab)
    const callbacks = await Promise.all(tabs.map(async (tab) => await untilCallback(browser, begin({ tab }))))
    t.ok(browser.cookies.bytes() <= 1000, `${browser.cookies.bytes()} bytes`)
    for (const tab of order(tabs)) t.equal((await browser.goto(callbacks[tab]?.href as string)).status, 200)
    t.same(seen, tabs.map((tab) => ({ tab })))
  }
})

t.test('K2 a login whose slot was taken begins once more with its appState, also when a session has begun', async (t) => {
  const { browser, seen } = await start(t)
  const lost = await untilCallback(browser, begin({ n: 1 }))
  for (let tab = 0; tab < SLOTS; tab++) await untilCallback(browser)
  t.equal((await browser.goto(lost.href)).status, 200)
  t.same(seen.splice(0), [{ n: 1 }])

  browser.cookies.clear()
  const second = await untilCallback(browser, begin({ n: 2 }))
  for (let tab = 0; tab < SLOTS; tab++) await untilCallback(browser)
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  for (let visit = 0; visit < 2; visit++) t.equal((await browser.goto(second.href)).url, `${BASE_URL}/me`)
  t.same(seen.splice(0), [undefined, { n: 2 }], 'once')

  browser.cookies.clear()
  const third = await untilCallback(browser, begin({ n: 3 }))
  for (let tab = 0; tab < SLOTS; tab++) await untilCallback(browser)
  const begunAgain = await untilCallback(browser, (await browser.step(third.href)).location)
  for (let tab = 0; tab < SLOTS; tab++) await untilCallback(browser)
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  const again = await browser.step(begunAgain.href)
  t.match([again.status, again.text()], [400, 'FST_OIDC_STATE'], 'the second time it is an error, also with a session')
  t.equal((await browser.goto(linkOf(again, 'Log in again'))).status, 200)
  t.same(seen, [undefined, { n: 3 }], 'and its link still has the appState')
})

t.test('V13 the appState of another browser never counts, whatever cookies this one has', async (t) => {
  const { browser, seen, another, lines } = await start(t)
  const attacker = another()
  const theirs: string[] = []
  for (let tab = 0; tab < SLOTS; tab++) theirs.push((await untilCallback(attacker, begin({ of: 'the attacker' }))).href)
  const refused = await browser.goto(theirs[0] as string)
  t.match([refused.status, refused.text()], [400, 'FST_OIDC_STATE'], 'without any cookie')

  // The browser has a login in each slot, so each login of the attacker looks as if a tab had been overtaken.
  for (let tab = 0; tab < SLOTS; tab++) await untilCallback(browser)
  t.equal(loginCookies(browser).length, SLOTS)
  provider.clearRequests()
  for (const session of [false, true]) {
    if (session) await browser.goto('/auth/login')
    for (const callback of theirs) {
      const page = await browser.step(callback)
      t.match([page.status, page.location, page.text()], [400, undefined, 'FST_OIDC_STATE'])
    }
  }
  t.same(seen, [undefined])
  t.match(lines(), 'a later login has taken its place, and its \\"appState\\" is only for the browser that began it')
})

t.test('K2 more tabs at once than there are slots, in a browser without cookies: an error, and never another appState', async (t) => {
  const { browser, seen } = await start(t)
  const tabs = Array.from({ length: 20 }, (_, tab) => tab)
  const callbacks = await Promise.all(tabs.map(async (tab) => await untilCallback(browser, begin({ tab }))))
  const statuses: number[] = []
  for (const { href } of callbacks) statuses.push((await browser.goto(href)).status)
  t.same(new Set(statuses), new Set([200, 400]))
  t.same(seen, tabs.filter((tab) => statuses[tab] === 200).map((tab) => ({ tab })))
  t.ok(seen.length >= SLOTS)
})

t.test('V13 R35 onClaims gets only what the same browser has given to this login', async (t) => {
  const step = fc.record({ who: fc.nat(1), finish: fc.option(fc.nat(), { nil: undefined }), plain: fc.boolean() })
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
    const { app, seen, another } = await start(t)
    const browsers = [another(), another()]
    const begun: Array<{ href: string, who: number, appState: unknown, isFinished: boolean }> = []
    for (const [n, { who, finish, plain }] of steps.entries()) {
      const browser = browsers[who] as TestBrowser
      if (finish === undefined || begun.length === 0) {
        const appState = plain ? undefined : { who, n }
        const { href } = await untilCallback(browser, plain ? undefined : begin(appState))
        begun.push({ href, who, appState, isFinished: false })
      } else {
        const login = begun[finish % begun.length] as typeof begun[number]
        seen.length = 0
        await browser.goto(login.href)
        const own = login.who === who ? login.appState : undefined
        const isMissing = own !== undefined && !login.isFinished && seen.length !== 1
        const isWrong = seen.some((got) => JSON.stringify(got) !== JSON.stringify(own))
        if (isMissing || isWrong) throw new Error(`${who} got ${JSON.stringify(seen)} of ${JSON.stringify(login)}`)
        login.isFinished ||= login.who === who
      }
    }
    await app.close()
  }), { numRuns: 8 })
})

t.test('a login that begins once more keeps its appState', async (t) => {
  await t.test('the provider ignores max_age', async (t) => {
    const { browser, seen } = await start(t)
    await browser.goto('/me')
    provider.fault({ on: 'token', times: 1, idToken: (claims) => ({ ...claims, auth_time: 1 }) })
    const page = await browser.goto(begin({ n: 1 }, { max: '60' }))
    t.same([page.status, seen], [200, [undefined, { n: 1 }]])
  })
  await t.test('it took too long, and another tab has logged in', async (t) => {
    const clock = stopClock(t)
    const { browser, seen } = await start(t)
    const { href } = await untilCallback(browser, begin({ n: 2 }))
    clock.advance(700)
    await browser.goto('/me')
    t.equal((await browser.goto(href)).status, 200)
    t.equal((await browser.goto(href)).url, `${BASE_URL}/me`)
    t.same(seen, [undefined, { n: 2 }], 'once')
  })
  await t.test('its callback comes again', async (t) => {
    let refuses = true
    const seen: unknown[] = []
    const { browser } = await start(t, {
      onClaims: (_claims, { appState }) => {
        seen.push(appState)
        if (refuses) throw refuse('Not today.')
      }
    })
    const { href } = await untilCallback(browser, begin({ n: 3 }))
    t.equal((await browser.goto(href)).status, 403)
    refuses = false
    t.equal((await browser.goto(href)).status, 200)
    t.same(seen, [{ n: 3 }, { n: 3 }])
    t.equal((await browser.goto(href)).status, 200, 'with a session, it leads to its page')
    t.equal(seen.length, 2)
  })
})

t.test('the links of error pages keep it', async (t) => {
  const seen: Array<[sub: string, appState: unknown]> = []
  const { browser, another } = await start(t, {
    onClaims: ({ sub }, { appState }) => {
      seen.push([sub, appState])
      if (sub !== 'bob') throw refuse('Only Bob has an invitation.')
    }
  })
  const refused = await browser.goto(begin({ n: 1 }))
  provider.options.approve = ({ prompt }) => prompt === 'select_account' ? 'bob' : 'alice'
  const link = linkOf(refused, 'Use another account')
  const stolen = await another().goto(link)
  t.match([stolen.status, stolen.text()], [400, 'FST_OIDC_STATE'], 'V13 not in another browser')
  t.equal((await browser.goto(link)).status, 200)
  t.same(seen.splice(0), [['alice', { n: 1 }], ['bob', { n: 1 }]])

  provider.options.approve = () => 'bob'
  provider.fault({ ...refusal('invalid_grant'), times: 1 })
  const failed = await browser.goto(begin({ n: 2 }))
  t.match([failed.status, failed.text()], [400, 'FST_OIDC_CODE'], 'although there is a session')
  t.equal((await browser.goto(linkOf(failed, 'Log in again'))).status, 200)
  t.same(seen, [['bob', { n: 2 }]])
  delete provider.options.approve
})

t.test('a silent login with an appState, with and without a user', async (t) => {
  const { browser, seen } = await start(t)
  const silent = begin({ silent: true }, { prompt: 'none', to: '/' })
  t.same((await browser.goto(silent)).json(), { page: 'public' })
  t.same(seen, [], 'the provider has no session')
  await browser.goto('/me')
  t.same((await browser.goto(silent)).json(), { page: 'public' })
  t.same(seen, [undefined, { silent: true }])
})

t.test('an appState that is too large, or no JSON, is refused at once', async (t) => {
  const { app, browser } = await start(t)
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const wrong: Array<[value: unknown, message: RegExp]> = [
    ['x'.repeat(MAX - 1), /^"appState" has 129 bytes as JSON, at most 128 are allowed$/],
    ['€'.repeat(43), /^"appState" has 131 bytes/],
    [cycle, /^"appState" must be a JSON value$/],
    [1n, /must be a JSON value/],
    [() => 1, /must be a JSON value/]
  ]
  let value: unknown
  app.get('/wrong', async (request, reply) => {
    return await app.oidc.login(request, reply, { appState: value }).catch((error) => error)
  })
  for (const [given, message] of wrong) {
    value = given
    t.match((await browser.goto('/wrong')).json(), { code: 'FST_OIDC_OPTION', message })
  }
  t.same(browser.cookies.list(), [])
})

t.test('the largest appState and the largest address: a state of 500 characters', async (t) => {
  const { browser, seen, lines } = await start(t)
  for (const largest of ['x'.repeat(MAX - 2), '€'.repeat(42)]) {
    for (const length of [0, 20, 60, 63, 200]) {
      browser.cookies.clear()
      const to = `/me?${'x'.repeat(length)}`
      const { searchParams, href } = await untilCallback(browser, begin(largest, { to }))
      const { length: size } = searchParams.get('state') as string
      t.ok(size <= 500, `${size} characters`)
      t.equal((await browser.goto(href)).url, BASE_URL + to)
      t.equal(seen.pop(), largest)
    }
  }
  t.notMatch(lines(), 'shorter address', 'alone, an address of any length fits into the cookies')
  browser.cookies.clear()
  const callbacks = [1, 2].map((n) => begin({ n, text: 'x'.repeat(90) }, { to: `/me?${'x'.repeat(90)}${n}` }))
  const [first, second] = await Promise.all(callbacks.map(async (path) => await untilCallback(browser, path)))
  t.equal((await browser.goto(first?.href as string)).url, `${BASE_URL}/me`, 'the cookie has the address of the other')
  t.equal((await browser.goto(second?.href as string)).url, `${BASE_URL}/me?${'x'.repeat(90)}2`)
  t.match(seen, [{ n: 1 }, { n: 2 }])
})

t.test('form_post and SameSite=Strict', async (t) => {
  for (const options of [
    { responseMode: 'form_post' }, { session: { key: SESSION_KEY, sameSite: 'strict' } }
  ] as const) {
    const { browser, seen } = await start(t, options)
    for (const n of [1, 2]) t.equal((await browser.goto(begin({ n }))).status, 200)
    t.same(seen, [{ n: 1 }, { n: 2 }])
  }
})

t.test('with several providers, the choice keeps the appState and what else the login asks for', async (t) => {
  const clock = stopClock(t)
  const providers = { a: registrationOf(provider), b: { ...registrationOf(provider), clientId: 'other' } }
  const { issuer: _, clientId: __, clientSecret: ___, ...common } = optionsFor(provider)
  for (const own of [{}, { loginPage: '/choose' }]) {
    const seen: unknown[] = []
    const onClaims: OidcOptions['onClaims'] = (_claims, { appState }) => { seen.push(appState) }
    const app = await buildApp(t, { ...common, ...own, providers, onClaims })
    app.get('/choose', async ({ query }, reply) => {
      const { step_up: stepUp = '' } = query as Record<string, string>
      const next = new URLSearchParams({ return_to: '/me', step_up: stepUp }).toString()
      return await reply.type('text/html').send(`<a href="/auth/a/login?${next}">a</a>`)
    })
    app.get<{ Querystring: { n: string } }>('/any', async (request, reply) => {
      const { n } = request.query
      return await app.oidc.login(request, reply, { appState: { n }, maxAge: 60, returnTo: '/me' })
    })
    const [browser, attacker] = [client({ app, baseUrl: BASE_URL }), client({ app, baseUrl: BASE_URL })]
    const links: string[] = []
    for (const n of [1, 2, 3]) links.push(choiceOf(await browser.goto(`/any?n=${n}`)))
    const theirs = choiceOf(await attacker.goto('/any?n=4'))

    provider.fault({ on: 'metadata', times: 1, status: 503, body: '' })
    const down = await browser.goto(links[1] as string)
    t.equal(down.status, 503)
    clock.advance(5)
    provider.clearRequests()
    const again = await browser.goto(linkOf(down, 'Log in again'))
    const done = 'loginPage' in own ? await browser.goto(choiceOf(again)) : again
    t.equal(done.url, `${BASE_URL}/me`, 'a provider that is away loses nothing')
    t.equal(provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['max_age'], '60')
    for (const link of [links[0], links[2]]) await browser.goto(link as string)
    t.same(seen, [{ n: '2' }, { n: '1' }, { n: '3' }])

    const refused = await browser.goto(theirs)
    t.match([refused.status, refused.text()], [400, 'FST_OIDC_STATE'], 'V13 a link of another browser')
    t.equal(seen.length, 3)
  }
})
