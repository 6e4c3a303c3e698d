import { createHash } from 'node:crypto'
import t from 'tap'
import { refuse } from '../../index.ts'
import { sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, registrationOf, startApp } from '../support/app.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { captureLog } from '../support/protocol.ts'
import type { FastifyInstance } from 'fastify'
import type { OidcPage, PageOptions } from '../../index.ts'

t.setTimeout(240_000) // where other work shares the cores

const LOGO = 'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg"/>'
const EVIL = '"><script>alert(1)</script>&\''
const FORM = {
  ...NAVIGATION, origin: BASE_URL, 'sec-fetch-site': 'same-origin', 'content-type': 'application/x-www-form-urlencoded'
}

/** An address for each kind of page, and the English title there. */
const PAGES: Array<[url: string, kind: string, title: string]> = [
  ['/auth/callback?state=x', 'error', 'This login cannot be completed'],
  ['/auth/logout', 'confirm_logout', 'Do you want to log out?'],
  ['/admin', 'error', 'Your account does not have access to this.']
]

async function open (app: FastifyInstance, url: string, headers: Record<string, string> = {}) {
  const session = url === '/admin' ? { cookie: sessionCookie(app) } : {}
  return await app.inject({ url, headers: { ...NAVIGATION, ...session, ...headers } })
}

async function start (pages: PageOptions, server = {}) {
  const { app, provider, browser } = await startApp(t, { pages, hookTimeout: 0.2 }, {}, server)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  app.post('/sign-in', async (request, reply) => await app.oidc.login(request, reply))
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, _body, done) => done(null))
  return { app, provider, browser }
}

t.test('the language is that of the browser, English without one, and caches know it', async (t) => {
  const { app } = await start({})
  for (const [url, , title] of PAGES) {
    const english = await open(app, url)
    t.match(english.body, '<html lang="en">', url)
    t.match(english.body, `<h1>${title}`, url)
    t.match(english.headers, { 'content-language': 'en', vary: /\bAccept-Language\b/, 'cache-control': 'no-store' })
    const german = await open(app, url, { 'accept-language': 'sv, de-AT;q=0.8, en;q=0.5' })
    t.match(german.body, '<html lang="de">')
    t.notMatch(german.body, title)
    t.match(german.headers, { 'content-language': 'de', vary: /\bAccept-Language\b/ })
    t.equal(german.statusCode, english.statusCode)
  }
  const { body } = await open(app, '/admin', { 'accept-language': 'fr' })
  t.match(body, '<h1>Votre compte n&#39;a pas accès à cette page.</h1>')
  t.match(body, /<p>Utilisez un autre compte[^<]*<\/p><p><small>FST_OIDC_FORBIDDEN<\/small><\/p>/)
  t.match(body, '>Utiliser un autre compte</a>')
})

t.test('Vary keeps what the application has set', async (t) => {
  const { app } = await start({})
  let vary: string | undefined
  app.addHook('onRequest', async (_request, reply) => { if (vary !== undefined) reply.header('vary', vary) })
  for (const [before, after] of [['Origin', 'Origin, Accept-Language'], ['*', '*'], ['accept-language', 'accept-language']]) {
    vary = before
    t.equal((await app.inject({ url: '/auth/logout', headers: NAVIGATION })).headers['vary'], after)
  }
})

t.test('one language for all', async (t) => {
  const { app } = await start({ language: 'ja' })
  const { body, headers } = await app.inject({ url: '/auth/logout', headers: { ...NAVIGATION, 'accept-language': 'de' } })
  t.match(body, '<html lang="ja">')
  t.match(body, '<h1>ログアウトしますか？</h1>')
  t.equal(headers['content-language'], 'ja')
  t.equal(headers['vary'], undefined, 'the page does not depend on the browser')
})

