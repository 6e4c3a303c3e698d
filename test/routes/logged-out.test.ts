import t from 'tap'
import { faults, startClock } from '../../lib/testing/index.ts'
import { BASE_URL, startApp } from '../support/app.ts'
import { NAVIGATION } from '../support/navigation.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'

t.setTimeout(120_000) // where other work shares the cores

const PAGE = `${BASE_URL}/auth/logged-out`

/** An application, and a browser whose user has just logged out. */
async function logOut (t: Test, options: Partial<OidcOptions> = {}, endsAtProvider = true) {
  const { app, provider, browser } = await startApp(t, options)
  if (!endsAtProvider) {
    provider.fault(faults['metadata-without-end-session-endpoint'])
  }
  await browser.goto('/me')
  const page = await browser.post('/auth/logout', { return_to: '/auth/logged-out' })
  return { app, provider, browser, page }
}

t.test('a logout whose return_to is the address ends with a page, also when it ends only here', async (t) => {
  for (const endsAtProvider of [true, false]) {
    const { app, provider, browser, page } = await logOut(t, {}, endsAtProvider)
    t.equal(provider.count('end_session'), endsAtProvider ? 1 : 0)
    t.equal(page.status, 200)
    t.match(page.url, `${PAGE}?state=`)
    t.match(page.text(), /<h1>You are logged out<\/h1><div><a href="https:\/\/app\.example\.com\/auth\/login">Log in again<\/a><a href="https:\/\/app\.example\.com\/">Back to the start<\/a><\/div>/)
    t.equal(page.headers.get('cache-control'), 'no-store')
    t.equal((await browser.fetch('/auth/session')).status, 401)
    t.equal((await browser.goto(page.url)).status, 200, 'a reload')
    t.match((await app.inject({ url: '/auth/logged-out', headers: NAVIGATION })).headers.location, /\/$/, 'no page without a logout')
  }
})

t.test('a script gets the address of the page, and a user without a session sees it too', async (t) => {
  const { browser } = await logOut(t, {}, false)
  const answer = await browser.fetch('/auth/logout?return_to=/auth/logged-out', { method: 'POST' })
  const { redirect_to: url } = answer.json() as { redirect_to: string }
  t.match(url, `${PAGE}?state=`)
  t.match((await browser.goto(url)).text(), 'You are logged out')
})

t.test('after ten minutes, and after a new login, the address leads to the application', async (t) => {
  const { browser, page } = await logOut(t)
  await browser.goto('/auth/login?return_to=/me')
  t.equal((await browser.goto(page.url)).url, `${BASE_URL}/`)
  const { browser: late, page: early } = await logOut(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(601)
  t.equal((await late.goto(early.url)).url, `${BASE_URL}/`)
})

t.test('without a login page there is no link to it, and without the route no page', async (t) => {
  const { page } = await logOut(t, { routes: { login: false } })
  t.match(page.text(), '<div><a href="https://app.example.com/">Back to the start</a></div>')
  const { page: none } = await logOut(t, { routes: { loggedOut: false } }, false)
  t.match([none.status, none.url], [404, PAGE])
})
