import t from 'tap'
import { faults, startProvider } from '../../lib/testing/index.ts'
import { buildApp, logIn, optionsFor, startApp } from '../support/app.ts'
import { assertLoggedIn, assertRefused, attempt, captureLog } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import { until } from '../support/until.ts'
import type { Claims, Fault, Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const JSON_TYPE = { 'content-type': 'application/json' }
const HTML_TYPE = { 'content-type': 'text/html; charset=utf-8' }
const PAGE = '<!doctype html><h1>Forbidden</h1>'

const tokens = (change: (answer: Claims) => Claims): Fault => ({ on: 'token', tokenResponse: change })
const member = (name: string, value: unknown): Fault => tokens((answer) => ({ ...answer, [name]: value }))
const answering = (status: number, body: unknown, headers: Record<string, string> = JSON_TYPE): Fault =>
  ({ on: 'token', status, headers, body: typeof body === 'string' ? body : JSON.stringify(body) })

t.test('K3 an unusual token response is read', async (t) => {
  const provider = await startedProvider(t)
  const all = ['openid', 'profile', 'email']
  const cases: Array<[what: string, fault: Fault, scopes: string[]]> = [
    ['scope a list', member('scope', ['openid', 'email']), ['openid', 'email']],
    ['scope an empty list grants none', member('scope', []), []],
    ['scope empty grants none', member('scope', ''), []],
    ['scope null is as requested', member('scope', null), all],
    ['scope missing is as requested', member('scope', undefined), all],
    ['members that are null', tokens((answer) => ({ ...answer, expires_in: null, refresh_token: null, error: null })), all],
    ['an empty error beside tokens', member('error', ''), all],
    ['an error beside tokens', member('error', 'ignored'), all],
    ['status 201', { on: 'token', answer: (given) => ({ ...given, status: 201 }) }, all],
    ['text/plain', { on: 'token', headers: { 'content-type': 'text/plain' } }, all],
    ['no content type', faults['token-no-content-type'], all]
  ]
  for (const [what, fault, scopes] of cases) {
    await t.test(what, async (t) => {
      const { page, browser } = await attempt(t, provider, fault)
      await assertLoggedIn(t, browser)
      t.same(page.json().session.scopes, scopes)
    })
  }
})

t.test('K3 what a token response must have stays required, and the log says what was missing', async (t) => {
  const provider = await startedProvider(t)
  const cases: Array<[what: string, fault: Fault, detail: RegExp]> = [
    ['no token_type', member('token_type', undefined), /has no token_type/],
    ['token_type null', member('token_type', null), /has no token_type/],
    ['token_type unknown', member('token_type', 'mac'), /token_type/],
    ['access_token null', member('access_token', null), /access_token/],
    ['id_token null', member('id_token', null), /has no id_token/],
    ['id_token a number', member('id_token', 7), /id_token in the token response is not a string/],
    ['id_token no JWT', member('id_token', 'not.a.jwt'), /id_token is not a signed JWT/],
    ['scope a list of numbers', member('scope', [1]), /scope/],
    ['a page of HTML with 200', { on: 'token', headers: HTML_TYPE, body: PAGE }, /not JSON/],
    ['a page of HTML that calls itself text', { on: 'token', headers: { 'content-type': 'text/plain' }, body: PAGE }, /not JSON/],
    ['JSON that calls itself a page', { on: 'token', headers: HTML_TYPE }, /not JSON/]
  ]
  for (const [what, fault, detail] of cases) {
    await t.test(what, async (t) => {
      const { server, lines } = captureLog()
      const off = provider.fault(fault)
      const app = await buildApp(t, optionsFor(provider), server)
      const failure = await logIn({ app, provider }, 'alice').catch(String)
      off()
      t.match(failure, /502 .*FST_OIDC_PROVIDER_RESPONSE/s)
      t.match(lines(), detail)
    })
  }
})

t.test('K3 an error of the provider is that error, whatever is around it', async (t) => {
  const provider = await startedProvider(t)
  const basic = { ...JSON_TYPE, 'www-authenticate': 'Basic' }
  const refused = { error: 'invalid_grant', error_description: 'used' }
  const cases: Array<[what: string, fault: Fault, status: number, code: string]> = [
    ['200 without a token', answering(200, refused), 400, 'FST_OIDC_CODE'],
    ['200 with a token that is null', answering(200, { ...refused, access_token: null }), 400, 'FST_OIDC_CODE'],
    ['400', answering(400, refused), 400, 'FST_OIDC_CODE'],
    ['401', answering(401, refused), 400, 'FST_OIDC_CODE'],
    ['403', answering(403, refused), 400, 'FST_OIDC_CODE'],
    ['401 with a bare challenge', answering(401, refused, basic), 400, 'FST_OIDC_CODE'],
    ['403 with a challenge', answering(403, refused, basic), 400, 'FST_OIDC_CODE'],
    ['400 as text/plain', answering(400, refused, { 'content-type': 'text/plain' }), 400, 'FST_OIDC_CODE'],
    ['invalid_client with 200', answering(200, { error: 'invalid_client' }), 503, 'FST_OIDC_CLIENT_AUTHENTICATION'],
    ['an error that is no text', answering(400, { error: 7 }), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['the page of a firewall', answering(403, PAGE, HTML_TYPE), 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['its page as text', answering(403, ` ${PAGE}`, { 'content-type': 'text/plain' }), 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['its page with 401', answering(401, PAGE, HTML_TYPE), 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    [
      'a page beside a challenge', answering(401, PAGE, { ...HTML_TYPE, 'www-authenticate': 'Basic' }), 503,
      'FST_OIDC_CLIENT_AUTHENTICATION'
    ],
    ['text with 403', answering(403, 'no', { 'content-type': 'text/plain' }), 502, 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  for (const [what, fault, status, code] of cases) {
    await t.test(what, async (t) => {
      await assertRefused(t, await attempt(t, provider, fault), status, code)
      t.equal(provider.count('token'), 1)
    })
  }
})

t.test('K3 the page of a firewall ends no session, and invalid_grant with 403 ends it', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true }, { accessTokenTtl: 10 })
  app.get('/token', async (request) => ({ token: await app.oidc.accessToken(request, { refresh: true }) }))
  const browser = await logIn({ app, provider }, 'alice')
  const off = provider.fault(answering(403, PAGE, HTML_TYPE))
  t.match((await browser.fetch('/token')).json(), { statusCode: 503, code: 'FST_OIDC_PROVIDER_UNAVAILABLE' })
  off()
  await assertLoggedIn(t, browser)
  const other = await logIn({ app, provider }, 'bob')
  provider.fault(answering(403, { error: 'invalid_grant' }))
  t.match((await other.fetch('/token')).json(), { statusCode: 401, code: 'FST_OIDC_LOGIN_REQUIRED' })
  t.equal((await other.fetch('/me')).status, 401)
})

t.test('K3 the log names the grant to switch on', async (t) => {
  const { server, lines } = captureLog()
  const { app, provider } = await startApp(t, {}, {}, server)
  provider.fault(answering(400, { error: 'unauthorized_client' }))
  t.match(await logIn({ app, provider }, 'alice').catch(String), /503 .*FST_OIDC_CLIENT_AUTHENTICATION/s)
  t.match(lines(), /400 unauthorized_client: switch on the grant authorization_code for the client/)
})

t.test('K3 UserInfo: a refused token is no failed check, and a firewall no word of the provider', async (t) => {
  const provider = await startedProvider(t)
  const userinfo = (status: number, body: string, headers = {}): Fault => ({ on: 'userinfo', status, body, headers })
  const cases: Array<[fault: Fault, status: number, code: string]> = [
    [userinfo(401, '{}'), 401, 'FST_OIDC_LOGIN_REQUIRED'],
    [userinfo(401, PAGE, HTML_TYPE), 401, 'FST_OIDC_LOGIN_REQUIRED'],
    [userinfo(403, PAGE, HTML_TYPE), 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    [userinfo(403, '{}', { 'www-authenticate': 'Bearer error="insufficient_scope"' }), 403, 'FST_OIDC_USERINFO']
  ]
  for (const [fault, status, code] of cases) {
    await assertRefused(t, await attempt(t, provider, fault, { userinfo: true }), status, code, 1)
  }
})

/** The level at which a revocation that fails is logged. */
async function revocationLevel (t: Parameters<typeof startedProvider>[0], fault: Fault, isPublic: boolean) {
  const provider = await startProvider({ clients: [{ client_id: 'web', ...(!isPublic && { client_secret: 'secret' }) }] })
  t.teardown(async () => await provider.close())
  const { server, lines } = captureLog()
  const { clientSecret: _, ...publicOptions } = optionsFor(provider)
  const app = await buildApp(t, isPublic ? publicOptions : optionsFor(provider), server)
  const browser = await logIn({ app, provider }, 'alice')
  provider.fault(fault)
  await browser.post('/auth/logout')
  const logged = (): string | undefined => lines().split('\n').find((line) => line.includes('could not be revoked'))
  await until(() => logged() !== undefined)
  return (JSON.parse(logged() as string) as { level: number }).level
}

t.test('K3 the redirect of a public client\'s revocation is no warning, and other failures are', async (t) => {
  t.equal(await revocationLevel(t, faults['revocation-redirect'], true), 30)
  t.equal(await revocationLevel(t, faults['revocation-redirect'], false), 40)
  t.equal(await revocationLevel(t, faults['revocation-400'], true), 40)
})

t.test('K3 a revocation with 204, and a pushed request with 200, are a success', async (t) => {
  const { server, lines } = captureLog()
  const { app, provider } = await startApp(t, { pushedAuthorizationRequests: true }, {}, server)
  const answered = (provider: Provider, on: 'par' | 'revocation', status: number): void => {
    provider.fault({ on, answer: (given) => ({ ...given, status }) })
  }
  answered(provider, 'par', 200)
  answered(provider, 'revocation', 204)
  const browser = await logIn({ app, provider }, 'alice')
  await browser.post('/auth/logout')
  await until(() => provider.count('revocation') === 1)
  await app.close()
  t.notMatch(lines(), 'could not be revoked')
})

t.test('K5 metadata that names the token endpoint for others as well: logins work, and the others fail', async (t) => {
  for (const name of ['revocation_endpoint', 'introspection_endpoint', 'device_authorization_endpoint']) {
    const provider = await startProvider({ refreshTokens: 'always' })
    t.teardown(async () => await provider.close())
    const metadata = { [name]: `${provider.issuer}/token` }
    const { lines, server } = captureLog()
    const options = { metadata, bearer: { audience: 'https://api.example.com' } }
    const app = await buildApp(t, optionsFor(provider, { issuer: provider.issuer, ...options } as never), server)
    const browser = await logIn({ app, provider }, 'alice')
    await assertLoggedIn(t, browser)
    const opaque = await app.inject({ url: '/me', headers: { authorization: 'Bearer opaque' } })
    t.ok(opaque.statusCode >= 400, `${opaque.statusCode} for a token that no introspection knows`)
    t.equal((await browser.post('/auth/logout')).status < 500, true)
    if (name === 'revocation_endpoint') await until(() => lines().includes('revo'))
  }
})
