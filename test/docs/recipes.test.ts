import { createServer } from 'node:http'
import t from 'tap'
import { WebSocket } from 'ws'
import { client, sessionCookie, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Provider, ProviderUser, TestBrowser } from '../../lib/testing/index.ts'

const page = openPage('docs/recipes.md')
const HTML = { accept: 'text/html' }

interface World {
  provider: Provider
  app: FastifyInstance
  browser: TestBrowser
}

interface StartOptions {
  user?: Partial<ProviderUser>
  options?: Partial<OidcOptions>
  change?: (code: string) => string
}

/** The application of the block that has this text, its provider, and a browser. */
async function start (t: Test, text: string, { user = {}, options = {}, change }: StartOptions = {}): Promise<World> {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', ...user }] })
  t.teardown(async () => await provider.close())
  const context = { options: optionsFor(provider, options), key: SESSION_KEY }
  const app = await page.run(t, text, { context, ...(change !== undefined && { change }) })
  return { provider, app, browser: client({ app, baseUrl: BASE_URL }) }
}

/** The application listens on a port of its own. */
async function listen (app: FastifyInstance): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

t.test('guard many routes at once', async (t) => {
  const { app } = await start(t, "admin.addHook('preHandler'")
  const statusOf = async (url: string, roles: string[]): Promise<number> =>
    (await app.inject({ url, headers: { cookie: sessionCookie(app, { claims: { roles } }) } })).statusCode
  for (const url of ['/admin/users', '/admin/jobs']) {
    t.same([await statusOf(url, ['admin']), await statusOf(url, [])], [200, 403], url)
    t.equal((await app.inject(url)).statusCode, 401, url)
  }
})

t.test('the whole application, with public exceptions', async (t) => {
  const { app, browser, provider } = await start(t, "'/imprint'")
  const get = async (url: string, roles?: string[]): Promise<number> => {
    const headers = roles === undefined ? {} : { cookie: sessionCookie(app, { claims: { roles } }) }
    return (await app.inject({ url, headers })).statusCode
  }
  for (const url of ['/health', '/imprint']) t.equal(await get(url), 200, url)
  for (const url of ['/', '/staff', '/unknown']) t.equal(await get(url), 401, url)
  t.same([await get('/', []), await get('/staff', []), await get('/staff', ['staff'])], [200, 403, 200])
  t.equal(await get('/unknown', []), 404)
  t.equal((await browser.goto('/')).text(), 'Hello alice.')
  t.equal(provider.count('authorize'), 1)
})

t.test('static files', async (t) => {
  const change = (code: string): string => code.replace("resolve('documents')", "resolve('docs')")
  const { app, browser } = await start(t, '@fastify/static', { change })
  app.get('/open', async () => 'open')
  t.equal((await app.inject('/open')).statusCode, 200)
  for (const url of ['/documents/guards.md', '/documents/none.md', '/documents/../docs/guards.md']) {
    t.not((await app.inject(url)).statusCode, 200, url)
  }
  t.equal((await app.inject('/documents/guards.md')).statusCode, 401)
  t.equal((await app.inject({ method: 'HEAD', url: '/documents/guards.md' })).statusCode, 401)
  const page = await browser.goto('/documents/guards.md')
  t.match([page.status, page.text()], [200, '# Guards'])
  const headers = { cookie: sessionCookie(app) }
  t.equal((await app.inject({ url: '/documents/guards.md', headers })).headers['cache-control'], 'no-store')
  t.equal((await app.inject({ url: '/documents/none.md', headers })).statusCode, 404)
})

t.test('a preflight before a hook for everything', async (t) => {
  const { app } = await start(t, "import cors from '@fastify/cors'")
  const origin = 'https://www.example.com'
  const asked = { origin, 'access-control-request-method': 'GET' }
  const preflight = await app.inject({ method: 'OPTIONS', url: '/orders', headers: asked })
  t.match([preflight.statusCode, preflight.headers], [204, { 'access-control-allow-origin': origin }])
  const refused = await app.inject({ url: '/orders', headers: { origin } })
  t.match([refused.statusCode, refused.headers], [401, { 'access-control-allow-origin': origin }])
  const headers = { origin, cookie: sessionCookie(app) }
  t.equal((await app.inject({ url: '/orders', headers })).body, 'your orders')
})

