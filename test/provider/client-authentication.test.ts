import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, exportPKCS8, generateKeyPair } from 'jose'
import fc from 'fast-check'
import t from 'tap'
import { createClientAuthentication } from '../../lib/provider/client-authentication.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor } from '../support/app.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import { captureLog } from '../support/protocol.ts'
import { until } from '../support/until.ts'
import type { JWK } from 'jose'
import type { Test } from 'tap'
import type { ClientKey, OidcOptions } from '../../index.ts'
import type { Provider, ProviderClient, ProviderRequest } from '../../lib/testing/index.ts'

// many-providers.test.ts shows the methods against a certified provider.

async function startedProvider (t: Test, registered: Partial<ProviderClient>): Promise<Provider> {
  const provider = await startProvider({
    refreshTokens: 'always',
    accessTokenTtl: 10,
    clients: [{ client_id: 'web', ...registered }]
  })
  t.teardown(async () => await provider.close())
  return provider
}

/** Logs in, refreshes and logs out; what reached the provider at its token and revocation endpoints. */
async function visit (t: Test, provider: Provider, options: Partial<OidcOptions>): Promise<ProviderRequest[]> {
  const app = await buildApp(t, { ...optionsFor(provider), clientSecret: undefined, ...options } as OidcOptions)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
    token: await app.oidc.accessToken(request)
  }))
  const browser = client({ app, baseUrl: BASE_URL })
  provider.clearRequests()
  t.equal((await browser.goto('/me')).status, 200)
  t.equal((await browser.fetch('/token')).status, 200)
  await browser.post('/auth/logout')
  await until(() => provider.count('revocation') > 0) // the logout does not wait for it
  const sent = provider.requests.filter(({ endpoint }) => endpoint === 'token' || endpoint === 'revocation')
  t.same(
    sent.map(({ endpoint, body }) => body['grant_type'] ?? endpoint),
    ['authorization_code', 'refresh_token', 'revocation']
  )
  return sent
}

const assertionOf = ({ body }: ProviderRequest): string => body['client_assertion'] as string

t.test(
  'C14 client_secret_basic: identifier and secret are form-encoded before they are joined (RFC 6749, section 2.3.1)',
  async (t) => {
    for (const [clientId, clientSecret] of [
      ['web', 'a:b+c d%20&=ä€'],
      ['a:client/+%', 'x'.repeat(200)]
    ] as const) {
      const provider = await startedProvider(t, {
        client_id: clientId,
        client_secret: clientSecret,
        token_endpoint_auth_method: 'client_secret_basic'
      })
      for (const { headers, body } of await visit(t, provider, { clientId, clientSecret })) {
        const text = Buffer.from(String(headers.authorization).slice('Basic '.length), 'base64').toString()
        t.same(
          text.split(':').map((part) => new URLSearchParams(`x=${part}`).get('x')),
          [clientId, clientSecret]
        )
        t.notOk('client_secret' in body || 'client_assertion' in body)
      }
    }
  }
)

/** The identifier and secret of an Authorization header, as the server receives them. */
function basicCredentials ({ headers }: ProviderRequest): string {
  return Buffer.from(String(headers.authorization).slice('Basic '.length), 'base64').toString()
}

/** What client_secret_basic makes of an identifier and a secret. */
async function sentCredentials (clientId: string, clientSecret: string, basicEncoding: 'form' | 'raw'): Promise<string> {
  const authenticate = createClientAuthentication({
    clientAuth: 'client_secret_basic',
    clientSecret: async () => clientSecret,
    clientKey: async () => '',
    basicEncoding,
    clientAssertionAudience: undefined
  })
  const headers = new Headers()
  await authenticate({ issuer: 'x' }, { client_id: clientId }, new URLSearchParams(), headers)
  return Buffer.from(String(headers.get('authorization')).slice('Basic '.length), 'base64').toString()
}

/** What each kind of server reads: one that decodes forms, one that decodes URIs, and one that decodes nothing. */
const READERS: Array<(credential: string) => string> = [
  (credential) => new URLSearchParams(`x=${credential}`).get('x') as string,
  decodeURIComponent,
  (credential) => credential
]

t.test('K9 every server reads an ordinary identifier and secret as they are', async (t) => {
  const clientId = 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'
  const clientSecret = 'Az09-._*'
  const provider = await startedProvider(t, { client_id: clientId, client_secret: clientSecret })
  for (const request of await visit(t, provider, { clientId, clientSecret })) {
    const credentials = basicCredentials(request).split(':')
    for (const read of READERS) t.same(credentials.map(read), [clientId, clientSecret])
  }
})

