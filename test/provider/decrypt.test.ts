import { createSecretKey, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { CompactEncrypt, SignJWT } from 'jose'
import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor } from '../support/app.ts'
import { rsaKey } from '../support/keys.ts'
import { SESSION_COOKIE } from '../support/protocol.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import type { JWK } from 'jose'
import type { Test } from 'tap'
import type { Encryption, OidcOptions } from '../../index.ts'
import type { Page, Provider } from '../../lib/testing/index.ts'

const rsa = rsaKey(0)
const other = rsaKey(1)
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const AGREED: Required<Encryption> = { alg: 'RSA-OAEP-256', enc: 'A256GCM' }

const jwkOf = (key: KeyObject, members: Partial<JWK> = {}): JWK => ({
  ...(key.export({ format: 'jwk' }) as JWK),
  ...members
})

async function encrypt (
  content: string,
  header: Record<string, unknown> = AGREED,
  key: KeyObject = rsa.publicKey
): Promise<string> {
  return await new CompactEncrypt(new TextEncoder().encode(content)).setProtectedHeader(header as never).encrypt(key)
}

async function startedProvider (t: Test): Promise<Provider> {
  const provider = await startProvider({ refreshTokens: 'always', accessTokenTtl: 10 })
  t.teardown(async () => await provider.close())
  return provider
}

const encrypting: Partial<OidcOptions> = { idTokenEncryption: AGREED, decryptionKey: rsa.privateKey }

/** Logs in, while `make` replaces the ID tokens of the provider. */
async function attempt (
  t: Test,
  provider: Provider,
  make: (jws: string) => Promise<string>,
  options: Partial<OidcOptions> = encrypting
): Promise<{ page: Page; hasSession: boolean }> {
  // Replaces the token in the response of the provider.
  const fetching: OidcOptions['fetch'] = async (url, init) => {
    const response = await fetch(url, init)
    if (!url.endsWith('/token')) return response
    const body = await response.json() as { id_token: string }
    return Response.json({ ...body, id_token: await make(body.id_token) })
  }
  const app = await buildApp(t, optionsFor(provider, { ...options, fetch: fetching }))
  const browser = client({ app, baseUrl: BASE_URL })
  const page = await browser.goto('/auth/login?return_to=/me')
  return { page, hasSession: browser.cookies.get(SESSION_COOKIE) !== undefined }
}

t.test('S32 encrypted ID tokens of a certified provider: login, refresh, logout', async (t) => {
  const cases: Array<[Encryption, JWK[], OidcOptions['decryptionKey']]> = [
    [
      AGREED,
      [jwkOf(rsa.publicKey, { kid: 'new', use: 'enc' })],
      [jwkOf(other.privateKey, { kid: 'old' }), jwkOf(rsa.privateKey, { kid: 'new' })]
    ],
    [
      { alg: 'RSA-OAEP' },
      [jwkOf(rsa.publicKey, { use: 'enc' })],
      () => rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    ],
    [
      { alg: 'ECDH-ES', enc: 'A128CBC-HS256' },
      [jwkOf(ec.publicKey, { use: 'enc' })],
      async () => [rsa.privateKey, ec.privateKey]
    ],
    [
      { alg: 'ECDH-ES+A256KW', enc: 'A256CBC-HS512' },
      [jwkOf(ec.publicKey, { kid: 'x', use: 'enc' })],
      jwkOf(ec.privateKey)
    ]
  ]
  for (const [encryption, keys, decryptionKey] of cases) {
    const { alg, enc = 'A128CBC-HS256' } = encryption
    const { issuer, register, close } = await startOidcProvider({
      autoLogin: 'alice',
      configuration: {
        ttl: { AccessToken: 1, IdToken: 3600, Grant: 3600, RefreshToken: 3600, Session: 3600 },
        enabledJWA: { idTokenEncryptionAlgValues: [alg], idTokenEncryptionEncValues: [enc] }
      }
    })
    t.teardown(close)
    await register({
      client_id: 'web',
      client_secret: 'secret of web',
      redirect_uris: [`${BASE_URL}/auth/callback`],
      post_logout_redirect_uris: [`${BASE_URL}/auth/logged-out`],
      grant_types: ['authorization_code', 'refresh_token'],
      jwks: { keys },
      id_token_encrypted_response_alg: alg,
      id_token_encrypted_response_enc: enc
    })
    let issued = ''
    const app = await buildApp(t, {
      issuer,
      clientId: 'web',
      clientSecret: 'secret of web',
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      offlineAccess: true,
      idTokenEncryption: encryption,
      decryptionKey: decryptionKey as JWK,
      onClaims: (_claims, { tokens }) => { issued = tokens.access_token }
    })
    app.get('/token', { preHandler: app.oidc.required() }, async (request) => ({
      token: await app.oidc.accessToken(request)
    }))
    const browser = client({ app, baseUrl: BASE_URL })
    const page = await browser.goto('/me')
    t.match([page.status, page.json()], [200, { claims: { sub: 'alice' } }], alg)
    const { token } = (await browser.fetch('/token')).json() as { token?: string }
    t.ok(token !== undefined && token !== issued, 'refreshed')
    const bye = await browser.post('/auth/logout', {}, { until: ({ origin }) => origin === issuer })
    const hint = bye.form?.action.searchParams.get('id_token_hint') as string
    t.equal(hint.split('.').length, 3, 'the hint is what was inside')
  }
})

