import { createHash } from 'node:crypto'
import t from 'tap'
import { safeUrl } from '../../lib/http/urls.ts'
import { faults, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, SESSION_KEY, startApp, stopClock } from '../support/app.ts'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { times } from '../support/crowd.ts'
import { freePort } from '../support/free-port.ts'
import { JWT, captureLog } from '../support/protocol.ts'
import { until } from '../support/until.ts'
import { keyBytes } from '../support/keys.ts'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcSession } from '../../index.ts'
import type { Hop, Page, Provider, TestBrowser } from '../../lib/testing/index.ts'

const NAME = '__Host-oidc'
const NAVIGATION = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-user': '?1'
}
const OWN = { 'sec-fetch-site': 'same-origin' }

function removed (hop: Hop | undefined): string[] {
  return (hop?.setCookie ?? [])
    .filter((line) => line.includes('=; Max-Age=0; Path=/'))
    .map((line) => line.split('=', 1)[0] as string)
    .sort()
}

function requestsOf (provider: Provider, endpoint: string) {
  return provider.requests.filter((request) => request.endpoint === endpoint)
}

async function isLoggedIn (browser: TestBrowser): Promise<boolean> {
  return (await browser.fetch('/auth/session')).status === 200
}

t.test('C24 S62 a logout ends the session here, then at the provider, and returns', async (t) => {
  const ended: Array<[OidcSession, string, string]> = []
  const { app, provider } = await startApp(t, {
    onLogout: (session, { reason, request }) => {
      ended.push([session, reason, request?.url as string])
    }
  })
  let idToken = ''
  provider.fault({ on: 'token', tokenResponse: (answer) => { idToken = String(answer.id_token) } })
  const browser = await logIn({ app, provider }, 'alice')
  const { session } = (await browser.goto('/me')).json()
  const before = browser.cookies.header('/')
  provider.clearRequests()

  const page = await browser.post('/auth/logout', { return_to: '/maybe?from=logout' })
  t.same(page.history.map(({ method, status, url }) => [method, status, url.split('?')[0]]), [
    ['POST', 200, `${BASE_URL}/auth/logout`], // K10: a page that goes on, because form-action may forbid a redirect
    ['GET', 302, `${provider.issuer}/end-session`],
    ['GET', 302, `${BASE_URL}/auth/logged-out`],
    ['GET', 200, `${BASE_URL}/maybe?from=logout`.split('?')[0]]
  ])
  t.equal(page.url, `${BASE_URL}/maybe?from=logout`)
  t.same(page.json(), { claims: null })
  const { query } = requestsOf(provider, 'end_session')[0] as { query: Record<string, string> }
  t.same(Object.keys(query).sort(), ['client_id', 'id_token_hint', 'post_logout_redirect_uri', 'state'])
  t.match(query, { client_id: 'web', id_token_hint: idToken, post_logout_redirect_uri: `${BASE_URL}/auth/logged-out` })
  t.notMatch(query['state'], 'maybe', 'the state says nothing to the provider')

  t.same(removed(page.history[0]).filter((name) => !name.includes('-login-')), [NAME, `${NAME}-tokens-0`])
  t.equal(page.history[0]?.headers.get('cache-control'), 'no-store')
  t.equal(page.history[0]?.headers.get('referrer-policy'), 'no-referrer', 'the hint in the address goes nowhere else')
  t.equal(page.history[2]?.headers.get('cache-control'), 'no-store')
  t.equal(browser.cookies.header('/'), '')
  t.equal(
    (await app.inject({ url: '/me', headers: { cookie: before } })).statusCode,
    401,
    'a copy of the cookies is worth nothing'
  )
  t.same(ended, [[session, 'logout', '/auth/logout']])

  let asked = false
  provider.options.approve = () => { asked = true }
  await browser.goto('/auth/login')
  t.ok(asked, 'the session at the provider ended too')
})

t.test('C25 C26 the provider returns another state, or none', async (t) => {
  for (const fault of ['rp-init-logout-other-state', 'rp-init-logout-no-state'] as const) {
    const { app, provider } = await startApp(t)
    provider.fault(faults[fault])
    const browser = await logIn({ app, provider }, 'alice')
    const page = await browser.post('/auth/logout', { return_to: '/maybe' })
    t.match([page.status, page.url], [200, `${BASE_URL}/`], `${fault}: home, because where it was to go is not known`)
    t.notOk(await isLoggedIn(browser))
  }
})