t.test('K9 a server that decodes reads any identifier and secret', async (t) => {
  const texts = fc.string({ unit: 'grapheme', minLength: 1 })
  await fc.assert(fc.asyncProperty(texts, texts, async (clientId, clientSecret) => {
    const credentials = (await sentCredentials(clientId, clientSecret, 'form')).split(':')
    t.equal(credentials.length, 2)
    for (const read of READERS.slice(0, 2)) t.same(credentials.map(read), [clientId, clientSecret])
  }))
})

t.test('K9 basicEncoding raw sends what is configured, for a server that never decodes', async (t) => {
  t.equal(await sentCredentials('my client', 'a+b c%20ä:~', 'raw'), 'my client:a+b c%20ä:~')
  const provider = await startedProvider(t, { client_secret: 'a~b' })
  const app = await buildApp(t, { ...optionsFor(provider), clientSecret: 'a~b', basicEncoding: 'raw' })
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/me')).status, 200)
  t.same(provider.requests.filter(({ endpoint }) => endpoint === 'token').map(basicCredentials), ['web:a~b'])
})

t.test('K9 clientAssertionAudience replaces the audience of client assertions', async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicJwk = publicKey.export({ format: 'jwk' }) as JWK
  const secret = randomBytes(32).toString('base64url')
  const methods: Array<[registered: Partial<ProviderClient>, options: Partial<OidcOptions>]> = [
    [{ jwks: { keys: [publicJwk] }, token_endpoint_auth_method: 'private_key_jwt' }, { clientKey: privateKey }],
    [
      { client_secret: secret, token_endpoint_auth_method: 'client_secret_jwt' },
      { clientSecret: secret, clientAuth: 'client_secret_jwt' }
    ]
  ]
  for (const [registered, options] of methods) {
    const provider = await startedProvider(t, registered)
    const clientAssertionAudience = `${provider.issuer}/token`
    for (const request of await visit(t, provider, { ...options, clientAssertionAudience })) {
      t.equal(decodeJwt(assertionOf(request)).aud, clientAssertionAudience)
    }
  }
})

t.test('S56 private_key_jwt: for this provider, short-lived, never the same twice', async (t) => {
  const pairs: Array<[alg: string, key: ClientKey, publicJwk: JWK]> = []
  for (const [alg, type, options] of [
    ['PS256', 'rsa', { modulusLength: 2048 }],
    ['RS256', 'rsa', { modulusLength: 2048 }],
    ['ES256', 'ec', { namedCurve: 'P-256' }],
    ['ES384', 'ec', { namedCurve: 'P-384' }],
    ['EdDSA', 'ed25519', {}]
  ] as const) {
    const { publicKey, privateKey } = generateKeyPairSync(type as 'rsa', options as { modulusLength: number })
    const publicJwk = publicKey.export({ format: 'jwk' }) as JWK
    pairs.push([
      alg,
      {
        ...privateKey.export({ format: 'jwk' }),
        alg,
        kid: 'k',
        'x5t#S256': 'thumbprint',
        x5t: 'old',
        key_ops: ['sign']
      } as JWK,
      { ...publicJwk, kid: 'k', alg }
    ])
    if (alg === 'PS256') continue // a key that does not say so signs in the usual way
    pairs.push(
      [alg, privateKey, publicJwk],
      [alg, privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, publicJwk]
    )
  }
  for (const [alg, clientKey, publicJwk] of pairs) {
    const provider = await startedProvider(t, {
      jwks: { keys: [publicJwk] },
      token_endpoint_auth_method: 'private_key_jwt'
    })
    const sent = await visit(t, provider, { clientKey })
    for (const request of sent) {
      const { iss, sub, aud, iat = 0, exp = 0, jti } = decodeJwt(assertionOf(request))
      t.match({ iss, sub, aud }, { iss: 'web', sub: 'web', aud: provider.issuer }, 'aud is the issuer, as one string')
      t.ok(exp - iat <= 60 && typeof jti === 'string' && jti.length >= 22)
      t.notOk('authorization' in request.headers || 'client_secret' in request.body)
      const header = decodeProtectedHeader(assertionOf(request))
      t.equal(header.alg?.replace('Ed25519', 'EdDSA'), alg)
      if ('kid' in publicJwk) t.match(header, { kid: 'k', x5t: 'old', 'x5t#S256': 'thumbprint' })
    }
    t.equal(new Set(sent.map((request) => decodeJwt(assertionOf(request)).jti)).size, 3)
  }
})

t.test('a key that does not fit its algorithm is an error for the operator', async (t) => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const provider = await startedProvider(t, { jwks: { keys: [] } })
  const { server, lines } = captureLog()
  const keys: ClientKey[] = [
    { ...privateKey.export({ format: 'jwk' }), alg: 'ES256' } as JWK,
    '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n',
    { kty: 'RSA', d: 'x' },
    { ...privateKey.export({ format: 'jwk' }), alg: 'RSA-OAEP' } as JWK
  ]
  for (const clientKey of keys) {
    const { clientSecret: _, ...options } = optionsFor(provider)
    const app = await buildApp(t, { ...options, clientKey }, server)
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.ok([502, 503].includes(page.status), String(page.status))
  }
  t.match(lines(), 'the clientKey cannot be used')
  t.notMatch(lines(), String(privateKey.export({ format: 'jwk' }).d))
  t.notMatch(lines(), 'AAAA')
})

