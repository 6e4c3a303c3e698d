import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { client, startClock, startProvider, testCertificate } from '../../lib/testing/index.ts'
import type { ClientOptions, TestBrowser } from '../../lib/testing/index.ts'

const baseUrl = 'https://app.example.com'
const evil = 'https://evil.example'

interface Echo {
  method: string
  url: string
  headers: Record<string, string>
  body: string
}

/** Starts an application that sets cookies, redirects and echoes requests, as the request says. */
const createApp = (t: Test): FastifyInstance => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  app.all('/echo*', async ({ method, url, headers, body }) => ({ method, url, headers, body: body ?? '' }))
  app.all<{ Querystring: { c: string | string[], to?: string } }>('/set*', async ({ query: { c, to } }, reply) => {
    reply.header('set-cookie', c)
    return to ? reply.redirect(to) : reply.send('set')
  })
  app.all<{ Querystring: { to?: string; status?: string } }>('/go*', async ({ query: { to, status = '302' } }, reply) =>
    reply
      .code(Number(status))
      .header('location', to ?? '')
      .send('gone')
  )
  app.get<{ Querystring: { html: string } }>('/page*', async ({ query: { html } }, reply) =>
    reply.type('text/html; charset=utf-8').send(html)
  )
  return app
}

const browse = (t: Test, options: Partial<ClientOptions> = {}): TestBrowser =>
  client({ app: createApp(t), baseUrl, ...options })

const query = (fields: Record<string, string>): string => new URLSearchParams(fields).toString()

const set = (browser: TestBrowser, line: string, path = '/set') => browser.goto(`${path}?${query({ c: line })}`)

/** The names of the cookies in a header. */
const names = (cookie: string | undefined): string[] =>
  (cookie ?? '')
    .split('; ')
    .filter(Boolean)
    .map((pair) => pair.split('=')[0]!)

const sent = async (browser: TestBrowser, options: { from?: string, dest?: 'iframe' } = {}): Promise<string[]> =>
  names((await browser.goto('/echo', options)).json().headers.cookie)

t.test('a navigation', async (t) => {
  const browser = browse(t)
  const page = await browser.goto('/echo?a=1#part')
  t.equal(page.status, 200)
  t.equal(page.url, `${baseUrl}/echo?a=1#part`)
  t.match(page.headers.get('content-type'), 'application/json')
  const echo = page.json() as Echo
  t.match(JSON.parse(page.text()), echo)
  t.match(echo, {
    method: 'GET',
    url: '/echo?a=1',
    headers: {
      host: 'app.example.com',
      accept: /^text\/html/,
      'sec-fetch-mode': 'navigate',
      'sec-fetch-dest': 'document',
      'sec-fetch-site': 'none',
      'sec-fetch-user': '?1'
    }
  })
  t.notOk('origin' in echo.headers || 'cookie' in echo.headers)
  t.match(page.history, [{ method: 'GET', url: page.url, status: 200, setCookie: [] }])
  t.equal(page.location, undefined)
  t.equal((await browser.goto(`${baseUrl}/echo/absolute`)).json().url, '/echo/absolute')
})

t.test('headers for all requests, for one request, and both', async (t) => {
  const browser = browse(t, { headers: { 'x-all': '1', accept: 'application/json' } })
  t.match((await browser.goto('/echo', { headers: { 'x-one': '2' } })).json().headers, {
    'x-all': '1',
    'x-one': '2',
    accept: 'application/json'
  })
  t.match((await browser.post('/echo', { a: '1' })).json().headers, {
    'x-all': '1',
    'content-type': 'application/x-www-form-urlencoded'
  })
  t.match((await browser.fetch('/echo', { headers: { 'x-all': '3' } })).json().headers, { 'x-all': '3' })
})