t.test('a context of GraphQL or tRPC', async (t) => {
  const { app } = await start(t, 'const contextOf')
  const ask = async (field: string, headers: Record<string, string>) => {
    const { statusCode, body } = await app.inject({ method: 'POST', url: '/graphql', headers, payload: { field } })
    return [statusCode, JSON.parse(body).data?.[field]]
  }
  const own = { cookie: sessionCookie(app), origin: BASE_URL }
  t.same(await ask('me', own), [200, 'alice'])
  t.same(await ask('orders', own), [200, ['one', 'two']])
  t.same(await ask('me', {}), [200, null])
  t.equal((await ask('orders', {}))[0], 401)
  t.equal((await ask('orders', { ...own, origin: 'https://evil.test' }))[0], 401, 'S43')
})

t.test('ask the same of every guarded route', async (t) => {
  const { browser } = await start(t, 'requiredClaims', { user: { hd: 'example.com' } })
  t.equal((await browser.goto('/')).status, 200)
  const { browser: stranger } = await start(t, 'requiredClaims', { user: { hd: 'example.net' } })
  t.equal((await stranger.goto('/')).status, 403)
})

t.test('K17 accept an API key as well', async (t) => {
  const { app, browser } = await start(t, "import auth from '@fastify/auth'")
  const key = 'an API key of your own, long and random'
  for (const url of ['/prices', '/dashboard']) {
    t.equal((await app.inject({ url, headers: { 'x-api-key': key } })).statusCode, 200, 'a program with a key')
    t.equal((await app.inject({ url, headers: { cookie: sessionCookie(app) } })).statusCode, 200, 'a user')
    const refused = await app.inject({ url, headers: { 'x-api-key': 'guessed' } })
    t.equal(refused.statusCode, 401)
    t.match(refused.json(), { statusCode: 401, error: 'Unauthorized' })
  }
  t.match((await app.inject({ url: '/prices', headers: HTML })).json(), { message: 'The API key is missing or wrong.' })
  const page = await browser.goto('/dashboard')
  t.same([page.status, await page.text()], [200, 'for programs and users'], 'a user is sent to log in, and comes back')
})

t.test('let users see only what is theirs', async (t) => {
  const { browser } = await start(t, "'/documents/:owner'")
  t.equal((await browser.goto('/documents/alice')).status, 200)
  t.equal((await browser.goto('/documents/bob')).status, 403)
})

t.test('let in only users that you know', async (t) => {
  const { browser } = await start(t, 'is not invited')
  t.same((await browser.goto('/hello')).json(), { id: 1, name: 'Alice' })
  const { browser: stranger } = await start(t, 'is not invited', { user: { sub: 'bob' } })
  const refused = await stranger.goto('/hello')
  t.match([refused.status, refused.text()], [403, 'Ask your manager for access.'])
  t.equal((await stranger.fetch('/auth/session')).status, 401)
})

t.test('welcome new users', async (t) => {
  const { browser } = await start(t, "redirectTo('/welcome')")
  t.equal((await browser.goto('/welcome')).text(), 'Nice to see you.')
  await browser.post('/auth/logout')
  t.equal((await browser.goto('/auth/login?return_to=/welcome?again')).url, `${BASE_URL}/welcome?again`)
})

t.test('remember something during a login', async (t) => {
  const { browser } = await start(t, 'appState: { invitation: code }')
  t.same((await browser.goto('/team')).json(), { invitation: null })
  t.same((await browser.goto('/invitations/abc')).json(), { invitation: 'abc' })
})

t.test('change the user later', async (t) => {
  const { app, browser } = await start(t, "app.post('/name'")
  app.get('/user', { preHandler: app.oidc.required() }, async ({ oidcUser }) => oidcUser)
  t.same((await browser.goto('/user')).json(), { id: 7, name: 'Alice' })
  const changed = await browser.fetch('/name', { method: 'POST', json: { name: 'Alice B.' } })
  t.same(changed.json(), { id: 7, name: 'Alice B.' })
  t.same((await browser.fetch('/user')).json(), { id: 7, name: 'Alice B.' })
})

t.test('a logout button', async (t) => {
  const { app, browser } = await start(t, "'/account'", { options: { defaultReturnTo: '/account' } })
  t.match((await browser.goto('/account')).text(), '<form method="post" action="/auth/logout">')
  const copy = browser.clone()
  await browser.post('/auth/logout', '', { until: ({ origin }) => origin !== BASE_URL })
  t.equal((await browser.fetch('/auth/session')).status, 401)
  t.equal((await copy.fetch('/auth/session')).status, 401, 'the copied cookie is useless too')

  const cookie = sessionCookie(app)
  const click = { cookie, ...HTML, 'sec-fetch-mode': 'navigate', 'sec-fetch-user': '?1' }
  const elsewhere = await app.inject({ url: '/auth/logout', headers: { ...click, 'sec-fetch-site': 'cross-site' } })
  t.match([elsewhere.statusCode, elsewhere.body], [403, 'Do you want to log out?'])
  const own = await app.inject({ url: '/auth/logout', headers: { ...click, 'sec-fetch-site': 'same-origin' } })
  t.equal(own.statusCode, 302)
})