t.test('S32 an ID token that is not encrypted as configured is refused', async (t) => {
  const provider = await startedProvider(t)
  t.equal((await attempt(t, provider, async (jws) => await encrypt(jws))).page.status, 200)
  const cut = async (jws: string): Promise<string> => (await encrypt(jws)).slice(0, -4)
  const wrong: Record<string, (jws: string) => Promise<string>> = {
    'not at all': async (jws) => jws,
    'with another alg': async (jws) => await encrypt(jws, { alg: 'RSA-OAEP', enc: 'A256GCM' }),
    'with another enc': async (jws) => await encrypt(jws, { alg: 'RSA-OAEP-256', enc: 'A128GCM' }),
    'for another key': async (jws) => await encrypt(jws, AGREED, other.publicKey),
    'with a password': async (jws) =>
      await new CompactEncrypt(new TextEncoder().encode(jws))
        .setProtectedHeader({ alg: 'PBES2-HS256+A128KW', enc: 'A256GCM' })
        .encrypt(new TextEncoder().encode('password')),
    'with a shared key': async (jws) =>
      await new CompactEncrypt(new TextEncoder().encode(jws))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
        .encrypt(createSecretKey(randomBytes(32))),
    twice: async (jws) => await encrypt(await encrypt(jws)),
    'and compressed': async (jws) => withHeader(await encrypt(jws), { ...AGREED, zip: 'DEF' }),
    'with a critical extension': async (jws) => withHeader(await encrypt(jws), { ...AGREED, crit: ['x'], x: 1 }),
    'and cut': cut,
    'and unsigned inside': async (jws) =>
      await encrypt(`${Buffer.from('{"alg":"none"}').toString('base64url')}.${jws.split('.')[1]}.`),
    'and signed by another inside': async (jws) =>
      await encrypt(
        await new SignJWT(JSON.parse(Buffer.from(jws.split('.')[1] as string, 'base64url').toString()))
          .setProtectedHeader({ alg: 'RS256' })
          .sign(other.privateKey)
      ),
    'and nothing inside': async () => await encrypt(''),
    'but text': async () => 'x.y.z.a.b',
    'but empty parts': async () => '....'
  }
  for (const [what, make] of Object.entries(wrong)) {
    const { page, hasSession } = await attempt(t, provider, make)
    t.ok([403, 502].includes(page.status), `${what}: ${page.status}`)
    t.match(page.text(), /FST_OIDC_(?:ID_TOKEN|PROVIDER_RESPONSE)/, what)
    t.notOk(hasSession, what)
  }
  const unasked = await attempt(t, provider, async (jws) => await encrypt(jws), {})
  t.ok([403, 502].includes(unasked.page.status) && !unasked.hasSession, 'encrypted, but not by configuration')
})

function withHeader (jwe: string, header: object): string {
  return [Buffer.from(JSON.stringify(header)).toString('base64url'), ...jwe.split('.').slice(1)].join('.')
}

t.test('S32 unusable decryption keys, and a key function that fails', async (t) => {
  const provider = await startedProvider(t)
  const fails = async () => await Promise.reject(new Error('sealed'))
  for (const decryptionKey of [
    fails,
    () => [],
    () => 'no key' as never,
    () => ({ kty: 'RSA', d: 'x' }),
    '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'
  ]) {
    const { page } = await attempt(t, provider, async (jws) => await encrypt(jws), { ...encrypting, decryptionKey })
    t.match([page.status, page.text()], [503, /FST_OIDC_PROVIDER_UNAVAILABLE/])
  }
  const never = async (): Promise<KeyObject> => await new Promise(() => {})
  const { page } = await attempt(t, provider, async (jws) => await encrypt(jws), {
    ...encrypting, decryptionKey: never, timeout: 1
  })
  t.match([page.status, page.text()], [503, /FST_OIDC_PROVIDER_UNAVAILABLE/], 'R2')
  for (const decryptionKey of [
    jwkOf(rsa.privateKey, { use: 'sig' }),
    jwkOf(rsa.privateKey, { alg: 'RSA-OAEP' }),
    ec.privateKey
  ]) {
    const { page } = await attempt(t, provider, async (jws) => await encrypt(jws), { ...encrypting, decryptionKey })
    t.match([page.status, page.text()], [403, /FST_OIDC_ID_TOKEN/], 'a key for something else')
  }
  const named = await attempt(t, provider, async (jws) => await encrypt(jws, { ...AGREED, kid: 'new' }), {
    ...encrypting,
    decryptionKey: [jwkOf(rsa.privateKey, { kid: 'old' })]
  })
  t.equal(named.page.status, 403, 'a token that names another key')
  t.equal(
    (
      await attempt(t, provider, async (jws) => await encrypt(jws, { ...AGREED, kid: 'new' }), {
        ...encrypting,
        decryptionKey: [jwkOf(other.privateKey, { kid: 'old' }), jwkOf(rsa.privateKey)]
      })
    ).page.status,
    200
  )
})