t.test('redirects', async (t) => {
  const browser = browse(t)
  const page = await browser.goto(`/go?${query({ to: '/set?c=a%3D1&to=/echo' })}`)
  t.equal(page.json().url, '/echo')
  t.equal(page.url, `${baseUrl}/echo`)
  t.match(page.history, [
    { status: 302, url: /\/go/, location: `${baseUrl}/set?c=a%3D1&to=/echo` },
    { status: 302, setCookie: ['a=1'], location: `${baseUrl}/echo` },
    { status: 200, location: undefined }
  ])
  t.match(page.json().headers, { cookie: 'a=1', 'sec-fetch-site': 'none' })

  for (const [status, method] of [
    [301, 'GET'],
    [302, 'GET'],
    [303, 'GET'],
    [307, 'POST'],
    [308, 'POST']
  ]) {
    const {
      method: got,
      body,
      headers
    } = (await browser.post(`/go?${query({ to: '/echo', status: String(status) })}`, { a: '1' })).json() as Echo
    t.equal(got, method, `POST after ${status}`)
    t.equal(body, method === 'POST' ? 'a=1' : '')
    t.equal('content-type' in headers, method === 'POST')
    t.equal('origin' in headers, method === 'POST')
  }
  t.equal(
    (await browser.fetch(`/go?${query({ to: '/echo', status: '302' })}`, { method: 'PUT', body: 'x' })).json().method,
    'PUT'
  )
  t.equal(
    (await browser.fetch(`/go?${query({ to: '/echo', status: '303' })}`, { method: 'PUT', body: 'x' })).json().method,
    'GET'
  )
  t.equal(
    (await browser.fetch(`/go?${query({ to: '/echo', status: '303' })}`, { method: 'HEAD' })).history[1]!.method,
    'HEAD'
  )
})

t.test('redirects that are not followed', async (t) => {
  const browser = browse(t)
  t.match(await browser.goto('/go?to=myapp://callback%3Fcode=1'), { status: 302, location: 'myapp://callback?code=1' })
  t.match(await browser.goto('/go?to=http://['), { status: 302, location: undefined })
  t.match(await browser.goto('/go?to=/echo&status=200'), { status: 200, location: `${baseUrl}/echo` })
  t.match(await browser.goto('/go?to=/echo', { until: ({ pathname }) => pathname === '/echo' }), {
    status: 302,
    location: `${baseUrl}/echo`
  })
  t.match(await browser.step('/go?to=/echo'), { status: 302, location: `${baseUrl}/echo` })
  t.match(await browser.fetch('/go?to=/echo', { redirect: 'manual' }), { status: 302, location: `${baseUrl}/echo` })
  t.match((await browser.step('/echo', { method: 'DELETE' })).json(), { method: 'DELETE', headers: { origin: 'null' } })
  t.match((await browser.step('/echo', { body: 'a=b', from: baseUrl })).json(), {
    method: 'POST',
    body: 'a=b',
    headers: { origin: baseUrl }
  })
  t.match((await browser.step('/echo', { body: {}, method: 'PUT' })).json(), { method: 'PUT' })
})

t.test('the number of redirects is limited', async (t) => {
  const app = createApp(t)
  app.get<{ Params: { n: string } }>('/count/:n', async ({ params }, reply) => {
    const n = Number(params.n)
    return n > 0 ? reply.redirect(`/count/${n - 1}`) : reply.send('there')
  })
  const browser = client({ app, baseUrl })
  t.equal((await browser.goto('/count/20')).history.length, 21)
  await t.rejects(browser.goto('/count/21'), /more than 20 redirects, last to https:\/\/app.example.com\/count\/0/)
  await t.rejects(client({ app, baseUrl, maxRedirects: 2 }).goto('/count/3'), /more than 2 redirects/)
})