t.test('C25 C26 V1 the page after the logout accepts its own states only', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t)
  const stateOf = async (app: FastifyInstance, returnTo: string): Promise<string> => {
    const page = await (
      await logIn({ app, provider }, 'alice')
    ).post('/auth/logout', { return_to: returnTo }, { until: ({ pathname }) => pathname === '/end-session' })
    return page.form?.action.searchParams.get('state') as string
  }
  const state = await stateOf(app, '/maybe?a=1&b=%2F')
  const foreign = await stateOf(
    await buildApp(t, optionsFor(provider, { clientId: 'web', session: { key: keyBytes(9) } })),
    '/maybe'
  )
  const open = async (query: string) => await app.inject(`/auth/logged-out${query}`)
  const wrong = [
    '',
    '?',
    '?state',
    '?state=',
    '?state=x',
    '?state=%2F%2Fevil.example',
    '?state=https://evil.example',
    `?state=${encodeURIComponent(state.slice(0, -1))}`,
    `?state=${encodeURIComponent(`${state}A`)}`,
    `?state=${encodeURIComponent(foreign)}`,
    `?State=${encodeURIComponent(state)}`,
    '?state=__proto__',
    `?state=${'A'.repeat(60)}.${'A'.repeat(32)}`,
    '?error=x&error_description=<script>'
  ]
  for (const query of wrong) {
    const response = await open(query)
    t.match([response.statusCode, response.headers.location], [302, `${BASE_URL}/`], query.slice(0, 40))
    t.equal(response.headers['cache-control'], 'no-store')
    t.notOk(response.headers['set-cookie'])
  }
  for (const query of [
    `?state=${encodeURIComponent(state)}&state=x`,
    '?state=%00',
    '?state=%FF',
    `?state=${'x'.repeat(5000)}`
  ]) {
    t.match((await open(query)).statusCode, 400, query.slice(0, 40))
  }
  t.equal((await open(`?state=${encodeURIComponent(state)}&unknown=1`)).headers.location, `${BASE_URL}/maybe?a=1&b=%2F`)
  clock.advance(599)
  t.equal((await open(`?state=${encodeURIComponent(state)}`)).headers.location, `${BASE_URL}/maybe?a=1&b=%2F`)
  clock.advance(1)
  t.equal((await open(`?state=${encodeURIComponent(state)}`)).headers.location, `${BASE_URL}/`, 'after ten minutes')
})

t.test('V1 S48 a logout leads nowhere but to the application', async (t) => {
  const { app } = await startApp(t)
  app.get(
    '/own-logout',
    async (request, reply) => await app.oidc.logout(request, reply, { returnTo: (request.query as { to: string }).to })
  )
  const hostile = [
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    'https://evil.example',
    'http://app.example.com',
    'https://app.example.com.evil.example',
    'https://app.example.com@evil.example',
    'https://user@app.example.com/',
    '/.//evil.example',
    '/..//evil.example',
    '/%2e//evil.example',
    '/a/..//evil.example',
    'javascript:alert(1)',
    'data:text/html,x',
    '\t//evil.example',
    '/\t/evil.example',
    ' //evil.example',
    'https:evil.example',
    'https:/evil.example',
    '/x\r\nset-cookie: a=b',
    '//',
    'http://[',
    '%',
    '//evil.example/%2f..',
    `/${'x'.repeat(3000)}`
  ]
  for (const to of hostile) {
    for (const response of [
      await app.inject({
        method: 'POST',
        url: '/auth/logout',
        headers: { ...NAVIGATION, ...OWN, 'content-type': 'application/x-www-form-urlencoded' },
        payload: new URLSearchParams({ return_to: to }).toString()
      }),
      await app.inject({ url: '/auth/logout', query: { return_to: to }, headers: { ...NAVIGATION, ...OWN } }),
      await app.inject({ url: '/own-logout', query: { to } })
    ]) {
      const location = String(response.headers.location)
      t.ok(
        [302, 303].includes(response.statusCode),
        JSON.stringify(to.slice(0, 40)) + response.statusCode + response.body
      )
      t.equal(new URL(location, BASE_URL).origin, BASE_URL, JSON.stringify(to.slice(0, 40)))
      t.equal(safeUrl(location, BASE_URL, BASE_URL), location)
    }
  }
})