t.test('JSON and the log stay in English', async (t) => {
  const { lines, server } = captureLog()
  const { app } = await start({ language: 'de', messages: { FST_OIDC_FORBIDDEN: 'Nein!' } }, server)
  const { app: plain } = await start({})
  const headers = { 'accept-language': 'de', accept: 'application/json' }
  for (const url of ['/admin', '/me', '/auth/callback?state=x']) {
    const [one, other] = [await app.inject({ url, headers }), await plain.inject({ url, headers })]
    t.equal(one.body, other.body, url)
    t.equal(one.headers['content-language'], undefined)
  }
  t.match((await open(app, '/admin')).body, '<h1>Nein!</h1>')
  t.match(lines(), '"msg":"Your account does not have access to this."')
})

t.test('the name and the logo of the application are on each page, escaped', async (t) => {
  const { app } = await start({ name: `Shop ${EVIL}`, logo: LOGO })
  for (const [url] of PAGES) {
    const { body, headers } = await open(app, url)
    const name = 'Shop &#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;&#39;'
    t.match(body, `<header><img src="data:image/svg+xml,&#60;svg xmlns=&#34;http://www.w3.org/2000/svg&#34;/&#62;" alt=""><span>${name}</span></header>`)
    t.match(body, ` – ${name}</title>`)
    t.notMatch(body, '<script')
    t.match(headers['content-security-policy'], "default-src 'none'; img-src data:; style-src 'sha256-")
  }
  const { app: wordmark } = await start({ logo: LOGO })
  t.match((await open(wordmark, '/admin')).body, ' alt="app.example.com"></header>')
  const { app: named } = await start({ name: 'Shop' })
  t.match((await open(named, '/admin')).body, '<header><span>Shop</span></header>')
  const { app: plain } = await start({})
  const { body, headers } = await open(plain, '/admin')
  t.notMatch(body, '<header>')
  t.match(headers['content-security-policy'],
    /^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/)
})

t.test('labels and addresses are escaped', async (t) => {
  const { provider } = await startApp(t)
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    providers: {
      one: { ...registrationOf(provider), label: EVIL },
      two: { ...registrationOf(provider), clientId: 'other', label: 'Two' }
    }
  })
  const { body } = await app.inject({ url: `/auth/login?return_to=/${encodeURIComponent(EVIL)}`, headers: NAVIGATION })
  t.match(body, '<ul role="list"><li><a href="https://app.example.com/auth/one/login?return_to=')
  t.match(body, '">&#34;&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#38;&#39;</a></li>')
  t.notMatch(body, '<script')
})

t.test('the theme', async (t) => {
  for (const [theme, light, dark, media] of [
    ['light', true, false, false], ['dark', false, true, false], ['auto', true, true, true], [undefined, true, true, true]
  ] as const) {
    const { app } = await start(theme === undefined ? {} : { theme })
    const { body } = await open(app, '/admin')
    t.same([
      body.includes('color-scheme:light'), body.includes('color-scheme:dark'), body.includes('prefers-color-scheme')
    ], [light, dark, media], String(theme))
  }
})