t.test('fetch metadata and Origin', async (t) => {
  const browser = browse(t)
  const got = async (page: Promise<{ json: () => Echo }>) => (await page).json().headers
  const typed = await got(browser.goto('/echo'))
  t.equal(typed['sec-fetch-site'], 'none')
  t.equal((await got(browser.goto('/echo', { from: baseUrl })))['sec-fetch-site'], 'same-origin')
  t.equal((await got(browser.goto('/echo', { from: 'https://www.example.com/page' })))['sec-fetch-site'], 'same-site')
  t.equal(
    (await got(browser.goto('/echo', { from: 'http://app.example.com' })))['sec-fetch-site'],
    'cross-site',
    'another scheme is another site'
  )
  t.equal((await got(browser.goto('/echo', { from: evil })))['sec-fetch-site'], 'cross-site')
  t.match(await got(browser.goto('/echo', { from: evil, dest: 'iframe' })), {
    'sec-fetch-dest': 'iframe',
    'sec-fetch-user': undefined
  })

  t.match(await got(browser.post('/echo')), {
    origin: baseUrl,
    'sec-fetch-site': 'same-origin',
    'content-type': 'application/x-www-form-urlencoded'
  })
  t.match(await got(browser.post('/echo', {}, { from: evil })), {
    origin: evil,
    'sec-fetch-site': 'cross-site',
    'sec-fetch-mode': 'navigate'
  })

  t.match(await got(browser.fetch('/echo')), {
    accept: '*/*',
    origin: undefined,
    'sec-fetch-site': 'same-origin',
    'sec-fetch-mode': 'cors',
    'sec-fetch-dest': 'empty',
    'sec-fetch-user': undefined
  })
  t.match(await got(browser.fetch('/echo', { method: 'POST' })), { origin: baseUrl })
  t.match(await got(browser.fetch('/echo', { from: evil })), { origin: evil, 'sec-fetch-site': 'cross-site' })
})

t.test('posting a form', async (t) => {
  const browser = browse(t)
  t.match((await browser.post('/echo', { a: 'ä b', c: '1' })).json(), { method: 'POST', body: 'a=%C3%A4+b&c=1' })
  t.match((await browser.post('/echo', new URLSearchParams([['a', '1'], ['a', '2']]))).json(), { body: 'a=1&a=2' })
  t.match((await browser.post('/echo', 'raw=%')).json(), { body: 'raw=%' })
})

t.test('requests of a script', async (t) => {
  const browser = browse(t)
  t.match((await browser.fetch('/echo', { method: 'POST', body: 'text' })).json(), {
    body: 'text',
    headers: { 'content-type': 'text/plain;charset=UTF-8' }
  })
  t.match((await browser.fetch('/echo', { method: 'POST', json: { a: 1 } })).json(), {
    body: '{"a":1}',
    headers: { 'content-type': 'application/json' }
  })
  t.match((await browser.fetch('/echo', { method: 'POST', body: new URLSearchParams({ a: '1' }) })).json(), {
    body: 'a=1',
    headers: { 'content-type': 'application/x-www-form-urlencoded' }
  })
  t.match((await browser.fetch('/go?to=/echo')).history, [{ status: 302 }, { status: 200 }])
  t.match(
    (
      await browser.fetch(
        `/page?${query({ html: '<form action="/echo"></form><script>document.forms[0].submit()</script>' })}`
      )
    ).history.length,
    1,
    'for a script, no form is submitted'
  )
})

t.test('the cookies of a script', async (t) => {
  const browser = browse(t)
  await set(browser, 'lax=1')
  await set(browser, 'none=1; Secure; SameSite=None')
  const cookies = async (options: object) => names((await browser.fetch('/echo', options)).json().headers.cookie)
  t.same(await cookies({}), ['lax', 'none'])
  t.same(await cookies({ credentials: 'omit' }), [])
  t.same(await cookies({ from: evil }), [], 'credentials are for the same origin by default')
  t.same(await cookies({ from: evil, credentials: 'include' }), ['none'])
  t.same(
    await cookies({ from: 'https://www.example.com', credentials: 'include' }),
    ['lax', 'none'],
    'a sibling domain is the same site'
  )

  await browser.fetch('/set?c=omitted%3D1', { credentials: 'omit' })
  await browser.fetch('/set?c=foreign%3D1', { from: evil })
  t.same(names(browser.cookies.header()), ['lax', 'none'], 'without credentials nothing is stored')
  await browser.fetch(`/set?${query({ c: 'strict=1; SameSite=Strict' })}`, { from: evil, credentials: 'include' })
  t.match(browser.cookies.refused, [{ line: 'strict=1; SameSite=Strict', reason: 'SameSite from another site' }])
  await browser.fetch(`/set?${query({ c: 'none=2; Secure; SameSite=None' })}`, { from: evil, credentials: 'include' })
  t.equal(browser.cookies.get('none'), '2')
})

