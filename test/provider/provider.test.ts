import t from 'tap'
import { OidcError } from '../../index.ts'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import {
  CALLBACK, SESSION_COOKIE, anotherApp, assertAnonymous, assertLoggedIn, assertRefused, attempt,
  authorizationParams, cookiesSet, loginRoute, untilCallback
} from '../support/protocol.ts'
import { startedClock } from '../support/started.ts'
import { until } from '../support/until.ts'
import type { Test } from 'tap'
import type { OidcOptions, ProviderMetadata } from '../../index.ts'
import type {
  Claims, Endpoint, Fault, FaultName, Provider, ProviderClient, ProviderOptions, ProviderRequest
} from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

async function startedProvider (t: Test, options: ProviderOptions = {}): Promise<Provider> {
  const provider = await startProvider(options)
  t.teardown(async () => await provider.close())
  return provider
}

function last ({ requests }: Provider, endpoint: Endpoint): ProviderRequest {
  return requests.filter((request) => request.endpoint === endpoint).at(-1) as ProviderRequest
}

const metadata = (change: (document: Claims) => Claims): Fault => ({ on: 'metadata', metadata: change })
const member = (name: string, value: unknown): Fault => metadata((document) => ({ ...document, [name]: value }))

// Discovery

t.test('C15 discovery-openid-config: the plugin uses the endpoints of the metadata', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await attempt(t, provider, faults['discovery-openid-config'])
  await assertLoggedIn(t, browser)
  await browser.fetch('/auth/userinfo')
  await browser.post('/auth/logout')
  for (const endpoint of ['authorize', 'token', 'userinfo', 'end_session'] as const) {
    t.match(last(provider, endpoint).query['from'], /^[0-9a-f]{12}$/, endpoint)
  }
  t.equal(provider.count('metadata'), 1)
})

t.test('C16 discovery-jwks-uri-keys: the keys come from the jwks_uri', async (t) => {
  const provider = await startedProvider(t, { paths: { jwks: '/keys/4711', authorize: '/a', token: '/b' } })
  const { browser } = await attempt(t, provider, faults['discovery-jwks-uri-keys'])
  await assertLoggedIn(t, browser)
  t.equal(provider.count('jwks'), 1)
  t.match(last(provider, 'jwks'), { path: '/keys/4711', query: { from: String } })
})

t.test('S51 an issuer with a path', async (t) => {
  const provider = await startedProvider(t, { path: '/realms/demo' })
  const { browser, page } = await attempt(t, provider)
  await assertLoggedIn(t, browser)
  t.equal(page.json().claims.iss, provider.issuer)
  t.equal(last(provider, 'metadata').path, '/realms/demo/.well-known/openid-configuration')
  const above = await attempt(t, provider, [], { issuer: provider.url })
  t.equal(above.page.status, 503, 'is not that above it')
})

function documentFor (issuer: string): ProviderMetadata {
  return {
    issuer,
    authorization_endpoint: 'https://op.example/authorize',
    token_endpoint: 'https://op.example/token',
    jwks_uri: 'https://op.example/jwks'
  }
}

function answering (document: unknown, init: ResponseInit = { headers: { 'content-type': 'application/json' } }) {
  const calls: string[] = []
  return {
    calls,
    fetch: async (url: string) => {
      calls.push(url)
      return new Response(JSON.stringify(document), init)
    }
  }
}

const real: Partial<OidcOptions> = { clientSecret: 'secret', allowInsecureLoopback: false }

t.test('S51 the URL of the metadata is the issuer and the well-known path', async (t) => {
  for (const issuer of [
    'https://op.example', 'https://op.example/', 'https://op.example/realm', 'https://op.example/realm/',
    'https://op.example:8443/a/b'
  ]) {
    const { calls, fetch } = answering(documentFor(issuer))
    const app = await buildApp(t, { ...optionsFor({ clients: [] } as unknown as Provider, { ...real, issuer, fetch }) })
    const { statusCode, headers } = await app.inject('/auth/login')
    t.equal(statusCode, 302, issuer)
    t.match(headers.location, /^https:\/\/op\.example\/authorize\?/)
    t.same(calls, [`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`])
  }
})