t.test('S44 V16 another site cannot log a user out', async (t) => {
  const ended: string[] = []
  const { app, provider } = await startApp(t, {
    session: { key: SESSION_KEY, sameSite: 'none' },
    onLogout: ({ id }) => {
      ended.push(id)
    }
  })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  provider.clearRequests()
  type Attempt = [status: number, code: string | RegExp, method: 'GET' | 'POST', headers: Record<string, string>]
  const question =
    /Do you want to log out\?.*<form method="post" action="https:\/\/app\.example\.com\/auth\/logout">.*Log out.*<\/form>/
  const attempts: Attempt[] = [
    [403, question, 'GET', { ...NAVIGATION, 'sec-fetch-site': 'cross-site' }],
    [403, question, 'GET', { ...NAVIGATION, 'sec-fetch-site': 'same-site' }],
    [403, question, 'GET', { ...NAVIGATION, 'sec-fetch-dest': 'iframe', 'sec-fetch-site': 'cross-site' }],
    [403, question, 'GET', { accept: 'text/html' }],
    [403, question, 'GET', { ...NAVIGATION, ...OWN, 'sec-fetch-user': '' }],
    [403, question, 'GET', { ...NAVIGATION, 'sec-fetch-site': 'none', 'sec-fetch-user': '' }],
    [
      403,
      /FST_OIDC_CROSS_SITE/,
      'GET',
      { accept: 'image/*', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image', ...OWN }
    ],
    [403, /FST_OIDC_CROSS_SITE/, 'GET', { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', ...OWN }],
    [403, question, 'GET', { accept: 'text/html', referer: `${BASE_URL}/` }],
    [403, /FST_OIDC_CROSS_SITE/, 'GET', {}],
    [
      403,
      /FST_OIDC_CROSS_SITE/,
      'GET',
      { accept: 'image/*', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image', 'sec-fetch-site': 'cross-site' }
    ],
    [
      403,
      /FST_OIDC_CROSS_SITE/,
      'GET',
      { 'sec-fetch-mode': 'cors', 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
    ],
    [403, /FST_OIDC_CROSS_SITE/, 'POST', {}],
    [
      403,
      /FST_OIDC_CROSS_SITE/,
      'POST',
      { ...NAVIGATION, origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    ],
    [
      403,
      /FST_OIDC_CROSS_SITE/,
      'POST',
      { ...NAVIGATION, origin: 'https://evil.example.com', 'sec-fetch-site': 'same-site' }
    ],
    [403, /FST_OIDC_CROSS_SITE/, 'POST', { origin: 'null' }],
    [403, /FST_OIDC_CROSS_SITE/, 'POST', { origin: 'http://app.example.com' }],
    [403, /FST_OIDC_CROSS_SITE/, 'POST', { origin: 'https://app.example.com.evil.example' }],
    [403, /FST_OIDC_CROSS_SITE/, 'POST', { referer: `${BASE_URL}/` }],
    [503, /FST_OIDC_PREFETCH/, 'GET', { ...NAVIGATION, ...OWN, 'sec-purpose': 'prefetch;prerender' }],
    [503, /FST_OIDC_PREFETCH/, 'GET', { ...NAVIGATION, ...OWN, purpose: 'prefetch' }]
  ]
  for (const [status, body, method, headers] of attempts) {
    const title = `${method} ${JSON.stringify(headers)}`
    const response = await app.inject({ method, url: '/auth/logout', headers: { ...headers, cookie } })
    t.equal(response.statusCode, status, title)
    t.match(response.body, body, title)
    t.notOk(response.headers['set-cookie'], title)
    t.equal(response.headers['cache-control'], 'no-store', title)
  }
  for (const method of ['HEAD', 'PUT', 'DELETE'] as const) {
    t.match(
      await app.inject({ method, url: '/auth/logout', headers: { ...OWN, cookie } }),
      { statusCode: 405, headers: { allow: 'GET, POST' } },
      method
    )
  }
  t.equal((await app.inject({ method: 'OPTIONS', url: '/auth/logout', headers: { ...OWN, cookie } })).statusCode, 404)
  for (const [type, payload, status] of [
    ['application/json', '{}', 415],
    ['text/plain', 'x', 415],
    ['multipart/form-data; boundary=x', '--x--', 415],
    ['application/x-www-form-urlencoded', 'x='.padEnd(70_000, 'x'), 413]
  ] as const) {
    const response = await app.inject({
      method: 'POST',
      url: '/auth/logout',
      headers: { ...OWN, cookie, 'content-type': type },
      payload
    })
    t.equal(response.statusCode, status, type)
  }
  for (const [payload, length] of [
    ['return_to=/a&return_to=/b', undefined],
    ['return_to=/a', '3']
  ] as const) {
    const headers = {
      ...OWN,
      cookie,
      'content-type': 'application/x-www-form-urlencoded',
      ...(length !== undefined && { 'content-length': length })
    }
    const response = await app.inject({ method: 'POST', url: '/auth/logout', headers, payload })
    t.match([response.statusCode, response.json().code], [400, 'FST_OIDC_PARAMETER'], payload)
  }
  t.same([ended, provider.requests], [[], []])
  t.ok(await isLoggedIn(browser), 'nothing has happened')

  for (const from of ['https://evil.example/', 'https://evil.example.com/']) {
    t.equal((await browser.post('/auth/logout', '', { from })).status, 403, 'as a browser sends it')
    t.equal((await browser.fetch('/auth/logout', { method: 'POST', from, credentials: 'include' })).status, 403)
    t.equal((await browser.goto('/auth/logout', { from })).status, 403)
    t.equal((await browser.goto('/auth/logout', { from, dest: 'iframe' })).status, 403)
  }
  t.ok(await isLoggedIn(browser))
  t.same(ended, [])

  const page = await browser.goto('/auth/logout', { from: 'https://evil.example/' })
  t.match(page.headers.get('content-security-policy'), /frame-ancestors 'none'/, 'no site can frame the question')
  t.equal((await browser.post('/auth/logout', '', { from: page.url })).status, 200)
  t.notOk(await isLoggedIn(browser), 'a user who answers the question is logged out')
  t.equal(ended.length, 1)
})

t.test('S44 pages of the application and of trusted origins log out by link and by form', async (t) => {
  const { app, provider } = await startApp(t, {
    session: { key: SESSION_KEY, trustedOrigins: ['https://www.example.com'] }
  })
  const ways: Array<[string, (browser: TestBrowser) => Promise<Page>]> = [
    ['a link', async (browser) => await browser.goto('/auth/logout?return_to=/maybe', { from: `${BASE_URL}/` })],
    ['a form', async (browser) => await browser.post('/auth/logout', { return_to: '/maybe' })],
    [
      'a trusted origin',
      async (browser) =>
        await browser.post('/auth/logout', { return_to: '/maybe' }, { from: 'https://www.example.com/' })
    ],
    [
      'the form wins over the query',
      async (browser) => await browser.post('/auth/logout?return_to=/', { return_to: '/maybe' })
    ]
  ]
  for (const [title, leave] of ways) {
    const browser = await logIn({ app, provider }, 'alice')
    const page = await leave(browser)
    t.match([page.status, page.url], [200, `${BASE_URL}/maybe`], title)
    t.notOk(await isLoggedIn(browser), title)
  }
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const older = await app.inject({
    method: 'POST',
    url: '/auth/logout',
    headers: { accept: 'text/html', origin: BASE_URL, cookie }
  })
  t.match(
    [older.statusCode, older.headers.location],
    [303, `${provider.issuer}/end-session?`],
    'a browser without Sec-Fetch-Site'
  )
})

t.test('S62 a script gets the URL of the logout at the provider', async (t) => {
  const { app, provider } = await startApp(t)
  const asked: Array<[string, (browser: TestBrowser) => Promise<Page>]> = [
    ['fetch', async (browser) => await browser.fetch('/auth/logout?return_to=/maybe', { method: 'POST' })],
    [
      'fetch with a form',
      async (browser) =>
        await browser.fetch('/auth/logout', { method: 'POST', body: new URLSearchParams({ return_to: '/maybe' }) })
    ],
    [
      'with a header of older libraries',
      async (browser) =>
        await browser.fetch('/auth/logout?return_to=/maybe', {
          method: 'POST',
          headers: { 'x-requested-with': 'XMLHttpRequest' }
        })
    ]
  ]
  for (const [title, ask] of asked) {
    const browser = await logIn({ app, provider }, 'alice')
    provider.clearRequests()
    const page = await ask(browser)
    t.equal(page.status, 200, title)
    t.equal(page.headers.get('cache-control'), 'no-store')
    t.same(Object.keys(page.json()), ['redirect_to'])
    t.notOk(await isLoggedIn(browser), 'logged out already')
    t.equal(provider.count('end_session'), 0)
    const end = await browser.goto(page.json().redirect_to, { from: `${BASE_URL}/` })
    t.match([end.status, end.url], [200, `${BASE_URL}/maybe`], title)
    t.equal(provider.count('end_session'), 1)
    t.same(
      (await browser.fetch('/auth/logout', { method: 'POST' })).json(),
      { redirect_to: `${BASE_URL}/` },
      'twice is no error'
    )
  }
})

t.test('S62 a long id_token_hint is posted', async (t) => {
  // In the store, because K10 does not keep an ID token of this size in cookies.
  const { app, provider } = await startApp(t, { claims: [], store: 'memory:', session: { key: SESSION_KEY, store: true } })
  let idToken = ''
  provider.fault({
    on: 'token',
    idToken: (claims) => ({ ...claims, bulk: "<b>'&".repeat(480) }),
    tokenResponse: (answer) => {
      idToken = String(answer.id_token)
    }
  })
  const browser = await logIn({ app, provider }, 'alice')
  provider.clearRequests()
  const page = await browser.post('/auth/logout', { return_to: '/maybe' }, { submit: false })
  t.equal(page.status, 200)
  t.equal(page.form?.method, 'POST')
  t.equal(page.form?.action.href, `${provider.issuer}/end-session`)
  t.same([...(page.form?.fields.keys() ?? [])].sort(), [
    'client_id', 'id_token_hint', 'post_logout_redirect_uri', 'state'
  ])
  t.equal(page.form?.fields.get('id_token_hint'), idToken)
  t.match(page.text(), '<button>Continue</button>', 'without JavaScript there is a button')
  const script = /<script>(.*?)<\/script>/.exec(page.text())?.[1] as string
  const policy = page.headers.get('content-security-policy') as string
  t.match(policy, `script-src 'sha256-${createHash('sha256').update(script).digest('base64')}'`)
  const style = /<style>(.*?)<\/style>/.exec(page.text())?.[1] as string
  t.match(policy, `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`)
  t.match(page.headers.get('cache-control'), 'no-store')
  t.equal(page.headers.get('x-content-type-options'), 'nosniff')
  t.notOk(await isLoggedIn(browser))

  const again = await logIn({ app, provider }, 'alice')
  const end = await again.post('/auth/logout', { return_to: '/maybe' })
  t.match([end.status, end.url], [200, `${BASE_URL}/maybe`])
  t.match(requestsOf(provider, 'end_session'), [{ method: 'POST', query: {}, body: { id_token_hint: idToken } }])
})

t.test('V6 parameters of the provider\'s address are escaped when they are posted', async (t) => {
  const { app, provider } = await startApp(t, { claims: [], store: 'memory:', session: { key: SESSION_KEY, store: true } })
  provider.fault({
    on: 'metadata',
    metadata: (document) => {
      document.end_session_endpoint = `${document.end_session_endpoint}?x="><script>alert(1)</script>`
    }
  })
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, bulk: 'x'.repeat(2600) }) })
  const browser = await logIn({ app, provider }, 'alice')
  const page = await browser.post('/auth/logout', '', { submit: false })
  t.equal(page.form?.fields.get('x'), '"><script>alert(1)</script>')
  t.notMatch(page.text(), '<script>alert')
})

t.test('S62 a provider without an end-session endpoint', async (t) => {
  const { app, provider } = await startApp(t)
  provider.fault(faults['metadata-without-end-session-endpoint'])
  const browser = await logIn({ app, provider }, 'alice')
  const page = await browser.post('/auth/logout', { return_to: '/maybe' })
  t.same([page.status, page.url, page.history.length], [200, `${BASE_URL}/maybe`, 2])
  t.notOk(await isLoggedIn(browser))
  const script = await logIn({ app, provider }, 'alice')
  t.same((await script.fetch('/auth/logout', { method: 'POST' })).json(), { redirect_to: `${BASE_URL}/` })
  t.equal(provider.count('end_session'), 0)
})

t.test('S62 without the ID token the client is named', async (t) => {
  for (const [title, routes, keys] of [
    ['a return page', {}, ['client_id', 'post_logout_redirect_uri', 'state']],
    ['none', { loggedOut: false as const }, ['client_id']]
  ] as const) {
    const { app, provider } = await startApp(t, { routes, session: { key: SESSION_KEY, tokens: [] } })
    const browser = await logIn({ app, provider }, 'alice')
    const page = await browser.post('/auth/logout')
    t.same(Object.keys(requestsOf(provider, 'end_session')[0]?.query ?? {}).sort(), keys, title)
    t.equal(page.url.startsWith(title === 'none' ? provider.issuer : BASE_URL), true, title)
    t.equal((await app.inject('/auth/logged-out')).statusCode, title === 'none' ? 404 : 302)
    t.notOk(await isLoggedIn(browser))
  }
})

t.test('S62 R1 the provider is down: the session here ends all the same', async (t) => {
  const lines: string[] = []
  const logger = { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } }
  const { app, provider } = await startApp(t)
  for (const fault of ['metadata-503', 'metadata-hang', 'metadata-reset', 'metadata-html'] as const) {
    const restarted = await buildApp(t, optionsFor(provider, { timeout: 0.2 }), { logger })
    const { cookies } = await logIn({ app, provider }, 'alice')
    const cookie = cookies.header('/')
    const clear = provider.fault(faults[fault])
    lines.length = 0
    const response = await restarted.inject({
      method: 'POST',
      url: '/auth/logout?return_to=/maybe',
      headers: { ...NAVIGATION, ...OWN, cookie }
    })
    clear()
    t.match([response.statusCode, response.headers.location], [303, `${BASE_URL}/maybe`], fault)
    t.match(String(response.headers['set-cookie']), `${NAME}=; Max-Age=0`)
    t.equal((await restarted.inject({ url: '/me', headers: { cookie } })).statusCode, 401, fault)
    const entry = lines.find((line) => line.includes('the session at the provider could not be ended')) as string
    t.match(JSON.parse(entry), { level: 40, code: /^FST_OIDC_PROVIDER_/, detail: /^metadata/ }, fault)
    t.notMatch(lines.join(''), JWT)
  }
})

t.test('S61 tokens are revoked in the background', async (t) => {
  const lines: string[] = []
  const logger = { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } }
  const issued: Array<Record<string, unknown>> = []
  const kinds: Array<[title: string, hint: 'refresh_token' | 'access_token', options: object]> = [
    ['the refresh token', 'refresh_token', { offlineAccess: true }],
    ['else the access token', 'access_token', {}]
  ]
  for (const [title, hint, options] of kinds) {
    const { app, provider } = await startApp(t, options, {}, { logger })
    provider.fault({ on: 'token', tokenResponse: (answer) => { issued.unshift({ ...answer }) } })
    const browser = await logIn({ app, provider }, 'alice')
    await browser.post('/auth/logout')
    await until(() => provider.count('revocation') >= 1)
    t.match(
      requestsOf(provider, 'revocation'),
      [
        {
          method: 'POST',
          body: { token: issued[0]?.[hint], token_type_hint: hint },
          headers: { authorization: /^Basic / }
        }
      ],
      title
    )
    await browser.post('/auth/logout')
    t.equal(provider.count('revocation'), 1, 'once')

    for (const fault of ['revocation-hang', 'revocation-503', 'revocation-400', 'revocation-reset'] as const) {
      const other = await logIn({ app, provider }, 'bob')
      const clear = provider.fault(faults[fault])
      const count = provider.count('revocation')
      lines.length = 0
      const page = await other.post('/auth/logout', { return_to: '/maybe' })
      t.match([page.status, page.url], [200, `${BASE_URL}/maybe`], fault)
      t.notOk(await isLoggedIn(other))
      await until(() => provider.count('revocation') > count)
      if (fault !== 'revocation-hang') await until(() => lines.length > 0)
      clear()
      t.notMatch(lines.join(''), String(issued[0]?.[hint]))
      if (fault !== 'revocation-hang') t.match(lines.join(''), /"level":40.*the token could not be revoked/)
    }
  }

  for (const [title, options, metadata] of [
    ['no tokens are kept', { session: { key: SESSION_KEY, tokens: [] } }, {}],
    ['no endpoint', {}, { revocation_endpoint: undefined }]
  ] as const) {
    const { app, provider } = await startApp(t, { ...options } as object, { metadata })
    await (await logIn({ app, provider }, 'alice')).post('/auth/logout')
    t.equal(provider.count('revocation'), 0, title)
  }
})

