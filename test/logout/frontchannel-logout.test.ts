import t from 'tap'
import { BASE_URL, SESSION_KEY, buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { modes } from '../support/modes.ts'
import { captureLog } from '../support/protocol.ts'
import type { OidcSession, ProviderMetadata } from '../../index.ts'
import type { TestBrowser } from '../../lib/testing/index.ts'

const ROUTE = '/auth/frontchannel-logout'

async function statusOf (browser: TestBrowser): Promise<number> {
  return (await browser.fetch('/me')).status
}

async function sidOf (browser: TestBrowser): Promise<string> {
  return ((await browser.fetch('/me')).json() as { session: OidcSession }).session.sid as string
}

for (const { name, options } of modes) {
  t.test(`C35 C36 S67 ${name}: the provider frames the logout`, async (t) => {
    const reasons: string[] = []
    const { app, provider } = await startApp(t, {
      ...options(undefined, { sameSite: 'none' }),
      offlineAccess: true,
      onLogout: (_session, { reason, request }) => {
        reasons.push(`${reason} ${request?.method}`)
      }
    })
    const browser = await logIn({ app, provider }, 'alice')
    const bystander = await logIn({ app, provider }, 'alice')
    const copy = browser.cookies.header(BASE_URL)
    const query = new URLSearchParams({ iss: provider.issuer, sid: await sidOf(browser) }).toString()
    provider.clearRequests()

    const answer = await browser.step(`${ROUTE}?${query}`, { from: provider.issuer, dest: 'iframe' })
    t.match(
      [answer.status, answer.headers.get('content-type'), answer.headers.get('cache-control')],
      [200, /^text\/html/, 'no-store']
    )
    t.match(
      answer.headers.get('content-security-policy'),
      new RegExp(`frame-ancestors ${new URL(provider.issuer).origin}(;|$)`),
      'by no other site'
    )
    t.equal(answer.headers.get('x-frame-options'), null)
    t.equal(
      (await app.inject({ url: '/me', headers: { cookie: copy } })).statusCode,
      401,
      'a copy of the cookie is worth nothing'
    )
    t.equal(await statusOf(bystander), 200)
    t.same(provider.requests, [], 'nothing is revoked: any site can make the browser send this request')
    t.same(reasons, ['frontchannel GET'])
    t.equal((await browser.step(`${ROUTE}?${query}`, { from: provider.issuer, dest: 'iframe' })).status, 200, 'again')
    t.same(reasons, ['frontchannel GET'])
  })
}

t.test('S67 a frame of another site does not end a session whose cookie it does not send', async (t) => {
  const { app, provider } = await startApp(t)
  const browser = await logIn({ app, provider }, 'alice')
  const query = new URLSearchParams({ iss: provider.issuer, sid: await sidOf(browser) }).toString()
  t.equal((await browser.step(`${ROUTE}?${query}`, { from: provider.issuer, dest: 'iframe' })).status, 200)
  t.equal(await statusOf(browser), 200)
  t.equal((await browser.step(`${ROUTE}?${query}`, { from: 'https://id.example.com', dest: 'iframe' })).status, 200)
  t.equal(await statusOf(browser), 401, 'a provider of the same site')
})

t.test('V29 S67 a page of another issuer, or a wrong sid, does not log a browser out', async (t) => {
  const { app, provider } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'none' } })
  const browser = await logIn({ app, provider }, 'alice')
  const other = await logIn({ app, provider }, 'bob')
  const [iss, sid] = [provider.issuer, await sidOf(browser)]
  const queries: Array<Record<string, string> | string> = [
    '',
    { iss },
    { sid },
    { iss, sid: '' },
    { iss, sid: await sidOf(other) },
    { iss: `${iss}/`, sid },
    { iss: 'https://evil.test', sid },
    { iss: '', sid },
    `iss=${encodeURIComponent(iss)}&sid=${sid}&sid=${sid}`,
    `iss=${encodeURIComponent(iss)}&iss=${encodeURIComponent(iss)}&sid=${sid}`
  ]
  for (const query of queries) {
    const answer = await browser.step(`${ROUTE}?${new URLSearchParams(query).toString()}`, {
      from: 'https://evil.test',
      dest: 'iframe'
    })
    t.ok([200, 400].includes(answer.status), String(answer.status))
    t.same(answer.headers.getSetCookie(), [])
    t.equal(await statusOf(browser), 200, JSON.stringify(query))
  }
  const anonymous = await app.inject({ url: `${ROUTE}?${new URLSearchParams({ iss, sid }).toString()}` })
  t.same(
    [anonymous.statusCode, anonymous.headers['set-cookie']],
    [200, undefined],
    'without a cookie nothing happens, and it is no error'
  )
  t.equal((await app.inject({ method: 'POST', url: ROUTE })).statusCode, 405)
})