t.test('after a redirect to another origin, a script sends no credentials', async (t) => {
  const browser = browse(t)
  const app = createApp(t)
  const other = await app.listen({ host: '127.0.0.1', port: 0 })
  browser.cookies.set('there', '1', other)
  const page = await browser.fetch(`/go?${query({ to: `${other}/echo` })}`)
  t.match(page.json().headers, { cookie: undefined, origin: baseUrl, 'sec-fetch-site': 'cross-site' })
  const back = await browser.fetch(`/go?${query({ to: `${other}/go?${query({ to: `${baseUrl}/echo` })}` })}`)
  t.match(back.json().headers, { origin: 'null', 'sec-fetch-site': 'cross-site' }, 'after the way back, the origin is hidden')
})

t.test('SameSite', async (t) => {
  const browser = browse(t)
  await set(browser, 'default=1')
  await set(browser, 'lax=1; SameSite=Lax')
  await set(browser, 'strict=1; samesite=STRICT')
  await set(browser, 'none=1; Secure; SameSite=None')
  const all = ['default', 'lax', 'strict', 'none']
  t.same(await sent(browser), all, 'a typed address')
  t.same(await sent(browser, { from: baseUrl }), all, 'a link on the same origin')
  t.same(await sent(browser, { from: 'https://www.example.com' }), all, 'a link on the same site')
  t.same(await sent(browser, { from: evil }), ['default', 'lax', 'none'], 'a link on another site')
  t.same(await sent(browser, { from: 'http://app.example.com' }), ['default', 'lax', 'none'], 'a link on http')
  t.same(await sent(browser, { from: evil, dest: 'iframe' }), ['none'], 'an iframe on another site')
  t.same(await sent(browser, { from: baseUrl, dest: 'iframe' }), all, 'an iframe on the same origin')
  t.same(names((await browser.post('/echo', {})).json().headers.cookie), all, 'a form on the same origin')
  t.same(names((await browser.post('/echo', {}, { from: evil })).json().headers.cookie), ['none'], 'a form on another site')
  const after = await browser.post('/go?to=/echo', {}, { from: evil })
  t.same(names(after.json().headers.cookie), ['default', 'lax', 'none'], 'a GET after a form on another site')

  await set(browser, 'x=1; SameSite=None')
  t.match(browser.cookies.refused, [{ reason: 'SameSite=None without Secure' }])
})

t.test('a redirect chain through another site counts as cross-site', async (t) => {
  const browser = browse(t)
  const away = await createApp(t).listen({ host: '127.0.0.1', port: 0 })
  await set(browser, 'lax=1; SameSite=Lax')
  await set(browser, 'strict=1; SameSite=Strict')
  const through = `/go?${query({ to: `${away}/go?${query({ to: `${baseUrl}/echo` })}` })}`
  const typed = (await browser.goto(through)).json() as Echo
  t.same(names(typed.headers.cookie), ['lax'])
  t.equal(typed.headers['sec-fetch-site'], 'none')
  const clicked = (await browser.goto(through, { from: baseUrl })).json() as Echo
  t.same(names(clicked.headers.cookie), ['lax'])
  t.equal(clicked.headers['sec-fetch-site'], 'cross-site')
  t.same(
    names((await browser.goto('/go?to=/echo')).json().headers.cookie),
    ['lax', 'strict'],
    'a chain on the same site does not'
  )
  const stored = await browser.goto(
    `${away}/go?${query({ to: `${baseUrl}/set?${query({ c: 'new=1; SameSite=Strict' })}` })}`
  )
  t.equal(stored.status, 200)
  t.equal(browser.cookies.get('new'), '1', 'a cross-site navigation can still set Strict cookies')
})