t.test('onLogout that fails stops nothing', async (t) => {
  const lines: string[] = []
  const logger = { level: 'error', stream: { write: (line: string) => { lines.push(line) } } }
  let calls = 0
  const { app, provider } = await startApp(t, {
    onLogout: async () => {
      calls++
      await Promise.resolve()
      throw new Error('the audit log is full')
    }
  }, {}, { logger })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  const page = await browser.post('/auth/logout', { return_to: '/maybe' })
  t.match([page.status, page.url], [200, `${BASE_URL}/maybe`])
  t.equal(provider.count('end_session'), 1)
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 401)
  t.match(lines.join(''), /the audit log is full.*onLogout failed/)
  await browser.post('/auth/logout')
  t.equal(calls, 1, 'a logout without a session is none')
})

t.test('R2 onLogout that never returns stops nothing', async (t) => {
  const { lines, server } = captureLog()
  const never = async (): Promise<void> => await new Promise(() => {})
  const { app, provider } = await startApp(t, { onLogout: never, hookTimeout: 0.05 }, {}, server)
  const browser = await logIn({ app, provider }, 'alice')
  const page = await browser.post('/auth/logout', { return_to: '/maybe' })
  t.match([page.status, page.url, page.json()], [200, `${BASE_URL}/maybe`, { claims: null }])
  t.match(lines(), /it has not ended within 0.05 s.*onLogout failed/)
})

