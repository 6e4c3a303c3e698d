import t from 'tap'
import { BASE_URL, startApp } from '../support/app.ts'
import { NAVIGATION } from '../support/navigation.ts'
import { captureLog } from '../support/protocol.ts'

t.setTimeout(120_000) // where other work shares the cores

const FRAMED = { ...NAVIGATION, 'sec-fetch-dest': 'iframe', 'sec-fetch-site': 'cross-site' }
const FORM = { origin: BASE_URL, 'sec-fetch-site': 'same-origin', 'content-type': 'application/x-www-form-urlencoded' }

t.test('K1 a page in a frame shows what is wrong, with a login in a new tab', async (t) => {
  const { lines, server } = captureLog()
  const { app } = await startApp(t, {}, {}, server)
  for (const [url, status] of [['/me', 401], ['/auth/login', 400], ['/auth/callback?state=x', 400]] as const) {
    const framed = await app.inject({ url, headers: FRAMED })
    t.equal(framed.statusCode, status, url)
    t.match(framed.headers['content-security-policy'], /default-src 'none'.*frame-ancestors \*$/)
    t.match(framed.body, /<base target="_blank">[^]*<a href="[^"]*\/auth\/login[^"]*">Log in again<\/a>/)
  }
  t.match(lines(), /"code":"FST_OIDC_LOGIN_REQUIRED","detail":"the page is in a frame[^"]*\\"session.sameSite\\" none/)
  t.equal(lines().split('the page is in a frame').length - 1, 1, 'only where a session is missing')

  for (const url of ['/auth/login', '/auth/callback?state=x']) {
    const script = { ...NAVIGATION, 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }
    t.match((await app.inject({ url, headers: script })).headers['content-type'], 'application/json')
  }
  const plain = await app.inject({ url: '/auth/callback?state=x', headers: NAVIGATION })
  t.match(plain.headers['content-security-policy'], /frame-ancestors 'none'/)
  t.notMatch(plain.body, 'target=')
})

t.test('K1 no site can frame the question before a logout, and a logout in a frame goes on', async (t) => {
  const { app, provider, browser } = await startApp(t)
  const question = await app.inject({ url: '/auth/logout', headers: FRAMED })
  t.equal(question.statusCode, 403)
  t.match(question.headers['content-security-policy'], /frame-ancestors 'none'/)
  await browser.goto('/me')
  const logout = await app.inject({
    method: 'POST', url: '/auth/logout', headers: { ...FRAMED, ...FORM, cookie: browser.cookies.header('/') }
  })
  t.match([logout.statusCode, logout.body], [200, `${provider.issuer}/end-session`])
  t.match(logout.headers['content-security-policy'], /frame-ancestors \*/)
})