t.test('Path', async (t) => {
  const browser = browse(t)
  await set(browser, 'root=1; Path=/')
  await set(browser, 'auth=1; Path=/echo/auth')
  await set(browser, 'slash=1; Path=/echo/')
  await set(browser, 'default=1', '/set/deep/er')
  await set(browser, 'relative=1; Path=echo', '/set/deep/er')
  const at = async (path: string) => names((await browser.goto(path)).json().headers.cookie)
  t.same(await at('/echo/auth/login'), ['auth', 'slash', 'root'], 'the longest path comes first')
  t.same(await at('/echo/auth'), ['auth', 'slash', 'root'])
  t.same(await at('/echo/authentic'), ['slash', 'root'])
  t.same(await at('/echo'), ['root'])
  t.match(
    browser.cookies
      .list()
      .filter(({ path }) => path === '/set/deep')
      .map(({ name }) => name),
    ['default', 'relative']
  )
})

t.test('Domain', async (t) => {
  const browser = browse(t)
  await set(browser, 'host=1; Path=/')
  await set(browser, 'wide=1; Path=/; Domain=.Example.com')
  await set(browser, 'same=1; Path=/; Domain=app.example.com')
  t.same(browser.cookies.list('https://app.example.com/').map(({ name }) => name), ['host', 'wide', 'same'])
  t.same(browser.cookies.list('https://www.example.com/').map(({ name }) => name), ['wide'])
  t.same(browser.cookies.list('https://x.app.example.com/').map(({ name }) => name), ['wide', 'same'])
  t.same(browser.cookies.list('https://notexample.com/').map(({ name }) => name), [])
  await set(browser, 'x=1; Domain=other.example.com')
  await set(browser, 'x=1; Domain=ple.com')
  await set(browser, 'x=1; Domain=com')
  t.match(
    browser.cookies.refused.map(({ reason }) => reason),
    ['Domain of another host', 'Domain of another host', 'Domain is a public suffix']
  )
  const local = client({ app: createApp(t), baseUrl: 'http://localhost:3000' })
  await set(local, 'x=1; Domain=localhost')
  t.equal(local.cookies.get('x', '/set'), '1')
})

t.test('Secure', async (t) => {
  const app = createApp(t)
  const https = client({ app, baseUrl })
  await set(https, 'safe=1; Path=/; Secure')
  t.equal(https.cookies.header(), 'safe=1')
  t.equal(https.cookies.header('http://app.example.com/'), '')

  const http = client({ app, baseUrl: 'http://app.example.com' })
  await set(http, 'safe=1; Path=/; Secure')
  t.match(http.cookies.refused, [{ reason: 'Secure from an insecure origin' }])
  t.notOk('sec-fetch-site' in (await http.goto('/echo')).json().headers, 'no fetch metadata for an insecure origin')
  http.cookies.set('plain', '1')
  t.match(http.cookies.list(), [{ name: 'plain', secure: false }])

  for (const origin of ['http://localhost:3000', 'http://app.localhost', 'http://127.0.0.1', 'http://[::1]:8080']) {
    const loopback = client({ app, baseUrl: origin })
    await set(loopback, 'safe=1; Path=/; Secure')
    t.same(names((await loopback.goto('/echo')).json().headers.cookie), ['safe'], origin)
  }
})

t.test('an insecure origin cannot overwrite a Secure cookie', async (t) => {
  const away = createApp(t)
  const browser = client({ app: away, baseUrl: 'http://app.example.com' })
  browser.cookies.set('session', 'right', 'https://app.example.com/')
  await set(browser, 'session=wrong; Path=/')
  t.match(browser.cookies.refused, [{ reason: 'over a Secure cookie from an insecure origin' }])
  t.equal(browser.cookies.get('session', 'https://app.example.com/'), 'right')
  await set(browser, 'other=1; Path=/')
  t.equal(browser.cookies.get('other'), '1')
})