const badMetadata: Record<string, Fault> = {
  'C17 C41 discovery-issuer-mismatch': faults['discovery-issuer-mismatch'],
  'a slash at the end of the issuer': faults['metadata-issuer-trailing-slash'],
  'no issuer': faults['metadata-without-issuer'],
  'an empty issuer': member('issuer', ''),
  'a list of issuers': metadata((document) => ({ ...document, issuer: [document['issuer']] })),
  'an issuer in other capitals': metadata((document) => ({
    ...document,
    issuer: String(document['issuer']).toUpperCase()
  })),
  'no jwks_uri': faults['metadata-without-jwks-uri'],
  'no token_endpoint': faults['metadata-without-token-endpoint'],
  'no authorization_endpoint': member('authorization_endpoint', undefined),
  'S50 http': faults['metadata-insecure-token-endpoint'],
  'S50 javascript': faults['metadata-javascript-endpoint'],
  'S50 credentials': faults['metadata-endpoint-with-credentials'],
  'no text': faults['metadata-endpoint-not-a-string'],
  'a fragment': member('authorization_endpoint', 'https://op.example/authorize#x'),
  'a relative address': member('token_endpoint', '/token'),
  'no address': member('jwks_uri', 'keys'),
  'a file': member('jwks_uri', 'file:///etc/passwd'),
  'data:': member('jwks_uri', 'data:application/json,{"keys":[]}'),
  'a host that looks like this one': member('token_endpoint', 'http://127.0.0.1.evil.example/token'),
  'http on a private address': member('token_endpoint', 'http://169.254.169.254/latest'),
  null: member('authorization_endpoint', null),
  'V36 a list': faults['metadata-array'],
  'V36 null instead of metadata': faults['metadata-null'],
  'V36 text': faults['metadata-string'],
  'V36 a number': faults['metadata-number']
}

t.test('C17 R6 S50 S51 invalid metadata begins no login', async (t) => {
  const provider = await startedProvider(t)
  for (const [what, fault] of Object.entries(badMetadata)) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, fault)
      await assertRefused(t, tried, 502, 'FST_OIDC_PROVIDER_RESPONSE')
      t.same(tried.browser.cookies.list(), [], 'nothing is left in the browser')
      t.same(provider.requests.map(({ endpoint }) => endpoint), ['metadata'], 'and nothing else was asked for')
    })
  }
})

t.test('R6 unusual but valid metadata is accepted', async (t) => {
  const provider = await startedProvider(t)
  const good: Record<string, Fault> = {
    'many scopes': faults['metadata-huge-array'],
    'no end_session_endpoint': faults['metadata-without-end-session-endpoint'],
    'no PKCE': faults['metadata-without-pkce'],
    'nothing optional': metadata(
      ({ issuer, authorization_endpoint: authorize, token_endpoint: token, jwks_uri: jwks }) => ({
        issuer,
        authorization_endpoint: authorize,
        token_endpoint: token,
        jwks_uri: jwks
      })
    ),
    'unknown members': metadata((document) => ({
      ...document,
      ...(JSON.parse('{"__proto__":{"jwks_uri":"https://evil.example"},"constructor":7,"x":{}}') as Claims)
    })),
    'optional members of other types': metadata((document) => ({
      ...document,
      scopes_supported: 'openid',
      response_types_supported: null,
      claims_supported: 7
    }))
  }
  for (const [what, fault] of Object.entries(good)) {
    await t.test(what, async (t) => {
      const { browser } = await attempt(t, provider, fault)
      await assertLoggedIn(t, browser)
    })
  }
})

t.test('R6 the authorization_endpoint may be elsewhere and have a query of its own', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  provider.fault(member('authorization_endpoint', 'https://login.op.example/authorize?tenant=7&p=a%20b'))
  const page = await browser.step('/auth/login')
  t.match(page.location, /^https:\/\/login\.op\.example\/authorize\?tenant=7&/)
  t.match(authorizationParams(page), {
    tenant: '7',
    p: 'a b',
    scope: 'openid profile email',
    client_id: 'web',
    redirect_uri: CALLBACK,
    state: String
  })
})

t.test('S50 without allowInsecureLoopback every required endpoint must be https', async (t) => {
  const issuer = 'https://op.example'
  for (const name of ['authorization_endpoint', 'token_endpoint', 'jwks_uri']) {
    for (const host of ['127.0.0.1:8080', 'localhost', '[::1]', 'op.example']) {
      const { fetch } = answering({ ...documentFor(issuer), [name]: `http://${host}/x` })
      const app = await buildApp(t, optionsFor({ clients: [] } as unknown as Provider, { ...real, issuer, fetch }))
      const response = await app.inject('/auth/login')
      t.same([response.statusCode, response.json().code], [502, 'FST_OIDC_PROVIDER_RESPONSE'], `${name} on ${host}`)
    }
  }
})