t.test('a logout without a session, or with a broken or an old one', async (t) => {
  const clock = stopClock(t)
  let ended = 0
  const { app, provider } = await startApp(t, { onLogout: () => { ended++ } })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  clock.advance(3601)
  provider.clearRequests()
  for (const [location, sent, names] of [
    [`${BASE_URL}/maybe`, '', []],
    [`${BASE_URL}/maybe`, `${NAME}=x; ${NAME}-tokens-3=y; other=1`, []],
    [`${provider.issuer}/end-session?`, cookie, [NAME, `${NAME}-tokens-0`]]
  ] as const) {
    const response = await app.inject({
      method: 'POST',
      url: '/auth/logout?return_to=/maybe',
      headers: { ...NAVIGATION, ...OWN, cookie: sent }
    })
    t.match(
      [response.statusCode, response.headers.location],
      [303, location],
      'at the provider the person may be logged in still, although the session here is over'
    )
    const lines = [response.headers['set-cookie'] ?? []].flat().map((line) => line.split('; ').slice(0, 2).join(';'))
    t.same(lines.filter((line) => !line.includes('-login-')).sort(), names.map((name) => `${name}=;Max-Age=0`).sort())
  }
  t.same([ended, provider.count('revocation')], [0, 0])
})

t.test('app.oidc.logout in a route of the application', async (t) => {
  const { app, provider } = await startApp(t, { routes: { logout: false } })
  app.post('/bye', async (request, reply) => await app.oidc.logout(request, reply))
  app.post(
    '/bye-here',
    async (request, reply) => await app.oidc.logout(request, reply, { federated: false, returnTo: '/maybe' })
  )
  t.equal((await app.inject({ method: 'POST', url: '/auth/logout', headers: OWN })).statusCode, 404)
  const ask = async (url: string): Promise<[Page, TestBrowser]> => {
    const browser = await logIn({ app, provider }, 'alice')
    const page = await browser.step(url, { method: 'POST', headers: OWN })
    t.equal(page.status, 303)
    t.notOk(await isLoggedIn(browser))
    return [page, browser]
  }
  const [federated] = await ask('/bye')
  t.match(federated.location, `${provider.issuer}/end-session?`)
  t.match(
    removed(federated.history[0]),
    [NAME, `${NAME}-login-`, `${NAME}-tokens-0`].map((name) => new RegExp(`^${name}`))
  )
  await until(() => provider.count('revocation') >= 1)
  const [local, browser] = await ask('/bye-here')
  t.equal(local.location, `${BASE_URL}/maybe`)
  t.equal(provider.count('revocation'), 1, 'the tokens are the provider session\'s')
  let asked = false
  provider.options.approve = () => { asked = true }
  await browser.goto('/auth/login')
  t.notOk(asked, 'the session at the provider goes on')
})