t.test('cookie name prefixes', async (t) => {
  const browser = browse(t)
  const accepted = [
    '__Secure-a=1; Secure', '__Secure-b=1; Secure; Domain=example.com; Path=/x', '__Host-c=1; Secure; Path=/',
    '__host-d=1; Path=/; Secure; HttpOnly', '__Http-e=1; Secure; HttpOnly',
    '__Host-Http-f=1; Secure; HttpOnly; Path=/'
  ]
  for (const line of accepted) await set(browser, line)
  t.same(browser.cookies.refused, [])
  t.equal(browser.cookies.list().length, accepted.length)

  const refused = {
    '__Secure-a=2': '__Secure- without Secure',
    '__SECURE-a=2': '__Secure- without Secure',
    '__Host-c=2; Path=/': '__Host- without',
    '__Host-c=2; Secure': '__Host- without',
    '__Host-c=2; Secure; Path=/set': '__Host- without',
    '__Host-c=2; Secure; Path=/; Domain=app.example.com': '__Host- without',
    '__Http-e=2; Secure': '__Http- without',
    '__Host-Http-f=2; Secure; Path=/': '__Http- without',
    '=__Host-c=2; Secure; Path=/': 'a prefix without a name'
  }
  for (const line of Object.keys(refused)) await set(browser, line)
  t.match(browser.cookies.refused, Object.entries(refused).map(([line, reason]) => ({ line, reason })))
})

t.test('names, values and size of cookies', async (t) => {
  const browser = browse(t)
  const attributes = '; Path=/; Secure; HttpOnly'
  const fits = `a=${'x'.repeat(4096 - 2 - attributes.length)}${attributes}`
  await set(browser, fits)
  await set(browser, fits.replace('a=', 'b=x'))
  t.same(names(browser.cookies.header()), ['a'])
  t.match(browser.cookies.refused, [{ reason: 'larger than 4096 bytes' }])
  t.equal(browser.cookies.bytes(), 4096 - attributes.length)
  browser.cookies.clear()

  await set(browser, '=nameless; Path=/')
  await set(browser, 'novalue=; Path=/')
  await set(browser, ' spaced = a b ; Path=/')
  await set(browser, 'eq=a=b; Path=/; Unknown; Max-Age=soon; Expires=never')
  t.equal(browser.cookies.header(), 'nameless; novalue=; spaced=a b; eq=a=b')
  t.equal(browser.cookies.list().at(-1)!.expires, undefined, 'an invalid Expires is ignored')
  await set(browser, 'plain; Path=/')
  t.equal(browser.cookies.get(''), 'plain')
  await set(browser, '=; Path=/')
  t.match(browser.cookies.refused.at(-1), { reason: 'empty' })
})

t.test('control characters in cookies', async (t) => {
  const raw = client({
    app: {
      inject: (async () => ({
        statusCode: 200,
        headers: { 'set-cookie': ['ok=1', 'bad=\u0001'], 'x-number': 7, 'x-none': undefined },
        rawPayload: Buffer.alloc(0)
      })) as never
    },
    baseUrl
  })
  const page = await raw.goto('/')
  t.same(names(raw.cookies.header()), ['ok'])
  t.match(raw.cookies.refused, [{ reason: 'control character' }])
  t.equal(page.headers.get('x-number'), '7')
  t.notOk(page.headers.has('x-none'))
})

t.test('Max-Age and Expires', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const browser = browse(t)
  await set(browser, 'session=1; Path=/')
  await set(browser, 'hour=1; Path=/; Max-Age=3600; Expires=Thu, 01 Jan 1970 00:00:00 GMT')
  await set(browser, `day=1; Path=/; Expires=${new Date(Date.now() + 86_400_000).toUTCString()}`)
  await set(browser, 'ages=1; Path=/; Max-Age=999999999')
  await set(browser, 'dates=1; Path=/; Expires=Fri, 31 Dec 9999 23:59:59 GMT')
  t.same(await sent(browser), ['session', 'hour', 'day', 'ages', 'dates'])
  clock.advance(3600)
  t.same(await sent(browser), ['session', 'day', 'ages', 'dates'])
  t.same(browser.cookies.list().map(({ name }) => name), ['session', 'day', 'ages', 'dates'])
  clock.advance(86_400)
  t.same(await sent(browser), ['session', 'ages', 'dates'])
  clock.advance(400 * 86_400)
  t.same(await sent(browser), ['session'], 'no cookie lives longer than 400 days')

  await set(browser, 'session=; Path=/; Max-Age=0')
  t.same(await sent(browser), [])
  await set(browser, 'a=1; Path=/')
  await set(browser, 'a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT')
  await set(browser, 'b=1; Path=/; Max-Age=-1')
  t.same(await sent(browser), [])
})