t.test('R4 discovery that is not JSON means that the provider is unavailable', async (t) => {
  const provider = await startedProvider(t)
  const cases: Array<[name: FaultName, status: number, code: string]> = [
    ['metadata-html', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-content-type', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-no-content-type', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-400', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-403', 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-empty', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['metadata-truncated', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['metadata-deep', 502, 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  for (const [name, status, code] of cases) {
    await t.test(name, async (t) => {
      const tried = await attempt(t, provider, faults[name])
      await assertRefused(t, tried, status, code)
      t.equal(tried.page.headers.get('retry-after'), status === 503 ? '5' : null)
    })
  }
  for (const type of [
    'application/json; charset=utf-8', 'Application/JSON', 'application/jwk-set+json',
    'application/vnd.op.v1+json;x=y'
  ]) {
    const { browser } = await attempt(t, provider, { on: 'metadata', headers: { 'content-type': type } })
    await assertLoggedIn(t, browser)
  }
})

// Options instead of discovery

t.test('metadata: nothing is discovered', async (t) => {
  const provider = await startedProvider(t)
  const document = (await (
    await fetch(`${provider.issuer}/.well-known/openid-configuration`)
  ).json()) as ProviderMetadata
  for (const options of [
    { metadata: document },
    { metadata: document, issuer: provider.issuer },
    { metadata: document, discovery: 'eager' as const }
  ]) {
    const { browser } = await attempt(t, provider, [], options)
    await assertLoggedIn(t, browser)
    t.equal(provider.count('metadata'), 0)
  }
  await t.rejects(anotherApp(t, provider, { metadata: document, issuer: `${provider.issuer}/other` }), {
    code: 'FST_OIDC_OPTION', message: /"metadata.issuer" is http:.*, not http:.*\/other/
  }, 'K5 another issuer is refused at start')
  const unsafe = await attempt(t, provider, [], {
    metadata: { ...document, token_endpoint: 'http://op.example/token' }
  })
  await assertRefused(t, unsafe, 502, 'FST_OIDC_PROVIDER_RESPONSE')
  await t.rejects(
    anotherApp(t, provider, { metadata: { ...document, authorization_endpoint: 'javascript:x' }, discovery: 'eager' }),
    { code: 'FST_OIDC_PROVIDER_RESPONSE' }
  )
  const issued = await attempt(
    t,
    provider,
    { on: 'token', idToken: (claims) => ({ ...claims, iss: `${provider.issuer}/other` }) },
    { metadata: document }
  )
  await assertRefused(t, issued, 403, 'FST_OIDC_ID_TOKEN')
})

t.test('discoveryUrl: the metadata is elsewhere', async (t) => {
  const provider = await startedProvider(t, { paths: { metadata: '/somewhere/else.json' } })
  const discoveryUrl = `${provider.issuer}/somewhere/else.json`
  const { browser, page } = await attempt(t, provider, [], { discoveryUrl, issuer: provider.issuer })
  await assertLoggedIn(t, browser)
  t.equal(page.json().claims.iss, provider.issuer)
  t.equal(last(provider, 'metadata').path, '/somewhere/else.json')
  const other = await attempt(t, provider, [], { discoveryUrl, issuer: `${provider.issuer}/other` })
  await assertRefused(t, other, 502, 'FST_OIDC_PROVIDER_RESPONSE')
  const unknown = await attempt(
    t,
    provider,
    { on: 'authorize', authorizationResponse: (params) => params.set('iss', 'https://evil.example') },
    { discoveryUrl, issuer: provider.issuer }
  )
  await assertRefused(t, unknown, 400, 'FST_OIDC_RESPONSE_ISSUER')
})

t.test('S51 discoveryUrl alone: the issuer is the part before the well-known path, or an option', async (t) => {
  const provider = await startedProvider(t)
  const discoveryUrl = `${provider.issuer}/.well-known/openid-configuration`
  await assertLoggedIn(t, (await attempt(t, provider, [], { discoveryUrl })).browser)
  await assertRefused(
    t,
    await attempt(t, provider, member('issuer', 'https://evil.example'), { discoveryUrl }),
    502,
    'FST_OIDC_PROVIDER_RESPONSE'
  )
  const elsewhere = `${provider.issuer}/somewhere/else.json`
  await t.rejects(anotherApp(t, provider, { discoveryUrl: elsewhere }), {
    code: 'FST_OIDC_OPTION',
    message: /"discoveryUrl" needs an "issuer"/
  })
})

t.test('jwksUri: instead of that of the metadata', async (t) => {
  const provider = await startedProvider(t)
  const jwksUri = `${provider.issuer}/jwks?own`
  for (const fault of [[], faults['metadata-without-jwks-uri'], member('jwks_uri', `${provider.issuer}/attacker`)]) {
    const { browser } = await attempt(t, provider, fault, { jwksUri })
    await assertLoggedIn(t, browser)
    t.same(last(provider, 'jwks').query, { own: '' })
    t.equal(provider.count('attacker'), 0)
  }
})

t.test('expectedIssuer: the provider has another name than its address', async (t) => {
  const provider = await startedProvider(t)
  const expectedIssuer = 'https://id.example.com/'
  const renamed: Fault[] = [
    member('issuer', expectedIssuer),
    { on: 'token', idToken: (claims) => ({ ...claims, iss: expectedIssuer }) },
    { on: 'authorize', authorizationResponse: (params) => params.set('iss', expectedIssuer) }
  ]
  const { browser, page } = await attempt(t, provider, renamed, { expectedIssuer })
  await assertLoggedIn(t, browser)
  t.equal(page.json().claims.iss, expectedIssuer)
  t.equal(provider.count('metadata'), 1)
  await assertRefused(t, await attempt(t, provider, [], { expectedIssuer }), 502, 'FST_OIDC_PROVIDER_RESPONSE')
  await assertRefused(t, await attempt(t, provider, renamed), 502, 'FST_OIDC_PROVIDER_RESPONSE')
  await assertRefused(
    t,
    await attempt(t, provider, [renamed[0], renamed[2]] as Fault[], { expectedIssuer }),
    403,
    'FST_OIDC_ID_TOKEN'
  )
  await assertRefused(
    t,
    await attempt(t, provider, renamed.slice(0, 2), { expectedIssuer }),
    400,
    'FST_OIDC_RESPONSE_ISSUER'
  )
})

// The requests of the plugin

t.test('C14 the client authenticates as it is configured', async (t) => {
  const secret = 'a secret: with+every%kind/of=?&character; ü€😀'
  const clientId = 'https://app.example.com/?client=1&x:y z+%41'
  const assertions: string[] = []
  const cases: Array<
    [
      options: Partial<OidcOptions>,
      client: Omit<ProviderClient, 'client_id'>,
      check: (request: ProviderRequest) => void
    ]
  > = [
    [
      { clientSecret: secret },
      { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' },
      ({ headers, body }) => {
        t.match(headers.authorization, /^Basic [\w+/]+=*$/)
        t.same([body['client_id'], body['client_secret'], body['client_assertion']], [undefined, undefined, undefined])
      }
    ],
    [
      { clientSecret: secret, clientAuth: 'client_secret_basic' },
      { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' },
      () => {}
    ],
    [
      { clientSecret: secret, clientAuth: 'client_secret_post' },
      { client_secret: secret, token_endpoint_auth_method: 'client_secret_post' },
      ({ headers, body }) => {
        t.notOk(headers.authorization)
        t.same([body['client_id'], body['client_secret']], [clientId, secret])
      }
    ],
    [
      { clientSecret: secret, clientAuth: 'client_secret_jwt' },
      { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt' },
      ({ headers, body }) => {
        t.notOk(headers.authorization)
        t.notOk(body['client_secret'])
        assertions.push(body['client_assertion'] as string)
      }
    ],
    [
      {},
      { token_endpoint_auth_method: 'none' },
      ({ headers, body }) => {
        t.notOk(headers.authorization)
        t.same([body['client_id'], body['client_secret'], body['client_assertion']], [clientId, undefined, undefined])
      }
    ]
  ]
  for (const [options, registered, check] of cases) {
    const provider = await startedProvider(t, { clients: [{ client_id: clientId, ...registered }] })
    const { clientSecret: _, ...own } = optionsFor(provider)
    const app = await buildApp(t, { ...own, clientId, ...options })
    const browser = client({ app, baseUrl: BASE_URL })
    for (let i = 0; i < 2; i++) {
      t.equal((await browser.goto('/auth/login')).status, 200, String(registered.token_endpoint_auth_method))
      check(last(provider, 'token'))
    }
    t.equal(last(provider, 'authorize').query['client_id'], clientId)
    await assertLoggedIn(t, browser)
  }
  const [first, second] = assertions.map(
    (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1] as string, 'base64url').toString()) as Claims
  )
  t.match(first, { iss: clientId, sub: clientId, aud: String, jti: String, exp: Number }, 'S56 aud is one string')
  t.ok(Number(first?.['exp']) - Number(first?.['iat']) <= 60, 'S56 short-lived')
  t.not(first?.['jti'], second?.['jti'], 'S56 each once')
})

t.test('C14 a client that the provider refuses is an error for the operator', async (t) => {
  const provider = await startedProvider(t)
  for (const clientAuth of ['client_secret_basic', 'client_secret_post', 'client_secret_jwt'] as const) {
    const tried = await attempt(t, provider, [], {
      clientSecret: 'another secret than the one of the provider',
      clientAuth
    })
    await assertRefused(t, tried, 503, 'FST_OIDC_CLIENT_AUTHENTICATION')
    t.equal(provider.count('token'), 1)
  }
})

t.test('scope, offlineAccess, audience, resource and authorizationParams', async (t) => {
  const provider = await startedProvider(t)
  const { app, browser } = await anotherApp(t, provider, {
    scope: 'openid email',
    offlineAccess: true,
    audience: 'https://api.example.com',
    resource: ['https://a.example.com', 'https://b.example.com/?x=1'],
    authorizationParams: { ui_locales: 'de fr' }
  })
  loginRoute(app, '/silent', { authorizationParams: { prompt: 'none' } })
  const page = await browser.step('/auth/login?return_to=/me')
  t.match(authorizationParams(page), {
    scope: 'openid email offline_access',
    prompt: 'consent',
    audience: 'https://api.example.com',
    ui_locales: 'de fr'
  })
  t.same(new URL(page.location as string).searchParams.getAll('resource'), [
    'https://a.example.com',
    'https://b.example.com/?x=1'
  ])
  t.equal(authorizationParams(await browser.step('/silent'))['prompt'], 'none', 'a login may ask for something else')
  t.equal((await browser.goto(page.location as string)).status, 200)
  t.same(new URLSearchParams(last(provider, 'token').rawBody).getAll('resource'), [
    'https://a.example.com',
    'https://b.example.com/?x=1'
  ])

  const plain = await anotherApp(t, provider, { resource: 'https://a.example.com' })
  const params = authorizationParams(await plain.browser.step('/auth/login'))
  t.equal(params['resource'], 'https://a.example.com')
  t.notOk('prompt' in params || 'audience' in params)
  const once = await anotherApp(t, provider, { scope: 'openid offline_access', offlineAccess: true })
  t.equal(authorizationParams(await once.browser.step('/auth/login'))['scope'], 'openid offline_access')
})

// While the provider is unavailable

t.test('S52 R1 lazy: the application starts without the provider, and finds it when it is back', async (t) => {
  const gone = await startProvider()
  const { port } = gone
  await gone.close()
  const clock = startedClock(t)
  const { app, browser } = await anotherApp(t, gone)
  t.equal((await app.inject('/')).statusCode, 200, 'public pages work')
  for (const path of ['/auth/login', '/me']) {
    const page = await browser.goto(path)
    t.same([page.status, page.headers.get('retry-after')], [503, '5'], path)
    t.match(page.text(), 'FST_OIDC_PROVIDER_UNAVAILABLE')
    t.same(cookiesSet(page), [])
  }
  const api = await browser.fetch('/me')
  t.equal(api.status, 401, 'an API still says what it wants')
  await startedProvider(t, { port })
  clock.advance(2)
  const page = await browser.goto('/auth/login?return_to=/me')
  t.equal(page.status, 200)
})

t.test('S52 R1 eager: the application does not start without the provider', async (t) => {
  const provider = await startedProvider(t)
  const cases: Array<[name: FaultName, code: string]> = [
    ['metadata-reset', 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-500', 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['metadata-html', 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['discovery-issuer-mismatch', 'FST_OIDC_PROVIDER_RESPONSE'],
    ['metadata-redirect', 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  for (const [name, code] of cases) {
    const off = provider.fault(...[faults[name]].flat())
    const failed = anotherApp(t, provider, { discovery: 'eager' })
    await t.rejects(failed, { code, name: 'OidcError' }, name)
    await failed.catch((error: unknown) => { t.type(error, OidcError); t.type((error as OidcError).detail, 'string') })
    off()
  }
  provider.clearRequests()
  const { browser } = await anotherApp(t, provider, { discovery: 'eager' })
  t.equal(provider.count('metadata'), 1, 'it is asked at the start')
  await browser.goto('/auth/login')
  await assertLoggedIn(t, browser)
  t.equal(provider.count('metadata'), 1)
  await anotherApp(t, provider)
  t.equal(provider.count('metadata'), 1, 'and not at all when it is lazy')
})

t.test('R3 R31 a failure is remembered as long as Retry-After says, up to a minute', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const cases: Array<[what: string, fault: Fault, header: string, seconds: number]> = [
    ['a Retry-After', faults['metadata-429'], '7', 7],
    ['a Retry-After with 503', { on: 'metadata', status: 503, headers: { 'retry-after': '30' } }, '30', 30],
    ['a fraction', { on: 'metadata', status: 503, headers: { 'retry-after': '1.5' } }, '2', 2],
    ['a long Retry-After', { on: 'metadata', status: 503, headers: { 'retry-after': '3600' } }, '3600', 60],
    ['an absurd one', { on: 'metadata', status: 503, headers: { 'retry-after': '999999' } }, '5', 5],
    ['a negative one', { on: 'metadata', status: 503, headers: { 'retry-after': '-1' } }, '5', 5],
    ['a date', { on: 'metadata', status: 503, headers: { 'retry-after': 'Wed, 21 Oct 2099 07:28:00 GMT' } }, '5', 5],
    ['none', faults['metadata-500'], '5', 5],
    ['no answer', faults['metadata-reset'], '5', 1]
  ]
  for (const [what, fault, header, seconds] of cases) {
    await t.test(what, async (t) => {
      const { browser } = await anotherApp(t, provider)
      provider.clearRequests()
      provider.fault({ ...fault, times: 1 })
      const first = await browser.step('/auth/login')
      t.same([first.status, first.headers.get('retry-after')], [503, header])
      clock.advance(seconds - 0.9)
      t.equal((await browser.step('/auth/login')).status, 503, 'the provider is left alone')
      t.equal(provider.count('metadata'), 1)
      clock.advance(1)
      t.equal((await browser.step('/auth/login')).status, 302)
      t.equal(provider.count('metadata'), 2)
    })
  }
  await t.test('R10 a clock that is set back', async (t) => {
    const { browser } = await anotherApp(t, provider)
    provider.fault({ ...faults['metadata-500'], times: 1 })
    await browser.step('/auth/login')
    clock.advance(-86_400)
    t.equal((await browser.step('/auth/login')).status, 302)
  })
})

t.test('S52 metadata is used for an hour, and for a day while the provider is unavailable', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { browser } = await anotherApp(t, provider)
  await browser.step('/auth/login')
  clock.advance(3590)
  await browser.step('/auth/login')
  t.equal(provider.count('metadata'), 1)
  clock.advance(20)
  provider.options.metadata = { authorization_endpoint: `${provider.issuer}/new` }
  t.match((await browser.step('/auth/login')).location, `${provider.issuer}/authorize`, 'while it is fetched again')
  await until(async () => (await browser.step('/auth/login')).location?.startsWith(`${provider.issuer}/new`) === true)
  t.equal(provider.count('metadata'), 2, 'new metadata is used')

  for (const fault of [
    faults['metadata-500'],
    faults['discovery-issuer-mismatch'],
    faults['metadata-reset'],
    faults['metadata-html']
  ]) {
    const off = provider.fault(fault)
    clock.advance(5 * 3600)
    t.match((await browser.step('/auth/login')).location, `${provider.issuer}/new`, 'the old metadata serves on')
    off()
  }
  provider.fault(faults['metadata-500'])
  clock.advance(5 * 3600)
  t.equal((await browser.step('/auth/login')).status, 503, 'but no longer than a day')
})

t.test('S53 R7 keys are used for ten minutes, and for a day while they cannot be fetched', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { browser } = await anotherApp(t, provider)
  const logIn = async (): Promise<number> => (await browser.goto('/auth/login')).status
  t.same([await logIn(), provider.count('jwks')], [200, 1])
  clock.advance(590)
  t.same([await logIn(), provider.count('jwks')], [200, 1])
  clock.advance(20)
  t.equal(await logIn(), 200)
  await until(() => provider.count('jwks') === 2)
  for (const name of [
    'jwks-404', 'jwks-500', 'jwks-html', 'jwks-reset', 'jwks-redirect', 'jwks-not-an-array'
  ] as const) {
    const off = provider.fault(...[faults[name]].flat())
    clock.advance(3600)
    t.equal(await logIn(), 200, `${name}: the old keys serve on`)
    off()
  }
  const off = provider.fault(faults['jwks-404'])
  provider.rotateKeys()
  t.equal(await logIn(), 502, 'a new key is not known meanwhile')
  t.equal(await logIn(), 502)
  off()
  t.equal(await logIn(), 200, 'and works as soon as it can be fetched')
  provider.fault(faults['jwks-500'])
  clock.advance(25 * 3600)
  t.equal(await logIn(), 503, 'no longer than a day')
})

// Many requests at once, and rotation

t.test('R26 a thousand first requests: one discovery; a hundred first callbacks: one request for keys', async (t) => {
  const provider = await startedProvider(t)
  const { app } = await anotherApp(t, provider)
  provider.fault({ on: 'metadata', delay: 30 }, { on: 'jwks', delay: 30 })
  const answers = await Promise.all(
    Array.from({ length: 1000 }, async () => (await app.inject('/auth/login')).statusCode)
  )
  t.same([...new Set(answers)], [302])
  t.equal(provider.count('metadata'), 1)

  const browsers = Array.from({ length: 100 }, () => client({ app, baseUrl: BASE_URL }))
  const pages = await Promise.all(browsers.map(async (browser) => await browser.goto('/auth/login?return_to=/me')))
  t.same([...new Set(pages.map(({ status }) => status))], [200])
  t.equal(provider.count('token'), 100)
  t.equal(provider.count('jwks'), 1)
  t.equal(provider.count('metadata'), 1)
})

t.test('R26 R31 many requests while the provider is unavailable: one discovery, and all recover', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const herd = async (): Promise<number[]> => [
    ...new Set(await Promise.all(Array.from({ length: 100 }, async () => (await app.inject('/auth/login')).statusCode)))
  ]
  provider.fault({ ...faults['metadata-503'], delay: 30, times: 1 })
  t.same(await herd(), [503])
  t.same(await herd(), [503])
  t.equal(provider.count('metadata'), 1)
  clock.advance(8)
  t.same(await herd(), [302])
  t.equal(provider.count('metadata'), 2)
})

t.test('R11 after the provider lost its state the next login works, without a loop', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  const callback = await untilCallback(browser)
  provider.forget()
  const page = await browser.goto(callback.href)
  await assertRefused(t, { page, browser, provider }, 400, 'FST_OIDC_CODE')
  t.notOk(browser.cookies.get(SESSION_COOKIE))
  t.equal((await browser.goto('/auth/login')).status, 200)
  await assertLoggedIn(t, browser)
})

t.test('R34 two applications with two providers in one process are independent', async (t) => {
  const [one, two] = [await startedProvider(t), await startedProvider(t, { users: [{ sub: 'bob' }] })]
  const [first, second] = [await anotherApp(t, one), await anotherApp(t, two)]
  const callback = await untilCallback(first.browser)
  await second.browser.goto('/auth/login')
  for (const { name, value } of first.browser.cookies.list(BASE_URL)) {
    if (name !== SESSION_COOKIE) second.browser.cookies.set(name, value)
  }
  t.equal((await second.browser.goto(callback.href)).status, 400, 'the login of one is none in the other')
  await assertLoggedIn(t, second.browser, 'bob')
  t.equal(two.count('token'), 1)
  await first.browser.goto(callback.href)
  const session = first.browser.cookies.get(SESSION_COOKIE) as string
  second.browser.cookies.set(SESSION_COOKIE, session)
  t.equal((await second.browser.fetch('/me')).status, 401, 'the session of one is none in the other, with the same key')
  second.browser.cookies.delete(SESSION_COOKIE)
  await assertAnonymous(t, second.browser)
})