t.test('R17 login in tab A while tab B logs out', async (t) => {
  const { app, provider } = await startApp(t)

  await t.test('the logout comes first: the login that was under way is over too', async (t) => {
    const browser = await logIn({ app, provider }, 'alice')
    const tabA = await browser.goto('/auth/login?return_to=/me', {
      until: ({ pathname }) => pathname === '/auth/callback'
    })
    await browser.post('/auth/logout')
    t.equal(browser.cookies.header('/'), '')
    provider.clearRequests()
    const page = await browser.goto(tabA.location as string)
    t.match(
      [page.status, page.text()],
      [400, /FST_OIDC_STATE.*<a href="https:\/\/app\.example\.com\/auth\/login">Log in again<\/a>/]
    )
    t.equal(provider.count('token'), 0)
    t.notOk(await isLoggedIn(browser))
    t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200, 'which works')
  })

  await t.test('the login comes first: the logout ends it', async (t) => {
    const browser = await logIn({ app, provider }, 'alice')
    await browser.goto('/auth/login')
    const cookie = browser.cookies.header('/')
    await browser.post('/auth/logout')
    t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 401)
  })

  await t.test('at the same moment', async (t) => {
    const browser = await logIn({ app, provider }, 'alice')
    const before = browser.cookies.header('/')
    const tabA = await browser.goto('/auth/login?return_to=/me', {
      until: ({ pathname }) => pathname === '/auth/callback'
    })
    const { pathname, search } = new URL(tabA.location as string)
    const cookie = browser.cookies.header('/')
    const [login, logout] = await Promise.all([
      app.inject({ url: pathname + search, headers: { ...NAVIGATION, cookie } }),
      app.inject({ method: 'POST', url: '/auth/logout', headers: { ...NAVIGATION, ...OWN, cookie } })
    ])
    t.match([login.statusCode, login.headers.location, logout.statusCode], [302, `${BASE_URL}/me`, 303])
    t.equal(
      (await app.inject({ url: '/me', headers: { cookie: before } })).statusCode,
      401,
      'the session from before has ended in any case'
    )
    const session = [login.headers['set-cookie'] ?? []]
      .flat()
      .map((line) => line.split(';', 1)[0])
      .join('; ')
    t.equal((await app.inject({ url: '/me', headers: { cookie: session } })).statusCode, 200, 'the new one is another')
    t.match(String(logout.headers['set-cookie']), `${NAME}=; Max-Age=0`, 'and the browser keeps what it was told last')
  })
})