t.test('log out only here', async (t) => {
  const { browser, provider } = await start(t, "'/leave'")
  await browser.goto('/auth/login')
  const answer = await browser.fetch('/leave', { method: 'POST' })
  t.same(answer.json(), { redirect_to: `${BASE_URL}/bye` })
  t.equal((await browser.fetch('/auth/session')).status, 401)
  t.equal(provider.count('end_session'), 0)
})

t.test('log a user out everywhere', async (t) => {
  const { app, browser } = await start(t, "'/admin/log-out/:sub'", { user: { roles: ['admin'] } })
  const cookie = sessionCookie(app, { claims: { sub: 'bob' } })
  await browser.goto('/auth/login')
  t.same((await browser.fetch('/admin/log-out/bob', { method: 'POST' })).json(), { ended: 1 })
  t.equal((await app.inject({ url: '/auth/session', headers: { cookie } })).statusCode, 401)
})

t.test('a front end in the browser', async (t) => {
  const { app, browser, provider } = await start(t, "'/account'")
  const html = page.blocks.find(({ language }) => language === 'html')?.code as string
  const [, script] = /<script type="module">\n([^]*)<\/script>/.exec(html) as unknown as [string, string]
  /** Runs the script of the page with as much of a browser as it uses. */
  const open = async () => {
    const location = { href: '', pathname: '/orders', reload () {} }
    const document = { title: '' }
    let delay = 0
    const setTimeout = (_work: unknown, time: number): void => { delay = time }
    const fetch = async (url: string, options?: object): Promise<object> => {
      const answer = await browser.fetch(url, options)
      return { status: answer.status, json: async () => answer.json() }
    }
    const names = { location, document, setTimeout, fetch }
    const AsyncFunction = Object.getPrototypeOf(open).constructor
    const runScript = new AsyncFunction(...Object.keys(names), `${script}\nreturn logOut`)
    const logOut = await runScript(...Object.values(names)) as () => Promise<void>
    return { href: location.href, title: document.title, delay, logOut, location }
  }
  t.equal((await open()).href, '/auth/login?return_to=%2Forders')
  await browser.goto('/auth/login')
  const { title, delay, logOut, location } = await open()
  t.equal(title, 'Hello Alice')
  t.ok(delay > 28_000_000 && delay <= 28_800_000)
  await logOut()
  t.equal(new URL(location.href).origin, provider.url, 'the provider is told of the logout')
  t.equal((await open()).href, '/auth/login?return_to=%2Forders')
  t.match((await app.inject('/account')).json(), { statusCode: 401, login: `${BASE_URL}/auth/login` })
  const fetched = await app.inject({ url: '/auth/login', headers: { 'sec-fetch-mode': 'cors' } })
  t.match(fetched.json(), { statusCode: 400, code: 'FST_OIDC_NAVIGATION' })
})

t.test('requests from another origin', async (t) => {
  const { app } = await start(t, 'trustedOrigins')
  const statusOf = async (origin: string): Promise<number> => {
    const headers = { origin, cookie: sessionCookie(app), 'sec-fetch-site': 'same-site' }
    return (await app.inject({ method: 'POST', url: '/orders', headers })).statusCode
  }
  t.equal(await statusOf('https://www.example.com'), 200)
  t.equal(await statusOf('https://other.example.com'), 403)
})

t.test('a WebSocket', async (t) => {
  const { app } = await start(t, "'/socket'")
  const open = await opener(app, '/socket')
  const cookie = sessionCookie(app)
  t.equal(await open({ cookie, origin: BASE_URL }), 'hello alice')
  t.equal(await open({ cookie, origin: 'https://evil.example.com' }), 403)
  t.equal(await open({ origin: BASE_URL }), 401)
})

t.test('a WebSocket that reads the session', async (t) => {
  const { app } = await start(t, "'/chat'")
  const open = await opener(app, '/chat')
  const cookie = sessionCookie(app)
  t.equal(await open({ cookie, origin: BASE_URL }), 'hello alice')
  t.equal(await open({ cookie, origin: 'https://evil.example.com' }), 'hello guest')
  t.equal(await open({ origin: BASE_URL }), 'hello guest')
})

/** Opens the WebSocket. Returns the first message, or the status of the refusal. */
async function opener (app: FastifyInstance, path: string) {
  const port = await listen(app)
  return async (headers: Record<string, string>): Promise<string | number> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers })
    return await new Promise((resolve, reject) => {
      socket.on('message', (message: Buffer) => { resolve(message.toString()); socket.close() })
      socket.on('unexpected-response', (_request, response) => {
        resolve(response.statusCode as number)
        response.destroy()
      })
      socket.on('error', reject)
    })
  }
}