t.test('K14 a front-channel logout without iss and sid ends nothing, and the log says what to register', async (t) => {
  const { lines, server } = captureLog()
  const { app, provider } = await startApp(t, { session: { key: SESSION_KEY, sameSite: 'none' } }, {}, server)
  const browser = await logIn({ app, provider }, 'alice')
  const [iss, sid] = [provider.issuer, await sidOf(browser)]
  const reasons: Array<[query: Record<string, string>, reason: RegExp]> = [
    [{}, /register frontchannel_logout_session_required/],
    [{ iss }, /register frontchannel_logout_session_required/],
    [{ sid }, /register frontchannel_logout_session_required/],
    [{ iss, sid: 'x' }, /sid names another session/],
    [{ iss: 'https://evil.test', sid }, /the session is of another provider/]
  ]
  const frame = async (query: Record<string, string>) =>
    await browser.step(`${ROUTE}?${new URLSearchParams(query).toString()}`, { from: provider.issuer, dest: 'iframe' })
  for (const [query, reason] of reasons) {
    const answer = await frame(query)
    t.same([answer.status, answer.headers.getSetCookie()], [200, []])
    const entry = lines().split('\n').filter((line) => line.includes('a front-channel logout ended no session')).at(-1)
    t.match(JSON.parse(entry as string), { level: 30, provider: 'default', detail: reason })
    t.equal(await statusOf(browser), 200)
  }
  await app.inject(`${ROUTE}?${new URLSearchParams({ iss, sid }).toString()}`)
  t.match(lines(), /the browser sent no session cookie with it/)
  t.notMatch(lines(), sid)
  await frame({ iss, sid })
  t.equal(await statusOf(browser), 401, 'with both it ends')
})

t.test('C35 R35 a provider whose issuer is no URL frames the logout as well', async (t) => {
  const { app, provider } = await startApp(t, { expectedIssuer: 'accounts.example.com' })
  const names = { authorization_endpoint: 'a', token_endpoint: 'b', jwks_uri: 'c' }
  const cases: Array<[what: string, framer: string, metadata: Record<string, string>]> = [
    ['the origin of its pages', provider.url, { ...names, authorization_endpoint: `${provider.url}/authorize` }],
    ['no origin at all', "'none'", names]
  ]
  const statusAndFramer = async (server: typeof app): Promise<[number, unknown]> => {
    const { statusCode, headers } = await server.inject({ url: `${ROUTE}?iss=accounts.example.com&sid=1` })
    return [statusCode, headers['content-security-policy']]
  }
  const policy = (framer: string): string => `default-src 'none'; frame-ancestors ${framer}`
  t.same(await statusAndFramer(app), [200, policy(provider.url)], 'that of the metadata')
  for (const [what, framer, endpoints] of cases) {
    const metadata = { issuer: 'urn:example:op', ...endpoints } as unknown as ProviderMetadata
    const server = await buildApp(t, optionsFor(provider, { metadata }))
    t.same(await statusAndFramer(server), [200, policy(framer)], what)
  }
})