/** A port without a server. */
t.test(
  'S44 S62 the question and the posted hint in Chromium',
  { skip: skipWithoutChromium, timeout: 120_000 },
  async (t) => {
    const provider = await startProvider()
    t.teardown(async () => await provider.close())
    const port = await freePort()
    const baseUrl = `http://localhost:${port}`
    const session = { key: SESSION_KEY, store: true }
    const app = await buildApp(t, optionsFor(provider, { baseUrl, claims: [], store: 'memory:', session }))
    await app.listen({ host: 'localhost', port })
    const browser = await launchChromium()
    t.teardown(async () => await browser.close())
    const open = async (t: Test) => {
      const context = await browser.newContext({ baseURL: baseUrl })
      t.teardown(async () => await context.close())
      const complaints: string[] = []
      context.on('console', (message) => complaints.push(message.text()))
      const page = await context.newPage()
      await page.goto('/auth/login?return_to=/me')
      t.match(await page.textContent('body'), '"sub":"alice"')
      return { page, complaints }
    }

    await t.test('the question', async (t) => {
      const { page, complaints } = await open(t)
      await page.goto(`${provider.url}/nothing`)
      await page.setContent(`<a href="${baseUrl}/auth/logout">a link on another site</a>`)
      await page.click('a')
      t.match(await page.textContent('h1'), 'Do you want to log out?')
      await page.click('button')
      await page.waitForURL(`${baseUrl}/`)
      t.equal(provider.count('end_session'), 1)
      t.same(complaints.filter((text) => text.includes('Content Security Policy')), [])
    })

    await t.test('the posted hint', async (t) => {
      provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, bulk: 'x'.repeat(2600) }) })
      const { page, complaints } = await open(t)
      await page.goto('/auth/logout?return_to=/maybe')
      await page.click('button') // K1: a typed address asks first
      await page.waitForURL(`${baseUrl}/maybe`)
      t.equal(requestsOf(provider, 'end_session').at(-1)?.method, 'POST')
      t.same(complaints.filter((text) => text.includes('Content Security Policy')), [])
    })
  })

t.test(
  'S44 GET logout by an image, a script, a refresh or a redirect does not log out',
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

t.test('S62 a logout after the session expired ends the session at the provider', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const { browser, provider } = await startApp(t, { session: { key: SESSION_KEY, idleTimeout: 600 } })
  await browser.goto('/me')
  clock.advance(700)
  await browser.post('/auth/logout')
  t.equal(provider.count('end_session'), 1)
})

t.test('R36 sixty logouts of one session revoke its token once', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header(BASE_URL)
  const post = async (): Promise<number> =>
    (await app.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie } })).statusCode
  const other = await logIn({ app, provider }, 'bob')
  provider.clearRequests()
  const statuses = [...(await Promise.all(times(30, post))), ...(await Promise.all(times(30, post)))]
  t.same([...new Set(statuses)], [303])
  // The revocation of a later logout arrives after those before it.
  await until(() => provider.requests.length > 0)
  const last = { origin: BASE_URL, cookie: other.cookies.header(BASE_URL) }
  await app.inject({ method: 'POST', url: '/auth/logout', headers: last })
  await until(() => provider.requests.length > 1)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    ['revocation', 'revocation'],
    'one for each user'
  )
})
