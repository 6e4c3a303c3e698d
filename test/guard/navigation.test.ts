import t from 'tap'
import { BASE_URL, logIn, startApp } from '../support/app.ts'
import { HTML, NAVIGATION, beginsLogin } from '../support/navigation.ts'

type Headers = Record<string, string>

const SERVICE_WORKER = { ...NAVIGATION, 'sec-fetch-dest': 'empty', 'sec-fetch-site': 'same-origin' }
const WEB_VIEW = { accept: HTML, 'x-requested-with': 'com.example.app' }

const PAGES: Headers[] = [
  NAVIGATION,
  SERVICE_WORKER,
  { ...NAVIGATION, 'sec-fetch-dest': '' },
  { ...NAVIGATION, 'sec-fetch-dest': 'some-future-value' },
  { accept: HTML, 'sec-fetch-dest': 'empty' },
  WEB_VIEW,
  { ...NAVIGATION, 'x-requested-with': 'com.example.app' },
  { ...SERVICE_WORKER, 'x-requested-with': 'com.example.app' },
  { ...NAVIGATION, 'x-requested-with': 'XMLHttpRequest' },
  { accept: HTML, 'x-requested-with': '' }
]

const FRAMES = ['iframe', 'frame', 'embed', 'object', 'fencedframe'].map((dest): Headers => {
  return { ...NAVIGATION, 'sec-fetch-dest': dest }
})

const SCRIPTS: Headers[] = [
  { accept: HTML, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' },
  { accept: HTML, 'sec-fetch-mode': 'same-origin', 'sec-fetch-dest': 'document' },
  { accept: HTML, 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'empty' },
  { accept: HTML, 'sec-fetch-mode': '', 'sec-fetch-dest': 'empty' },
  { ...WEB_VIEW, 'sec-fetch-mode': 'cors' },
  { accept: HTML, 'x-requested-with': 'XMLHttpRequest' },
  { accept: HTML, 'x-requested-with': 'xmlhttprequest' },
  { accept: 'application/json', 'x-requested-with': 'com.example.app' },
  { accept: '*/*', 'sec-fetch-dest': 'empty' }
]

t.test('K1 a page that a service worker or a WebView passes on is a page, at a guard and at the login', async (t) => {
  const { app, provider } = await startApp(t, { routes: { initiateLogin: 'initiate-login' } })
  const initiate = `/auth/initiate-login?iss=${encodeURIComponent(provider.issuer)}`
  for (const headers of PAGES) {
    const title = JSON.stringify(headers)
    for (const url of ['/me', '/auth/login?return_to=/me', initiate]) {
      const response = await app.inject({ url, headers })
      t.equal(response.statusCode, 302, `${url} ${title}`)
      t.ok(beginsLogin(provider, response), `${url} ${title}`)
    }
    const error = await app.inject({ url: '/auth/callback?state=x', headers })
    t.match(error.headers['content-type'], 'text/html', title)
  }
})

t.test('K1 a frame or a script is none', async (t) => {
  const { app, provider } = await startApp(t, { routes: { initiateLogin: 'initiate-login' } })
  const initiate = `/auth/initiate-login?iss=${encodeURIComponent(provider.issuer)}`
  for (const headers of [...FRAMES, ...SCRIPTS]) {
    const title = JSON.stringify(headers)
    const guarded = await app.inject({ url: '/me', headers })
    t.same([guarded.statusCode, guarded.headers['set-cookie']], [401, undefined], title)
    t.match(guarded.headers['content-type'], FRAMES.includes(headers) ? 'text/html' : 'application/json', title)
  }
  for (const headers of [...FRAMES, ...SCRIPTS.slice(0, 7)]) {
    for (const url of ['/auth/login', initiate]) {
      const response = await app.inject({ url, headers })
      t.same([response.statusCode, response.headers['set-cookie']], [400, undefined], `${url} ${JSON.stringify(headers)}`)
      t.match(response.body, 'FST_OIDC_NAVIGATION')
    }
  }
})

t.test('K1 a WebView logs out by a form, and a script gets the address', async (t) => {
  const { app, provider } = await startApp(t)
  const post = async (headers: Headers) => {
    const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
    return await app.inject({ method: 'POST', url: '/auth/logout', headers: { cookie, origin: BASE_URL, ...headers } })
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  const page = await post({ ...WEB_VIEW, ...form })
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], 'text/html')
  t.match(page.body, `content="0;url=${provider.issuer}/end-session`)
  const script = await post({ ...form, 'x-requested-with': 'XMLHttpRequest' })
  t.equal(script.statusCode, 200)
  t.match(script.json().redirect_to, provider.issuer)
})

t.test('K1 a logout that is opened from outside the browser asks first', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header('/')
  const click = { ...NAVIGATION, 'sec-fetch-user': '?1', cookie }
  for (const site of ['none', 'cross-site', 'same-site']) {
    const asked = await app.inject({ url: '/auth/logout', headers: { ...click, 'sec-fetch-site': site } })
    t.equal(asked.statusCode, 403, site)
    t.match(asked.body, 'Do you want to log out?')
    t.equal((await browser.fetch('/me')).status, 200, 'the session lives')
  }
  const form = await app.inject({
    method: 'POST',
    url: '/auth/logout',
    headers: { ...NAVIGATION, cookie, 'sec-fetch-site': 'same-origin', 'content-type': 'application/x-www-form-urlencoded' }
  })
  t.equal(form.statusCode, 303, 'the answer of the user')
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 401)
  for (const [returnTo, action] of [
    ['/maybe?a=1', `/auth/logout?return_to=${encodeURIComponent(`${BASE_URL}/maybe?a=1`)}`],
    ['https://evil.example/', `/auth/logout?return_to=${encodeURIComponent(`${BASE_URL}/`)}`]
  ] as const) {
    const asked = await app.inject({ url: '/auth/logout', query: { return_to: returnTo }, headers: click })
    t.match(asked.body, `action="${BASE_URL}${action}"`, 'the answer leads where the link leads, on this origin')
  }
  const again = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  const own = await app.inject({ url: '/auth/logout', headers: { ...click, cookie: again, 'sec-fetch-site': 'same-origin' } })
  t.equal(own.statusCode, 302, 'a click on a page of the application needs no question')
})