t.test('call an API for the user', async (t) => {
  const tokens: unknown[] = []
  const api = createServer((request, response) => {
    tokens.push(request.headers.authorization)
    // The second request is refused, as if the token had been revoked.
    response.writeHead(tokens.length === 2 ? 401 : 200, { 'content-type': 'application/json' }).end('{"orders":1}')
  })
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { api.closeAllConnections(); api.close() })
  const url = `http://127.0.0.1:${(api.address() as AddressInfo).port}`
  const change = (code: string): string => code.replace('https://api.example.com', url)
  const { browser } = await start(t, 'offlineAccess: true', { change })
  for (let index = 0; index < 2; index++) t.same((await browser.goto('/orders')).json(), { orders: 1 })
  t.equal(tokens[0], tokens[1])
  t.not(tokens[2], tokens[1])
})

t.test('ask for a recent login', async (t) => {
  const { browser, provider } = await start(t, "'/transfer'")
  t.equal((await browser.goto('/transfer')).status, 200)
  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(400)
  t.equal((await browser.fetch('/transfer', { method: 'POST' })).status, 200)
  const logins = provider.count('authorize')
  t.equal((await browser.goto('/transfer')).status, 200)
  t.equal(provider.count('authorize'), logins + 1, 'the page asks for a new login')
  clock.advance(700)
  t.equal((await browser.fetch('/transfer', { method: 'POST' })).status, 401)
})

t.test('users who are already logged in at the provider', async (t) => {
  const { browser, provider } = await start(t, "'/news'")
  t.equal((await browser.goto('/news')).text(), 'Hello.')
  t.equal(provider.count('authorize'), 1)
  t.equal((await browser.goto('/news')).text(), 'Hello.')
  t.equal(provider.count('authorize'), 1, 'the provider is not asked again')
  await browser.goto('/auth/login')
  t.equal((await browser.goto('/news')).text(), 'Hello alice.')
})

t.test('change the account', async (t) => {
  const { browser } = await start(t, "'/switch'")
  const { location } = await browser.step('/switch')
  t.equal(new URL(location as string).searchParams.get('prompt'), 'select_account')
})

t.test('the language and a login hint', async (t) => {
  const { browser } = await start(t, 'loginParams')
  const { location } = await browser.step('/auth/login?ui_locales=de&login_hint=alice@example.com&prompt=login')
  const { searchParams } = new URL(location as string)
  t.same(
    ['ui_locales', 'login_hint', 'prompt'].map((name) => searchParams.get(name)), ['de', 'alice@example.com', null]
  )
})

t.test('your own page to choose a provider', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const registered = { clientId: 'web', clientSecret: provider.clients[0]?.client_secret as string }
  const context = { key: SESSION_KEY, clients: { google: registered, corp: registered } }
  const change = (code: string): string => code
    .replace('https://accounts.google.com', provider.issuer)
    .replace('session: { key }', 'session: { key }, allowInsecureLoopback: true')
  const app = await page.run(t, "loginPage: '/welcome'", { context, change })
  app.get('/confirm', async (request, reply) => await app.oidc.login(request, reply, { maxAge: 60 }))
  app.get('/intranet', { preHandler: app.oidc.required({ provider: ['google', 'corp'] }) }, async () => 'intranet')
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal(new URL((await browser.goto('/intranet')).url).searchParams.get('provider'), 'google corp')
  const { url, text } = await browser.goto('/me')
  t.equal(url, `${BASE_URL}/welcome?return_to=${encodeURIComponent(`${BASE_URL}/me`)}`)
  const linkOf = (html: string) => (/href="([^"]*google[^"]*)"/.exec(html) as unknown as [string, string])[1]
  t.match((await browser.goto(linkOf(text()))).json(), { sub: 'alice' })
  const { location } = await browser.step(linkOf((await browser.goto('/confirm')).text()))
  t.equal(new URL(location as string).searchParams.get('max_age'), '60', 'the links pass step_up on')
})

t.test('your own error page', async (t) => {
  const { app } = await start(t, 'onError:')
  const cookie = sessionCookie(app)
  const refused = await app.inject({ url: '/admin', headers: { cookie, ...HTML } })
  t.match([refused.statusCode, refused.body], [403, '<h1>You may not see this.</h1>'])
  t.match((await app.inject({ url: '/admin', headers: { cookie } })).json(), { code: 'FST_OIDC_FORBIDDEN' })
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