t.test('secret and key change while the application runs', async (t) => {
  const provider = await startedProvider(t, { client_secret: 'first' })
  const registered = provider.clients[0] as ProviderClient
  let secret = 'first'
  const app = await buildApp(t, optionsFor(provider, { clientSecret: async () => secret }))
  const logIn = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/me')).status
  t.equal(await logIn(), 200)
  registered.client_secret = 'second'
  t.equal(await logIn(), 503, 'K9 the provider does not accept the old secret')
  secret = 'second'
  t.equal(await logIn(), 200)

  const keys = await Promise.all([1, 2].map(async () => await generateKeyPair('ES256', { extractable: true })))
  const pems = await Promise.all(keys.map(async ({ privateKey }) => await exportPKCS8(privateKey)))
  const jwks = pems.map((pem) => {
    const { d: _, ...jwk } = createPrivateKey(pem).export({ format: 'jwk' })
    return jwk as JWK
  })
  const other = await startedProvider(t, { jwks: { keys: [jwks[0] as JWK] } })
  let pem = pems[0] as string
  const { clientSecret: _, ...options } = optionsFor(other)
  const signing = await buildApp(t, { ...options, clientKey: () => pem })
  const logInSigning = async (): Promise<number> =>
    (await client({ app: signing, baseUrl: BASE_URL }).goto('/me')).status
  t.equal(await logInSigning(), 200)
  ;(other.clients[0] as ProviderClient).jwks = { keys: [jwks[1] as JWK] }
  t.equal(await logInSigning(), 503, 'K9 nor the old key')
  pem = pems[1] as string
  t.equal(await logInSigning(), 200)
})

t.test('a secret function that fails', async (t) => {
  const provider = await startedProvider(t, { client_secret: 'x' })
  const { server, lines } = captureLog()
  for (const clientSecret of [
    () => {
      throw new Error('the vault is sealed: top secret')
    },
    async () => await Promise.reject(new Error('no')),
    () => '',
    () => 7 as never
  ]) {
    const app = await buildApp(t, optionsFor(provider, { clientSecret }), server)
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.match([page.status, page.headers.get('retry-after')], [503, '5'])
    t.match(page.text(), 'FST_OIDC_PROVIDER_UNAVAILABLE')
    t.notMatch(page.text(), 'vault')
  }
  t.match(lines(), 'the clientSecret is not available')
  t.equal(provider.count('token'), 0)
})

t.test('R2 a secret function that never returns fails its own request only', async (t) => {
  const provider = await startedProvider(t, { client_secret: 'x' })
  const { server, lines } = captureLog()
  let calls = 0
  const clientSecret = async (): Promise<string> => ++calls === 1 ? await new Promise(() => {}) : 'x'
  const app = await buildApp(t, optionsFor(provider, { clientSecret, timeout: 1 }), server)
  const goto = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/me')).status
  t.same(await Promise.all([goto(), goto()]).then((statuses) => statuses.sort()), [200, 503])
  t.match(lines(), 'the clientSecret is not available: it has not ended within 1 s, as \\"timeout\\" demands')
})

t.test('S56 a wrong client secret is not logged', async (t) => {
  const lines: string[] = []
  const { issuer, close, register } = await startOidcProvider({ autoLogin: 'alice' })
  t.teardown(close)
  const secret = 'a secret: with + % & = and 32 bytes'
  const other = randomBytes(24).toString('base64url')
  await register({ client_id: 'web', client_secret: secret, redirect_uris: [`${BASE_URL}/auth/callback`] })
  const app = await buildApp(
    t,
    {
      issuer,
      clientId: 'web',
      clientSecret: other,
      baseUrl: BASE_URL,
      session: { key: SESSION_KEY },
      allowInsecureLoopback: true
    },
    {
      logger: {
        stream: {
          write: (line: string) => {
            lines.push(line)
          }
        }
      }
    }
  )
  const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
  t.match([page.status, page.text()], [503, /FST_OIDC_CLIENT_AUTHENTICATION/])
  const entry = lines.map((line) => JSON.parse(line)).find(({ code }) => code === 'FST_OIDC_CLIENT_AUTHENTICATION')
  t.match(entry, {
    level: 50,
    detail: /401 invalid_client: check "clientId" and "clientSecret", and that client_secret_basic \("clientAuth"\)/
  }, 'K9 the log says what to check')
  t.notOk(lines.join('').includes(other))
})