t.test('a cookie replaces one with the same name, domain and path', async (t) => {
  const browser = browse(t)
  await set(browser, 'a=1; Path=/')
  await set(browser, 'b=1; Path=/')
  await set(browser, 'a=2; Path=/')
  await set(browser, 'a=3; Path=/echo')
  t.equal((await browser.goto('/echo')).json().headers.cookie, 'a=3; a=2; b=1')
})

t.test('a test can read and change the cookies', async (t) => {
  const browser = browse(t)
  await set(browser, '__Host-session=right; Path=/; Secure; HttpOnly; SameSite=Strict')
  browser.cookies.set('__Host-session', 'tampered')
  t.match(browser.cookies.list(), [
    {
      name: '__Host-session',
      value: 'tampered',
      httpOnly: true,
      sameSite: 'strict',
      hostOnly: true,
      domain: 'app.example.com'
    }
  ])
  browser.cookies.set('new', '1')
  t.equal(browser.cookies.header(), '__Host-session=tampered; new=1')
  browser.cookies.list()[0]!.value = 'outside'
  t.equal(browser.cookies.get('__Host-session'), 'tampered', 'the list is a copy')
  t.equal(browser.cookies.get('__Host-session', 'http://app.example.com'), undefined)
  browser.cookies.delete('new')
  browser.cookies.delete('unknown')
  t.same(names(browser.cookies.header('/echo')), ['__Host-session'])
  t.equal(browser.cookies.get('unknown'), undefined)

  const twin = browser.clone()
  browser.cookies.clear()
  t.equal(browser.cookies.bytes(), 0)
  t.equal(twin.cookies.header(), '__Host-session=tampered')
  await set(twin, 'twin=1; Path=/')
  t.equal(browser.cookies.header(), '')
  t.same(names((await twin.goto('/echo')).json().headers.cookie), ['__Host-session', 'twin'])
})

const selfPosting = (form: string): string =>
  `/page?${query({ html: `<body onload="document.forms[0].submit()">${form}</body>` })}`

t.test('pages that submit a form by script', async (t) => {
  const browser = browse(t)
  await set(browser, 'lax=1; Path=/')
  const form =
    '<form method="post" action="/echo?a=1&amp;b=2"><input type=hidden name=code value="x&quot;&#39;&#x41;&unknown;"><INPUT value=\'y\' name=\'state\'><input name=empty><input type=submit></form>'
  const page = await browser.goto(selfPosting(form))
  t.match(page.json(), {
    method: 'POST',
    url: '/echo?a=1&b=2',
    headers: { origin: baseUrl, cookie: 'lax=1', 'sec-fetch-user': undefined }
  })
  t.same(
    [...new URLSearchParams(page.json().body)],
    [
      ['code', 'x"\'A&unknown;'],
      ['state', 'y'],
      ['empty', '']
    ]
  )
  t.equal(page.form, undefined)
  t.match(page.history, [{ method: 'GET' }, { method: 'POST', url: `${baseUrl}/echo?a=1&b=2` }])

  const stopped = await browser.goto(selfPosting(form), { submit: false })
  t.equal(stopped.form!.action.href, `${baseUrl}/echo?a=1&b=2`)
  t.equal(stopped.form!.method, 'POST')
  t.equal(stopped.form!.fields.get('state'), 'y')
  t.ok((await client({ app: createApp(t), baseUrl, submit: false }).goto(selfPosting(form))).form)
  t.ok((await browser.goto(selfPosting(form), { until: ({ pathname }) => pathname === '/echo' })).form)

  t.match((await browser.goto(selfPosting('<form action="/echo"><input name=q value=1></form>'))).json(), {
    method: 'GET',
    url: '/echo?q=1'
  })
  t.match((await browser.goto(selfPosting('<form action="/echo?kept=1"></form>'))).json(), {
    method: 'GET',
    url: '/echo?kept=1'
  })
  await t.rejects(
    browser.goto(selfPosting('<form></form>')),
    /more than 20/,
    'a form without an action posts to its own URL'
  )
  t.match(
    await browser.goto('/page?html=<form action="/echo"></form>'),
    { status: 200, form: undefined },
    'a form without a script is not submitted'
  )
  t.match(await browser.goto('/page?html=.submit()'), { status: 200, form: undefined })
})

