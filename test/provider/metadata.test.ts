import t from 'tap'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, logIn, optionsFor, stopClock } from '../support/app.ts'
import { SESSION_COOKIE, anotherApp, assertLoggedIn, assertRefused, attempt, captureLog } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import { until } from '../support/until.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Claims, Endpoint, Fault, Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const members = (values: Claims): Fault => ({ on: 'metadata', metadata: (document) => ({ ...document, ...values }) })

/** What an application of the provider logs, and a login there. */
async function logged (t: Test, provider: Provider, options: Partial<OidcOptions> = {}) {
  const { server, lines } = captureLog()
  const app = await buildApp(t, optionsFor(provider, options), server)
  return { app, lines, page: await client({ app, baseUrl: BASE_URL }).goto('/auth/login?return_to=/me') }
}

t.test('K5 a member that discovery lacks can be added', async (t) => {
  const provider = await startedProvider(t)
  const API = 'https://api.example.com'
  provider.fault(members({ introspection_endpoint: undefined }), {
    on: 'introspection',
    answer: (given) => { given.body = JSON.stringify({ ...JSON.parse(String(given.body)), aud: API }) }
  })
  const send = async (metadata?: OidcOptions['metadata']) => {
    const { server, lines } = captureLog()
    const bearer = { audience: API, introspection: true }
    const app = await buildApp(t, { ...optionsFor(provider, { bearer }), ...(metadata && { metadata }) }, server)
    let token = ''
    app.get('/token', async (request) => { token = await app.oidc.accessToken(request) })
    const browser = await logIn({ app, provider }, 'alice')
    await browser.fetch('/token')
    return { answer: await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } }), lines }
  }
  const { answer, lines } = await send()
  t.equal(answer.statusCode, 502, 'introspection has no endpoint')
  t.match(lines(), /has no introspection_endpoint; if there is one, set it in the option \\"metadata\\"/)
  t.equal(provider.count('introspection'), 0)
  const added = await send({ introspection_endpoint: `${provider.issuer}/introspect` })
  t.equal(added.answer.statusCode, 200)
  t.equal(provider.count('introspection'), 1)
  t.equal(provider.count('metadata'), 2, 'the rest is discovered')
})

t.test('K5 what is configured wins, after the discovered issuer was checked', async (t) => {
  const provider = await startedProvider(t)
  const elsewhere = members({ token_endpoint: `${provider.issuer}/attacker` })
  const unset = { userinfo_endpoint: undefined } as unknown as object
  const metadata = { issuer: provider.issuer, token_endpoint: `${provider.issuer}/token`, ...unset }
  const { browser } = await attempt(t, provider, elsewhere, { metadata, issuer: provider.issuer })
  await assertLoggedIn(t, browser)
  t.equal(provider.count('attacker'), 0)
  t.equal((await browser.fetch('/auth/userinfo')).status, 200, 'a member that is undefined is not configured')
  const other = await attempt(t, provider, faults['discovery-issuer-mismatch'], { metadata, issuer: provider.issuer })
  await assertRefused(t, other, 502, 'FST_OIDC_PROVIDER_RESPONSE')
  await t.rejects(
    anotherApp(t, provider, { issuer: provider.issuer, metadata: { issuer: `${provider.issuer}/` } }),
    { code: 'FST_OIDC_OPTION', message: /"metadata.issuer" is http:.*\/, not http:/ },
    'another issuer is refused at start'
  )
})