t.test('a message of the application is shown as it is', async (t) => {
  const { browser } = await startApp(t, {
    pages: { language: 'de' },
    onClaims: () => { throw refuse(`Ask your manager ${EVIL}`, { detail: 'not invited' }) }
  })
  const page = await browser.goto('/me')
  t.match([page.status, page.text()], [403, /<h1>Ask your manager &#34;&#62;&#60;script[^<]*<\/h1><p><small>FST_OIDC_CLAIMS/])
  t.match(page.text(), '>Anderes Konto verwenden</a>')
})

t.test('the application renders the page, and gets what it needs', async (t) => {
  const seen: OidcPage[] = []
  const { app } = await start({
    messages: { de: { logOut: 'Tschüss' } },
    render: async (page) => {
      seen.push(page)
      return `<!doctype html><style nonce="${page.nonce}"></style>${page.kind}`
    }
  })
  const policies = new Set()
  for (const [url, kind, title] of PAGES) {
    const { body, headers, statusCode } = await open(app, url)
    const page = seen.at(-1) as OidcPage
    t.equal(body, `<!doctype html><style nonce="${page.nonce}"></style>${kind}`)
    t.match(page, { kind, language: 'en', continues: false, texts: { logOut: 'Log out' } })
    t.ok(page.title.startsWith(title), url)
    t.match(page.html, `<h1>${title}`)
    t.equal(page.request.url, url)
    t.match(page.nonce, /^[\w+/]{22}==$/)
    const policy = String(headers['content-security-policy'])
    t.match(policy, `style-src 'self' 'nonce-${page.nonce}' 'sha256-`)
    t.match(policy, `script-src 'nonce-${page.nonce}'; `)
    t.match(policy, /^default-src 'none'; img-src 'self' data:; font-src 'self'; .*base-uri 'none'; frame-ancestors 'none'$/)
    t.notMatch(policy, 'unsafe')
    t.match(headers, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', 'content-language': 'en' })
    policies.add(page.nonce)
    t.ok(statusCode >= 400)
  }
  t.equal(policies.size, PAGES.length, 'each page has its own nonce')
  t.match(seen[2], { error: { code: 'FST_OIDC_FORBIDDEN', statusCode: 403 }, actions: [{ label: 'Use another account' }] })
  t.match(seen[1], {
    actions: [
      { method: 'POST', label: 'Log out', url: `${BASE_URL}/auth/logout`, fields: [] },
      { method: 'GET', label: 'Stay logged in', url: `${BASE_URL}/` }
    ]
  })
  t.equal(seen[1]?.error, undefined)

  await open(app, '/auth/logout', { 'accept-language': 'de' })
  t.match(seen.at(-1), { language: 'de', title: 'Möchten Sie sich abmelden?', texts: { logOut: 'Tschüss' } })
  const going = await app.inject({ method: 'POST', url: '/sign-in', headers: FORM, payload: '' })
  t.equal(going.statusCode, 200)
  t.match(seen.at(-1), { kind: 'continue', continues: true, title: 'Logging in', actions: [{ method: 'GET' }] })
})

t.test('the page of the plugin fits into the policy of a rendered one', async (t) => {
  const { app } = await start({ render: ({ html }) => html })
  const { app: plain } = await start({})
  const withoutLinks = (body: string): string => body.replaceAll(/href="[^"]*"/g, '')
  for (const [url] of PAGES) {
    const page = await open(app, url)
    t.equal(withoutLinks(page.body), withoutLinks((await open(plain, url)).body))
    const style = /<style>(.*?)<\/style>/.exec(page.body)?.[1] as string
    const hash = createHash('sha256').update(style).digest('base64')
    t.match(page.headers['content-security-policy'], ` 'sha256-${hash}'; `)
  }
})

t.test('when the page cannot be rendered, the page of the plugin is sent, and the log has an error', async (t) => {
  const failures: Array<[name: string, render: () => unknown, reason: string]> = [
    ['throws', () => { throw new Error('no template') }, 'no template'],
    ['rejects', async () => { throw new Error('no template') }, 'no template'],
    ['never returns', async () => await new Promise(() => {}), 'it has not ended within 0.2 s'],
    ['nothing', () => undefined, 'it returned no text'],
    ['null', async () => null, 'it returned no text'],
    ['an object', () => ({ html: '<p>' }), 'it returned no text'],
    ['an empty text', () => '', 'it returned no text']
  ]
  for (const [name, render, reason] of failures) {
    const { lines, server } = captureLog()
    const { app } = await start({ render: render as never }, server)
    const { body, headers, statusCode } = await open(app, '/admin')
    t.match([statusCode, body], [403, '<h1>Your account does not have access to this.</h1>'], name)
    t.notMatch(headers['content-security-policy'], 'nonce')
    const line = lines().split('\n').find((line) => line.includes('"pages.render\\" failed')) as string
    t.match(JSON.parse(line), { level: 50, page: 'error', err: { message: reason } }, name)
  }
})
