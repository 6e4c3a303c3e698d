import t from 'tap'
import { BASE_URL, startApp } from '../support/app.ts'
import { LOGIN_COOKIE, captureLog, untilCallback } from '../support/protocol.ts'
import { startedClock } from '../support/started.ts'

t.test('K12 the log of FST_OIDC_STATE says what is wrong: no cookie, another host, or a key that has changed', async (t) => {
  const { lines, server } = captureLog()
  const { app, browser } = await startApp(t, {}, {}, server)
  const { pathname, search } = await untilCallback(browser)
  const url = pathname + search
  const detailOf = async (host: string, cookie: string): Promise<string> => {
    const before = lines().length
    const answer = await app.inject({ url, headers: { host, cookie, accept: 'text/html' } })
    t.equal(answer.statusCode, 400)
    const line = lines().slice(before).split('\n').find((text) => text.includes('FST_OIDC_STATE')) as string
    return JSON.parse(line).detail
  }
  const { host } = new URL(BASE_URL)
  const [cookie] = browser.cookies.list().filter(({ name }) => name.startsWith(LOGIN_COOKIE))
  t.equal(await detailOf(host, 'a=b'), 'no cookie of the login came')
  t.equal(await detailOf(host, `${cookie?.name}=changed`), 'no key opens the cookie of the login')
  t.equal(
    await detailOf('www.example.com', 'a=b'),
    `no cookie of the login came; the request came to www.example.com, "baseUrl" is ${BASE_URL}`
  )
})

t.test('K12 a login that is over begins once more, and the log says why', async (t) => {
  const { lines, server } = captureLog()
  const { browser } = await startApp(t, {}, {}, server)
  const clock = startedClock(t)
  const reasonOf = async (href: string): Promise<string> => {
    const before = lines().length
    await browser.step(href)
    const line = lines().slice(before).split('\n').find((text) => text.includes('begins once more')) as string
    return JSON.parse(line).reason
  }
  const late = await untilCallback(browser)
  clock.advance(1200)
  t.match(await reasonOf(late.href), /^it began 1,?20\d s ago$/)
  const used = await untilCallback(browser)
  await browser.goto(used.href)
  browser.cookies.delete('__Host-oidc')
  t.equal(await reasonOf(used.href), 'it was used before')
})

t.test('K12 the page blames the cookies only where none came of a login that the browser still keeps', async (t) => {
  const { lines, server } = captureLog()
  const { app, browser } = await startApp(t, {}, {}, server)
  const clock = startedClock(t)
  const { pathname, search } = await untilCallback(browser)
  const pageOf = async (headers: Record<string, string>): Promise<string> => {
    const { statusCode, body } = await app.inject({
      url: pathname + search, headers: { host: new URL(BASE_URL).host, accept: 'text/html', ...headers }
    })
    t.equal(statusCode, 400)
    t.match(body, 'FST_OIDC_STATE')
    return body
  }
  t.match(await pageOf({}), 'Allow cookies for this site')
  t.notMatch(await pageOf({ cookie: 'a=b' }), /cookie/i)
  clock.advance(7300)
  t.notMatch(await pageOf({}), /cookie/i, 'the browser has dropped the cookie in time')
  t.match(lines(), /"code":"FST_OIDC_STATE","detail":"it began 73\d\d s ago"/)
})