t.test('a token response without an ID token, or with an invalid one, is refused', async (t) => {
  const provider = await startedProvider(t)
  for (const body of ['null', '[]', '7', '{"access_token":"a","token_type":"Bearer"}', '{"id_token":7}', 'x']) {
    const clear = provider.fault({ on: 'token', status: 200, headers: { 'content-type': 'application/json' }, body })
    const app = await buildApp(t, optionsFor(provider, encrypting))
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.ok([403, 502].includes(page.status), `${body}: ${page.status}`)
    clear()
  }
})

/** Logs in, while `make` replaces the UserInfo response. */
async function withUserinfo (
  t: Test,
  provider: Provider,
  make: (claims: Record<string, unknown>) => Promise<string>,
  options: Partial<OidcOptions>,
  type = 'application/jwt'
): Promise<Page> {
  const fetching: OidcOptions['fetch'] = async (url, init) => {
    const response = await fetch(url, init)
    if (!url.endsWith('/userinfo')) return response
    return new Response(await make((await response.json()) as Record<string, unknown>), {
      headers: { 'content-type': type }
    })
  }
  const app = await buildApp(t, optionsFor(provider, { userinfo: true, fetch: fetching, ...options }))
  return await client({ app, baseUrl: BASE_URL }).goto('/me')
}

t.test('S34 UserInfo that is signed, or encrypted as well, of a certified provider', async (t) => {
  const cases: Array<[Record<string, unknown>, Partial<OidcOptions>]> = [
    [{ userinfo_signed_response_alg: 'RS256' }, { userinfoSigningAlg: 'RS256' }],
    [
      {
        userinfo_signed_response_alg: 'RS256',
        userinfo_encrypted_response_alg: 'RSA-OAEP-256',
        userinfo_encrypted_response_enc: 'A256GCM'
      },
      { userinfoSigningAlg: 'RS256', userinfoEncryption: AGREED, decryptionKey: rsa.privateKey }
    ]
  ]
  for (const [registered, options] of cases) {
    const { issuer, register, close } = await startOidcProvider({
      autoLogin: 'alice',
      configuration: { enabledJWA: { userinfoEncryptionAlgValues: ['RSA-OAEP-256'] } }
    })
    t.teardown(close)
    await register({
      client_id: 'web',
      client_secret: 'secret of web',
      redirect_uris: [`${BASE_URL}/auth/callback`],
      jwks: { keys: [jwkOf(rsa.publicKey, { use: 'enc' })] },
      ...registered
    })
    const app = await buildApp(t, {
      issuer,
      clientId: 'web',
      clientSecret: 'secret of web',
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      userinfo: true,
      ...options
    })
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.match(
      [page.status, page.json()],
      [200, { claims: { sub: 'alice', email: 'alice@example.com', iss: issuer } }],
      JSON.stringify(registered)
    )
  }
})