t.test('a form that a page of another site submits by script is cross-site', async (t) => {
  const browser = browse(t)
  await set(browser, 'lax=1; Path=/')
  await set(browser, 'none=1; Path=/; Secure; SameSite=None')
  const away = await createApp(t).listen({ host: '127.0.0.1', port: 0 })
  const page = await browser.goto(`${away}${selfPosting(`<form method=post action="${baseUrl}/echo"></form>`)}`)
  t.match(page.json(), { method: 'POST', headers: { origin: away, cookie: 'none=1', 'sec-fetch-site': 'cross-site' } })
})

t.test('pages with a refresh', async (t) => {
  const browser = browse(t)
  await set(browser, 'strict=1; Path=/; SameSite=Strict')
  const refresh = (content: string) => `/page?${query({ html: `<meta http-equiv="refresh" content="${content}">` })}`
  const page = await browser.goto(refresh("0;url='/echo?a=1&amp;b=2'"), { from: evil })
  t.match(
    page.json(),
    { url: '/echo?a=1&b=2', headers: { cookie: 'strict=1', 'sec-fetch-site': 'same-origin' } },
    'a refresh is same-origin'
  )
  t.equal((await browser.goto(refresh('0; URL=/echo'))).url, `${baseUrl}/echo`)
  t.equal((await browser.goto(refresh('5;url=/echo'))).history.length, 1, 'a refresh with a delay is not followed')
  t.equal((await browser.goto('/page?html=<meta http-equiv=refresh>')).history.length, 1)
  t.equal((await browser.goto(refresh('0;url=/echo'), { submit: false })).form!.action.pathname, '/echo')
})

t.test('without an application, requests go over the network', async (t) => {
  const url = await createApp(t).listen({ host: '127.0.0.1', port: 0 })
  const browser = client({ baseUrl: url })
  await set(browser, '__Host-a=1; Path=/; Secure')
  t.match((await browser.post('/echo', { x: 'y' })).json(), {
    method: 'POST',
    body: 'x=y',
    headers: { host: url.slice(7), cookie: '__Host-a=1', origin: url, connection: 'close' }
  })
  await t.rejects(client({ baseUrl: 'http://127.0.0.1:1' }).goto('/'), { code: 'ECONNREFUSED' } as unknown as Error)
})

t.test('TLS with its own certificate authority', async (t) => {
  const tls = testCertificate()
  const app = Fastify({ https: tls })
  t.teardown(() => app.close())
  app.get('/', async () => 'secure')
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.equal((await client({ baseUrl: url, ca: tls.cert }).goto('/')).text(), 'secure')
  await t.rejects(client({ baseUrl: url }).goto('/'), /self-signed certificate/)
})

t.test('a response that is cut off', async (t) => {
  const provider = await startProvider()
  t.teardown(() => provider.close())
  provider.fault({ on: 'metadata', cut: true })
  await t.rejects(client({ baseUrl: provider.url }).goto('/.well-known/openid-configuration'), /aborted/)
})

t.test('a login with the provider, in both response modes', async (t) => {
  const provider = await startProvider()
  t.teardown(() => provider.close())
  const app = createApp(t)
  app.get<{ Querystring: { mode: string } }>('/login', async ({ query: { mode } }, reply) =>
    reply.redirect(
      `${provider.issuer}/authorize?${query({ client_id: 'web', redirect_uri: `${baseUrl}/echo`, response_type: 'code', state: 's', response_mode: mode })}`
    )
  )
  const browser = client({ app, baseUrl })
  const got = await browser.goto('/login?mode=query')
  t.match(new URL(got.url).searchParams.get('state'), 's')
  t.equal(got.history.length, 3)
  const posted = await browser.goto('/login?mode=form_post')
  t.match(new URLSearchParams(posted.json().body).get('code'), /./)
  t.equal(posted.json().headers.origin, provider.url)
  t.match(browser.cookies.list(provider.url), [{ name: `op_session_${provider.port}`, httpOnly: true }])
})