t.test('K5 metadata with all that is required still means no discovery', async (t) => {
  const provider = await startedProvider(t)
  const { issuer } = provider
  const endpoints = { authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token` }
  const complete: Array<Partial<OidcOptions>> = [
    { metadata: { issuer, ...endpoints, jwks_uri: `${issuer}/jwks` } },
    { metadata: { issuer, ...endpoints, jwks_uri: `${issuer}/jwks` }, issuer },
    { metadata: { issuer, ...endpoints }, jwksUri: `${issuer}/jwks` }
  ]
  for (const options of complete) {
    const { browser } = await attempt(t, provider, [], options)
    await assertLoggedIn(t, browser)
    t.equal(provider.count('metadata'), 0)
  }
  await assertLoggedIn(t, (await attempt(t, provider, [], { metadata: endpoints, issuer })).browser)
  t.equal(provider.count('metadata'), 1)
})

const OPTIONAL: Array<[name: string, endpoint: Endpoint]> = [
  ['userinfo_endpoint', 'userinfo'],
  ['end_session_endpoint', 'end_session'],
  ['revocation_endpoint', 'revocation'],
  ['pushed_authorization_request_endpoint', 'par'],
  ['introspection_endpoint', 'introspection'],
  ['device_authorization_endpoint', 'device']
]

t.test('K5 an optional endpoint that cannot be used stops no login, and is never used', async (t) => {
  const provider = await startedProvider(t)
  const values = [
    null, '', '/relative', 'http://other.example/x', 'https://user@other.example/', 'javascript:alert(1)', 7,
    ['https://other.example/']
  ]
  for (const value of values) {
    const off = provider.fault(members(Object.fromEntries(OPTIONAL.map(([name]) => [name, value]))))
    const { app, lines, page } = await logged(t, provider)
    t.equal(page.status, 200, JSON.stringify(value))
    for (const [name] of OPTIONAL) t.match(lines(), `${name} in the metadata of the provider is not a`)
    const browser = await logIn({ app, provider }, 'alice')
    t.match((await browser.fetch('/auth/userinfo')).json(), { statusCode: 403, code: 'FST_OIDC_USERINFO' })
    provider.clearRequests()
    const left = await browser.post('/auth/logout')
    t.same([left.status, left.url], [200, `${BASE_URL}/`], 'the logout is one from the application only')
    t.notOk(browser.cookies.get(SESSION_COOKIE))
    t.same(provider.requests, [])
    off()
  }
})

t.test('K5 the log warns once', async (t) => {
  const clock = stopClock(t)
  const provider = await startedProvider(t)
  provider.fault(members({ end_session_endpoint: null, revocation_endpoint: '' }))
  const { app, lines } = await logged(t, provider)
  clock.advance(3601)
  await logIn({ app, provider }, 'alice')
  t.equal(provider.count('metadata'), 2)
  t.equal(lines().split('it is not used').length - 1, 2, 'of each endpoint')
})

t.test('K5 what options or metadata require fails with its message and never falls back', async (t) => {
  const provider = await startedProvider(t)
  const bad = 'http://other.example/x'
  const cases: Array<[fault: Fault, options: Partial<OidcOptions>, status: number, detail: RegExp]> = [
    [
      members({ userinfo_endpoint: bad }), { userinfo: true }, 403,
      /userinfo_endpoint in the metadata of the provider is not an https URL/
    ],
    [members({ userinfo_endpoint: undefined }), { userinfo: true }, 403, /has no userinfo_endpoint/],
    [
      members({ pushed_authorization_request_endpoint: bad }), { pushedAuthorizationRequests: true }, 502,
      /pushed_authorization_request_endpoint in the metadata of the provider is not an https URL/
    ],
    [
      members({ pushed_authorization_request_endpoint: null, require_pushed_authorization_requests: true }), {}, 502,
      /pushed_authorization_request_endpoint in the metadata of the provider is not a URL/
    ],
    [
      members({ pushed_authorization_request_endpoint: undefined }), { pushedAuthorizationRequests: true }, 502,
      /has no pushed_authorization_request_endpoint/
    ]
  ]
  for (const [fault, options, status, detail] of cases) {
    const off = provider.fault(fault)
    provider.clearRequests()
    const { page, lines } = await logged(t, provider, options)
    t.equal(page.status, status)
    t.match(lines(), detail)
    t.equal(provider.count('authorize'), status === 502 ? 0 : 1, 'the parameters were not sent by the browser instead')
    off()
  }
})

t.test('K5 a required endpoint by http, and a redirect of discovery, are refused', async (t) => {
  const provider = await startedProvider(t)
  for (const fault of [
    members({ token_endpoint: 'http://other.example/token' }),
    members({ token_endpoint: null }),
    members({ jwks_uri: '/jwks' }),
    faults['metadata-redirect'],
    faults['metadata-redirect-307']
  ]) {
    await assertRefused(t, await attempt(t, provider, fault), 502, 'FST_OIDC_PROVIDER_RESPONSE')
    t.equal(provider.count('attacker'), 0)
  }
})

t.test('K5 the error of another issuer names both', async (t) => {
  const provider = await startedProvider(t)
  const off = provider.fault(faults['metadata-issuer-trailing-slash'])
  const { page, lines } = await logged(t, provider)
  off()
  t.equal(page.status, 502)
  t.match(lines(), `the issuer in the metadata is ${provider.issuer}/, not ${provider.issuer}: \\"issuer\\" must be`)

  provider.fault({ on: 'authorize', authorizationResponse: (params) => params.set('iss', `${provider.issuer}/`) })
  const response = await logged(t, provider)
  t.equal(response.page.status, 400)
  t.match(response.lines(), `iss in the response is ${provider.issuer}/, not ${provider.issuer}`)
})

t.test('K5 a client with a certificate does not use an endpoint whose alias is unsafe', async (t) => {
  const provider = await startProvider({ clients: [{ client_id: 'web' }] })
  t.teardown(async () => await provider.close())
  provider.fault(members({ mtls_endpoint_aliases: { revocation_endpoint: 'http://other.example/revoke' } }))
  const { clientSecret: _, ...options } = optionsFor(provider)
  const { server, lines } = captureLog()
  const app = await buildApp(t, { ...options, clientAuth: 'tls_client_auth' }, server)
  const browser = await logIn({ app, provider }, 'alice')
  await browser.post('/auth/logout')
  await until(() => lines().includes('revocation_endpoint in the metadata'))
  t.equal(provider.count('revocation'), 0)
})
