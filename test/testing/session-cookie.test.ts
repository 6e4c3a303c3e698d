import t from 'tap'
import { client, sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, startApp } from '../support/app.ts'
import type { FastifyInstance } from 'fastify'

function addForm (app: FastifyInstance): void {
  app.post('/form', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({ sub: oidcClaims?.sub }))
}

t.test('S43 an injected POST with the cookie of the test kit is same-origin, unless it says otherwise', async (t) => {
  const { app } = await startApp(t)
  addForm(app)
  const cookie = sessionCookie(app)
  const post = async (headers: Record<string, string>) => await app.inject({ method: 'POST', url: '/form', headers })
  for (const headers of [
    { cookie },
    { cookie: `first=1; ${cookie}; last=1` },
    { cookie, origin: BASE_URL },
    { cookie, 'sec-fetch-site': 'same-origin' }
  ]) {
    const response = await post(headers)
    t.same([response.statusCode, response.json()], [200, { sub: 'alice' }], JSON.stringify(headers).slice(0, 40))
  }
  for (const headers of [
    { cookie, origin: 'https://evil.example' },
    { cookie, origin: 'null' },
    { cookie, 'sec-fetch-site': 'cross-site' },
    { cookie, 'sec-fetch-site': 'same-site' }
  ]) {
    const response = await post(headers)
    t.same([response.statusCode, response.json().code], [403, 'FST_OIDC_CROSS_SITE'], JSON.stringify({ ...headers, cookie: '' }))
  }
  t.equal((await post({})).statusCode, 401)
  t.equal((await app.inject({ method: 'POST', url: '/auth/logout', headers: { cookie } })).statusCode, 303)
})

t.test('S43 a cookie from a login does not make a POST same-origin', async (t) => {
  const { app, browser } = await startApp(t)
  addForm(app)
  sessionCookie(app)
  await browser.goto('/me')
  const cookie = browser.cookies.header('/me')
  const refused = await app.inject({ method: 'POST', url: '/form', headers: { cookie } })
  t.same([refused.statusCode, refused.json().code], [403, 'FST_OIDC_CROSS_SITE'])
  const other = await startApp(t)
  addForm(other.app)
  const { statusCode } = await other.app.inject({ method: 'POST', url: '/form', headers: { cookie: sessionCookie(app) } })
  t.equal(statusCode, 401, 'a cookie that was made for another application')
})

t.test('the cookies of the test kit are forgotten after a thousand others', async (t) => {
  const { app } = await startApp(t)
  addForm(app)
  const cookies = Array.from({ length: 1001 }, (_, index) => sessionCookie(app, { claims: { sub: `user-${index}` } }))
  const statusOf = async (cookie: string | undefined): Promise<number> =>
    (await app.inject({ method: 'POST', url: '/form', headers: { cookie: String(cookie) } })).statusCode
  t.same([await statusOf(cookies[0]), await statusOf(cookies[1]), await statusOf(cookies[1000])], [403, 200, 200])
})

t.test('the browser of the test kit sends what browsers send', async (t) => {
  const { app } = await startApp(t)
  addForm(app)
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/me')
  t.equal((await browser.fetch('/form', { method: 'POST' })).status, 200)
  t.equal((await browser.fetch('/form', { method: 'POST', from: 'https://evil.example/' })).status, 401, 'no cookie came')
})