t.test('S34 UserInfo that is not signed or encrypted as configured makes no login', async (t) => {
  const provider = await startedProvider(t)
  const key = rsaKey(2)
  provider.fault({
    on: 'jwks',
    jwks: (document) => {
      document.keys.push(
        jwkOf(key.publicKey, { kid: 'userinfo', alg: 'RS256', use: 'sig' }),
        jwkOf(ec.publicKey, { kid: 'ec' })
      )
    }
  })
  const sign = async (claims: Record<string, unknown>, signer: KeyObject = key.privateKey): Promise<string> =>
    await new SignJWT({ iss: provider.issuer, aud: 'web', ...claims })
      .setProtectedHeader({ alg: 'RS256', kid: 'userinfo' })
      .sign(signer)
  const signed: Partial<OidcOptions> = { userinfoSigningAlg: 'RS256' }
  const both: Partial<OidcOptions> = { ...signed, userinfoEncryption: AGREED, decryptionKey: rsa.privateKey }
  const onlyEncrypted: Partial<OidcOptions> = { userinfoEncryption: AGREED, decryptionKey: rsa.privateKey }
  const unsigned = (claims: object): string =>
    `${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.`

  t.equal((await withUserinfo(t, provider, sign, signed)).status, 200)
  t.equal((await withUserinfo(t, provider, async (claims) => await encrypt(await sign(claims)), both)).status, 200)
  t.equal(
    (await withUserinfo(t, provider, async (claims) => await encrypt(JSON.stringify(claims)), onlyEncrypted)).status,
    200
  )

  const wrong: Array<[string, (claims: Record<string, unknown>) => Promise<string>, Partial<OidcOptions>, string?]> = [
    ['signed by another', async (claims) => await sign(claims, other.privateKey), signed],
    [
      'signed with another algorithm',
      async (claims) =>
        await new SignJWT({ iss: provider.issuer, aud: 'web', ...claims })
          .setProtectedHeader({ alg: 'ES256', kid: 'ec' })
          .sign(ec.privateKey),
      signed
    ],
    ['of another issuer', async (claims) => await sign({ ...claims, iss: 'https://evil.example' }), signed],
    ['without an issuer', async (claims) => await sign({ ...claims, iss: undefined }), signed],
    ['for another client', async (claims) => await sign({ ...claims, aud: 'other' }), signed],
    ['of another user', async (claims) => await sign({ ...claims, sub: 'mallory' }), signed],
    ['expired', async (claims) => await sign({ ...claims, exp: 1 }), signed],
    ['unsigned', async (claims) => unsigned({ iss: provider.issuer, aud: 'web', ...claims }), signed],
    ['plain, as a JWT', async (claims) => JSON.stringify(claims), signed],
    ['plain', async (claims) => JSON.stringify(claims), signed, 'application/json'],
    ['signed, said to be JSON', async (claims) => await sign(claims), signed, 'application/json'],
    ['signed, where it is to be encrypted as well', async (claims) => await sign(claims), both],
    ['encrypted, where it is to be signed as well', async (claims) => await encrypt(JSON.stringify(claims)), both],
    ['encrypted for another', async (claims) => await encrypt(await sign(claims), AGREED, other.publicKey), both],
    [
      'encrypted, of another user',
      async (claims) => await encrypt(JSON.stringify({ ...claims, sub: 'mallory' })),
      onlyEncrypted
    ],
    ['encrypted, no JSON', async () => await encrypt('x'), onlyEncrypted],
    ['encrypted, no object', async () => await encrypt('[]'), onlyEncrypted],
    ['signed, where plain was agreed on', async (claims) => await sign(claims), {}],
    ['no JSON', async () => 'x', {}, 'application/json']
  ]
  for (const [what, make, options, type] of wrong) {
    const page = await withUserinfo(t, provider, make, options, type)
    t.match([page.status, page.text()], [403, /FST_OIDC_USERINFO/], what)
  }
  const withoutType = new Response(JSON.stringify({ sub: 'alice' }))
  withoutType.headers.delete('content-type')
  for (const options of [signed, {}]) {
    const app = await buildApp(
      t,
      optionsFor(provider, {
        userinfo: true,
        ...options,
        fetch: async (url, init) => (url.endsWith('/userinfo') ? withoutType.clone() : await fetch(url, init))
      })
    )
    t.equal((await client({ app, baseUrl: BASE_URL }).goto('/me')).status, 403, 'of no type')
  }
  const later = await withUserinfo(
    t,
    provider,
    async (claims) => {
      provider.fault({ on: 'jwks', status: 500 })
      return await new SignJWT({ iss: provider.issuer, aud: 'web', ...claims })
        .setProtectedHeader({ alg: 'RS256', kid: 'new' })
        .sign(key.privateKey)
    },
    signed
  )
  t.match([later.status, later.text()], [503, /FST_OIDC_PROVIDER_UNAVAILABLE/], 'with a key that cannot be fetched')
})

t.test('S34 the claims of the ID token replace those of signed UserInfo', async (t) => {
  const provider = await startedProvider(t)
  const key = rsaKey(2)
  provider.fault({
    on: 'jwks',
    jwks: (document) => {
      document.keys.push(jwkOf(key.publicKey, { kid: 'userinfo' }))
    }
  })
  const page = await withUserinfo(
    t,
    provider,
    async (claims) =>
      await new SignJWT({ ...claims, iss: provider.issuer, aud: ['web', 'other'], acr: 'high', nickname: 'al' })
        .setProtectedHeader({ alg: 'RS256', kid: 'userinfo' })
        .sign(key.privateKey),
    { userinfoSigningAlg: 'RS256' }
  )
  t.match(page.json(), { claims: { nickname: 'al', iss: provider.issuer, acr: '1' }, session: { acr: '1' } })
})
