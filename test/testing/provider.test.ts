import { createHash, generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { request as httpsRequest } from 'node:https'
import { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import Fastify from 'fastify'
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import type { JWK } from 'jose'
import * as oidc from 'openid-client'
import t from 'tap'
import type { Test } from 'tap'
import {
  client as testClient, faults, logoutFaults, startClock, startProvider, testCertificate
} from '../../lib/testing/index.ts'
import type { Alg, ProviderClient, ProviderOptions, Provider } from '../../lib/testing/index.ts'

const redirect_uri = 'https://app.example.com/auth/callback'

const start = async (t: Test, options?: ProviderOptions): Promise<Provider> => {
  const provider = await startProvider(options)
  t.teardown(() => provider.close())
  return provider
}

const configure = (
  provider: Provider,
  auth?: oidc.ClientAuth,
  client = provider.clients[0]!
): Promise<oidc.Configuration> =>
  oidc.discovery(
    new URL(provider.issuer),
    client.client_id,
    {
      ...(client.client_secret !== undefined && { client_secret: client.client_secret }),
      id_token_signed_response_alg: client.id_token_signed_response_alg ?? 'RS256',
      ...(client.userinfo_signed_response_alg && { userinfo_signed_response_alg: client.userinfo_signed_response_alg })
    },
    auth,
    {
      execute:
        client.id_token_signed_response_alg === 'HS256'
          ? [oidc.allowInsecureRequests]
          : [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks]
    }
  )

interface Visited {
  location: URL
  cookie: string
  checks: oidc.AuthorizationCodeGrantChecks & { pkceCodeVerifier: string }
}

/** Sends an authorization request, as a browser with this cookie. */
const visit = async (
  config: oidc.Configuration,
  params: Record<string, string> = {},
  cookie = ''
): Promise<Visited> => {
  const checks = {
    expectedNonce: oidc.randomNonce(),
    expectedState: oidc.randomState(),
    pkceCodeVerifier: oidc.randomPKCECodeVerifier(),
    idTokenExpected: true
  }
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri,
    scope: 'openid profile email offline_access',
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
    code_challenge_method: 'S256',
    ...params
  })
  const response = await fetch(url, { redirect: 'manual', headers: { cookie } })
  return {
    location: new URL(response.headers.get('location') ?? 'about:blank'),
    cookie: response.headers.getSetCookie()[0]?.split(';')[0] ?? '',
    checks
  }
}

const login = async (config: oidc.Configuration, params?: Record<string, string>, cookie?: string) => {
  const visited = await visit(config, params, cookie)
  const tokens = await oidc.authorizationCodeGrant(config, visited.location, visited.checks)
  return { ...visited, tokens, claims: tokens.claims()! }
}

const form = (fields: Record<string, string> | string): RequestInit =>
  ({ method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' })

const basic = (client_id: string, client_secret: string): Record<string, string> =>
  ({ authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` })

const secretOf = (provider: Provider) => ({ client_id: 'web', client_secret: provider.clients[0]!.client_secret! })

/** An error for tap to compare with. */
const like = (fields: object): Error => fields as Error

const oauthError = (error: string): Error => like({ error })

t.test('a login with PKCE, state and nonce', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const { tokens, claims, location, checks } = await login(config)

  t.equal(location.searchParams.get('state'), checks.expectedState)
  t.equal(location.searchParams.get('iss'), provider.issuer)
  t.match(claims, {
    iss: provider.issuer,
    sub: 'alice',
    aud: 'web',
    nonce: checks.expectedNonce,
    acr: '1',
    name: 'Alice Doe',
    email: 'alice@example.com',
    roles: ['user']
  })
  t.equal(claims.exp - claims.iat, 3600)
  t.type(claims.sid, 'string')
  t.type(claims.auth_time, 'number')
  const half = createHash('sha256').update(tokens.access_token).digest().subarray(0, 16).toString('base64url')
  t.equal(claims.at_hash, half)
  t.match(tokens, {
    token_type: 'bearer',
    expires_in: 3600,
    scope: 'openid profile email offline_access',
    refresh_token: String
  })

  const info = await oidc.fetchUserInfo(config, tokens.access_token, 'alice')
  t.match(info, { sub: 'alice', email: 'alice@example.com', email_verified: true })
})

t.test('requests shows what the provider received', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  await login(config)

  t.same(provider.requests.map(({ endpoint }) => endpoint), ['metadata', 'authorize', 'token', 'jwks'])
  t.equal(provider.count('token'), 1)
  const token = provider.requests[2]!
  t.match(token, {
    method: 'POST',
    path: '/token',
    query: {},
    body: { grant_type: 'authorization_code', redirect_uri },
    rawBody: /grant_type=authorization_code/
  })
  t.match(token.headers['content-type'], /^application\/x-www-form-urlencoded/)
  t.match(provider.requests[1], {
    method: 'GET',
    path: '/authorize',
    query: { response_type: 'code', code_challenge_method: 'S256' },
    body: {}
  })
  provider.clearRequests()
  t.same(provider.requests, [])
})

t.test('claims follow the scope', async (t) => {
  const provider = await start(t)
  provider.users[0]!.phone_number = '+49 40 1'
  const config = await configure(provider)
  const { claims, tokens } = await login(config, { scope: 'openid email' })
  t.match(claims, { email: 'alice@example.com', realm_access: { roles: ['user'] } })
  t.notOk('name' in claims || 'phone_number' in claims)
  t.notOk('refresh_token' in tokens, 'no refresh token without offline_access')

  provider.options.claimsInIdToken = false
  const second = await login(config, { scope: 'openid phone' })
  t.notOk('email' in second.claims || 'roles' in second.claims)
  t.match(await oidc.fetchUserInfo(config, second.tokens.access_token, 'alice'), {
    phone_number: '+49 40 1',
    roles: ['user']
  })

  t.notOk(
    'id_token' in (await oidc.authorizationCodeGrant(config, ...(await codeOnly(config, 'email')))),
    'no ID token without openid'
  )
})

const codeOnly = async (
  config: oidc.Configuration,
  scope: string
): Promise<[URL, oidc.AuthorizationCodeGrantChecks]> => {
  const {
    location,
    checks: { expectedState, pkceCodeVerifier }
  } = await visit(config, { scope })
  return [location, { expectedState: expectedState!, pkceCodeVerifier }]
}

t.test('each signature algorithm', async (t) => {
  for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] as Alg[]) {
    const client: ProviderClient = {
      client_id: 'web',
      client_secret: 'a-secret-of-at-least-thirty-two-bytes',
      id_token_signed_response_alg: alg
    }
    const provider = await start(t, { clients: [client] })
    const { tokens, claims } = await login(await configure(provider))
    t.equal(decodeProtectedHeader(tokens.id_token!).alg, alg)
    const hash = createHash(alg === 'EdDSA' ? 'sha512' : 'sha256').update(tokens.access_token).digest()
    t.equal(claims.at_hash, hash.subarray(0, hash.length / 2).toString('base64url'), `at_hash for ${alg}`)
  }
})

t.test('response modes', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)

  const { location, checks } = await visit(config, { response_mode: 'fragment' })
  t.equal(location.search, '')
  t.equal(new URLSearchParams(location.hash.slice(1)).get('state'), checks.expectedState)

  const kept = await visit(config, { redirect_uri: `${redirect_uri}?tenant=1` })
  t.match(kept.location.href, /\/callback\?tenant=1&code=/)

  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: `${redirect_uri}?a="<`,
    scope: 'openid',
    state: '"><b>',
    response_mode: 'form_post'
  })
  const response = await fetch(url)
  const page = await response.text()
  t.match(response.headers.get('content-type'), 'text/html')
  t.match(page, '.submit()')
  t.match(page, 'name="state" value="&#34;&#62;&#60;b&#62;"', 'fields are escaped')
  t.match(page, 'name="code"')
  t.match(page, 'action="https://app.example.com/auth/callback?a=&#34;&#60;"')
})

t.test('authorization requests that are refused with a page', async (t) => {
  const provider = await start(t, { clients: [{ client_id: 'web', redirect_uris: [redirect_uri] }] })
  const refused = async (params: Record<string, string>, text: string, on = provider): Promise<void> => {
    const response = await fetch(
      `${on.issuer}/authorize?${new URLSearchParams({ response_type: 'code', ...params })}`,
      { redirect: 'manual' }
    )
    t.equal(response.status, 400)
    t.equal(response.headers.get('location'), null)
    t.match(await response.text(), text)
  }
  await refused({}, 'unknown client_id')
  await refused({ client_id: 'stranger', redirect_uri }, 'unknown client_id')
  await refused({ client_id: 'web' }, 'absolute URL')
  await refused({ client_id: 'web', redirect_uri: '/relative' }, 'absolute URL')
  await refused({ client_id: 'web', redirect_uri: `${redirect_uri}/other` }, 'not registered')
  await refused({ client_id: 'web', request_uri: 'urn:unknown' }, 'request_uri')
})

t.test('authorization requests that are refused at the redirect URI', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const refused = async (params: Record<string, string>, error: string): Promise<void> => {
    const { location, checks } = await visit(config, params)
    t.match(Object.fromEntries(location.searchParams), { error, state: checks.expectedState, iss: provider.issuer })
    t.notOk(location.searchParams.has('code'))
  }
  await refused({ response_type: 'token' }, 'unsupported_response_type')
  await refused({ response_mode: 'web_message' }, 'invalid_request')
  await refused({ response_type: 'code', request: 'jwt' }, 'request_not_supported')
  await refused({ code_challenge_method: 'plain' }, 'invalid_request')
  await refused({ code_challenge: 'short' }, 'invalid_request')
  await refused({ prompt: 'none' }, 'login_required')

  const { location: halved } = await visit(config, { code_challenge: '' })
  t.equal(halved.searchParams.get('error'), 'invalid_request')
  provider.options.requirePkce = true
  const url = `${provider.issuer}/authorize?client_id=web&response_type=code&redirect_uri=${encodeURIComponent(redirect_uri)}`
  const response = await fetch(url, { redirect: 'manual' })
  const location = new URL(response.headers.get('location')!)
  t.match(Object.fromEntries(location.searchParams), { error: 'invalid_request', error_description: 'PKCE required' })
  t.notOk(location.searchParams.has('state'))
  const web = { client_id: 'web', client_secret: provider.clients[0]?.client_secret as string }
  const { device_authorization_endpoint: device } = config.serverMetadata()
  const answer = await fetch(device as string, form({ ...web, scope: 'openid' }))
  t.match([answer.status, await answer.json()], [400, { error_description: 'PKCE is required' }])

  provider.options.requirePar = true
  await refused({}, 'invalid_request')
})

t.test('authorization requests by POST', async (t) => {
  const provider = await start(t)
  const response = await fetch(
    `${provider.issuer}/authorize`,
    form({ client_id: 'web', response_type: 'code', redirect_uri, scope: 'openid' })
  )
  t.equal(response.status, 302)
  t.match(response.headers.get('location'), 'code=')
})

t.test('approve decides about a login', async (t) => {
  const provider = await start(t, { users: [{ sub: 'alice' }, { sub: 'bob', email: 'bob@example.com' }] })
  const config = await configure(provider)
  t.equal((await login(config)).claims.sub, 'alice')
  t.equal((await login(config, { login_hint: 'bob@example.com' })).claims.sub, 'bob')
  t.equal((await login(config, { login_hint: 'unknown' })).claims.sub, 'alice')

  const asked: unknown[] = []
  provider.options.approve = (params, user) => {
    asked.push([params.login_hint, user.sub])
    return false
  }
  const denied = await visit(config, { login_hint: 'bob' })
  t.equal(denied.location.searchParams.get('error'), 'access_denied')
  t.same(asked, [['bob', 'bob']])

  provider.options.approve = () => true
  t.equal((await login(config)).claims.sub, 'alice')
  provider.options.approve = async () => 'bob'
  t.match((await login(config)).claims, { sub: 'bob', email: 'bob@example.com' })
  provider.options.approve = () => 'carol'
  t.equal((await login(config)).claims.sub, 'carol')
  provider.options.approve = () => ({ sub: 'dave', email: 'dave@example.com', acr: 'gold' })
  t.match((await login(config)).claims, { sub: 'dave', email: 'dave@example.com', acr: 'gold' })
  provider.options.approve = () => ({ error: 'interaction_required', error_description: 'not now' })
  t.match(Object.fromEntries((await visit(config)).location.searchParams), {
    error: 'interaction_required',
    error_description: 'not now'
  })

  const empty = await start(t, { users: [] })
  t.equal((await login(await configure(empty))).claims.sub, 'nobody')
})

t.test('single sign-on', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t, { users: [{ sub: 'alice' }, { sub: 'bob', preferred_username: 'bobby' }] })
  const config = await configure(provider)
  const first = await login(config)
  const again = async (params: Record<string, string>) => (await login(config, params, first.cookie)).claims

  clock.advance(10)
  const second = await again({})
  t.equal(second.auth_time, first.claims.auth_time)
  t.equal(second.sid, first.claims.sid)
  t.equal((await again({ prompt: 'none' })).auth_time, first.claims.auth_time, 'prompt=none works with a session')
  t.equal((await again({ max_age: '60', login_hint: 'alice', acr_values: '1 2' })).auth_time, first.claims.auth_time)
  t.ok((await login(config)).claims.auth_time! >= first.claims.auth_time! + 10, 'another browser must log in')

  const anew = async (params: Record<string, string>) => {
    const { cookie, claims: { auth_time } } = await login(config)
    clock.advance(10)
    const { claims } = await login(config, params, cookie)
    t.ok(claims.auth_time! >= auth_time! + 10)
    return claims
  }
  t.equal((await anew({ prompt: 'login' })).sub, 'alice')
  await anew({ prompt: 'consent select_account' })
  await anew({ max_age: '5' })
  t.equal((await anew({ acr_values: 'gold silver' })).acr, 'gold')
  t.equal((await anew({ login_hint: 'bobby' })).sub, 'bob')

  const { location } = await visit(config, { prompt: 'none', max_age: '5' }, first.cookie)
  t.equal(location.searchParams.get('error'), 'login_required', 'a session that is older than max_age does not count')
})

t.test('a new authentication of the same user keeps the sid, and that of another user gets a new one', async (t) => {
  const provider = await start(t, { users: [{ sub: 'alice' }, { sub: 'bob' }] })
  const config = await configure(provider)
  const { cookie, claims } = await login(config)
  const again = await login(config, { prompt: 'login' }, cookie)
  t.equal(again.claims.sid, claims.sid)
  const other = await login(config, { login_hint: 'bob' }, again.cookie)
  t.not(other.claims.sid, claims.sid)
})

t.test('the code grant refuses', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t)
  provider.clients.push({ client_id: 'other', client_secret: 'other-secret' })
  const config = await configure(provider)
  const post = async (
    visited: Visited,
    fields: Record<string, string> = {},
    headers = basic('web', provider.clients[0]!.client_secret!)
  ) => {
    const response = await fetch(`${provider.issuer}/token`, {
      ...form({
        grant_type: 'authorization_code',
        code: visited.location.searchParams.get('code')!,
        redirect_uri,
        code_verifier: visited.checks.pkceCodeVerifier,
        ...fields
      }),
      headers
    })
    return { status: response.status, body: await response.json() as Record<string, unknown> }
  }

  t.match(await post(await visit(config), { redirect_uri: `${redirect_uri}/` }), {
    status: 400,
    body: { error: 'invalid_grant', error_description: /redirect_uri/ }
  })
  t.match(await post(await visit(config), { code_verifier: 'wrong' }), {
    status: 400,
    body: { error: 'invalid_grant', error_description: /PKCE/ }
  })
  t.match(await post(await visit(config), { code_verifier: '' }), {
    body: { error: 'invalid_grant', error_description: /PKCE/ }
  })
  t.match(await post(await visit(config), { code: 'unknown' }), { body: oauthError('invalid_grant') })
  t.match(await post(await visit(config), {}, basic('other', 'other-secret')), {
    body: { error: 'invalid_grant', error_description: /another client/ }
  })
  const late = await visit(config)
  clock.advance(61)
  t.match(await post(late), { body: oauthError('invalid_grant') })
  const missing = await fetch(`${provider.issuer}/token`, {
    ...form({ grant_type: 'authorization_code' }),
    headers: basic('web', provider.clients[0]!.client_secret!)
  })
  t.match(await missing.json(), oauthError('invalid_grant'))
  const strange = await fetch(`${provider.issuer}/token`, {
    ...form({ grant_type: 'password' }),
    headers: basic('web', provider.clients[0]!.client_secret!)
  })
  t.match(await strange.json(), oauthError('unsupported_grant_type'))

  provider.options.codeTtl = 600
  const patient = await visit(config)
  clock.advance(590)
  t.match(await post(patient), { status: 200, body: { access_token: String } })
})

t.test('a verifier without a challenge is refused', async (t) => {
  const provider = await start(t)
  const authorize = `${provider.issuer}/authorize?client_id=web&response_type=code&redirect_uri=${encodeURIComponent(redirect_uri)}`
  const code = new URL((await fetch(authorize, { redirect: 'manual' })).headers.get('location')!).searchParams.get(
    'code'
  )!
  const fields = { grant_type: 'authorization_code', code, redirect_uri, ...secretOf(provider) }
  const response = await fetch(`${provider.issuer}/token`, form({ ...fields, code_verifier: 'downgrade' }))
  t.match(await response.json(), oauthError('invalid_grant'))
})

t.test('a code that is used twice revokes the grant', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const { location, checks, tokens } = await login(config)
  await t.rejects(oidc.authorizationCodeGrant(config, location, checks), oauthError('invalid_grant'))
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token!), oauthError('invalid_grant'))
  await t.rejects(oidc.fetchUserInfo(config, tokens.access_token, 'alice'), like({ status: 401 }))
})

t.test('the refresh token grant', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t)
  const config = await configure(provider)
  const { tokens, claims } = await login(config)
  clock.advance(5)
  const second = await oidc.refreshTokenGrant(config, tokens.refresh_token!)
  t.not(second.refresh_token, tokens.refresh_token)
  t.not(second.access_token, tokens.access_token)
  const refreshed = second.claims()!
  t.match(refreshed, {
    iss: claims.iss,
    sub: 'alice',
    aud: 'web',
    auth_time: claims.auth_time,
    sid: claims.sid,
    iat: Number
  })
  t.ok(refreshed.iat >= claims.iat + 5)
  t.notOk('nonce' in refreshed)

  const third = await oidc.refreshTokenGrant(config, second.refresh_token!, { scope: 'openid' })
  t.equal(third.scope, 'openid')
  await t.rejects(
    oidc.refreshTokenGrant(config, third.refresh_token!, { scope: 'openid admin' }),
    oauthError('invalid_scope')
  )
  await t.rejects(oidc.refreshTokenGrant(config, 'unknown'), oauthError('invalid_grant'))
  const missing = await fetch(`${provider.issuer}/token`, form({ grant_type: 'refresh_token', ...secretOf(provider) }))
  t.match(await missing.json(), { error: 'invalid_grant' })

  await t.rejects(
    oidc.refreshTokenGrant(config, tokens.refresh_token!),
    oauthError('invalid_grant'),
    'an old token is refused'
  )
  await t.rejects(
    oidc.refreshTokenGrant(config, third.refresh_token!),
    oauthError('invalid_grant'),
    'and it revokes the whole grant'
  )
  await t.rejects(oidc.fetchUserInfo(config, third.access_token, 'alice'), like({ status: 401 }))
})

t.test('refresh tokens without rotation, always and never', async (t) => {
  const provider = await start(t, {
    rotateRefreshTokens: false,
    refreshTokens: 'always',
    accessTokenTtl: 7,
    idTokenTtl: 8
  })
  const config = await configure(provider)
  const { tokens } = await login(config, { scope: 'openid' })
  t.equal(tokens.expires_in, 7)
  const second = await oidc.refreshTokenGrant(config, tokens.refresh_token!)
  t.notOk('refresh_token' in second)
  t.equal(second.claims()!.exp - second.claims()!.iat, 8)
  t.ok((await oidc.refreshTokenGrant(config, tokens.refresh_token!)).access_token, 'the same token works again')

  provider.options.refreshTokens = 'never'
  t.notOk('refresh_token' in (await login(config)).tokens)

  provider.forget()
  await t.rejects(
    oidc.refreshTokenGrant(config, tokens.refresh_token!),
    oauthError('invalid_grant'),
    'after forget, the token is unknown'
  )
})

t.test('a refresh token belongs to its client', async (t) => {
  const provider = await start(t)
  const other = { client_id: 'other', client_secret: 'other-secret' }
  provider.clients.push(other)
  const { tokens } = await login(await configure(provider))
  await t.rejects(
    oidc.refreshTokenGrant(await configure(provider, undefined, other), tokens.refresh_token!),
    oauthError('invalid_grant')
  )
})

const keyPair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const clientJwk = { ...keyPair.publicKey.export({ format: 'jwk' }), kid: 'client', alg: 'ES256' } as JWK
const clientKey = async (): Promise<oidc.PrivateKey> => ({
  kid: 'client',
  key: await crypto.subtle.importKey(
    'pkcs8',
    keyPair.privateKey.export({ type: 'pkcs8', format: 'der' }),
    { name: 'ECDSA', namedCurve: 'P-256' },
    false,
    ['sign']
  )
})

t.test('each client authentication', async (t) => {
  const client_secret = 'p+s:s/w%rd with ünusual characters'
  const provider = await start(t, {
    clients: [
      { client_id: 'basic:1', client_secret, token_endpoint_auth_method: 'client_secret_basic' },
      { client_id: 'post', client_secret, token_endpoint_auth_method: 'client_secret_post' },
      { client_id: 'secret-jwt', client_secret, token_endpoint_auth_method: 'client_secret_jwt' },
      { client_id: 'key-jwt', jwks: { keys: [clientJwk] }, token_endpoint_auth_method: 'private_key_jwt' },
      { client_id: 'public', token_endpoint_auth_method: 'none' }
    ]
  })
  const [basicClient, post, secretJwt, keyJwt, open] = provider.clients as [
    ProviderClient, ProviderClient, ProviderClient, ProviderClient, ProviderClient
  ]
  const methods: Array<[ProviderClient, oidc.ClientAuth]> = [
    [basicClient, oidc.ClientSecretBasic(client_secret)],
    [post, oidc.ClientSecretPost(client_secret)],
    [secretJwt, oidc.ClientSecretJwt(client_secret)],
    [keyJwt, oidc.PrivateKeyJwt(await clientKey())],
    [open, oidc.None()]
  ]
  for (const [client, auth] of methods) {
    const config = await configure(provider, auth, client)
    const { claims } = await login(config)
    t.equal(claims.aud, client.client_id)
  }
  for (const [client, auth] of [
    [basicClient, oidc.ClientSecretPost(client_secret)],
    [post, oidc.ClientSecretBasic(client_secret)],
    [secretJwt, oidc.ClientSecretBasic(client_secret)]
  ] as typeof methods) {
    const { location, checks } = await visit(await configure(provider, auth, client))
    await t.rejects(
      oidc.authorizationCodeGrant(await configure(provider, auth, client), location, checks),
      like({ status: 401 }),
      'a method that is not registered is refused'
    )
  }
  const wrong = await configure(provider, oidc.ClientSecretBasic('wrong'), basicClient)
  await t.rejects(oidc.clientCredentialsGrant(wrong), like({ status: 401 }))
})

t.test('refused client authentication', async (t) => {
  const provider = await start(t)
  provider.clients.push({ client_id: 'key-jwt', jwks: { keys: [clientJwk] } }, { client_id: 'public' })
  const token = async (fields: Record<string, string> | string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${provider.issuer}/token`, { ...form(fields), headers })
    return {
      status: response.status,
      challenge: response.headers.get('www-authenticate'),
      ...((await response.json()) as object)
    }
  }
  const invalid = (error_description: RegExp) => ({ status: 401, error: 'invalid_client', error_description })
  const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
  const { client_secret } = secretOf(provider)

  t.match(await token({}), { ...invalid(/unknown client/), challenge: null })
  t.match(await token({ client_id: 'stranger', client_secret: 'x' }), invalid(/unknown client/))
  t.match(await token({ client_id: 'web', client_secret: 'x' }), invalid(/wrong client secret/))
  t.match(await token({ client_id: 'public', client_secret: 'x' }), invalid(/wrong client secret/))
  t.match(await token({ client_id: 'web' }), invalid(/required/))
  t.match(await token({ client_id: 'key-jwt' }), invalid(/required/))
  t.match(await token({}, { authorization: `Basic ${Buffer.from('%:x').toString('base64')}` }), {
    ...invalid(/form-encoded/),
    challenge: /^Basic /
  })
  t.match(await token({ client_id: 'web', client_secret }, basic('web', client_secret)), {
    status: 400,
    error: 'invalid_request'
  })
  t.match(await token({ client_assertion: 'x', client_assertion_type: 'other' }), invalid(/client_assertion_type/))
  t.match(await token({ client_assertion: 'x', client_assertion_type }), invalid(/not a JWT/))
  t.match(await token(`client_id=web&client_id=web&client_secret=${client_secret}`), {
    status: 400,
    error: 'invalid_request',
    error_description: /"client_id"/
  })
})

t.test('a client assertion works once, and only with the right signature', async (t) => {
  const provider = await start(t, {
    clients: [{ client_id: 'key-jwt', jwks: { keys: [clientJwk] } }, { client_id: 'no-key' }]
  })
  const config = await configure(provider, oidc.PrivateKeyJwt(await clientKey()))
  await oidc.clientCredentialsGrant(config)
  const { body } = provider.requests.at(-1)!
  const post = async (fields: Record<string, string>) =>
    await (await fetch(`${provider.issuer}/token`, form(fields))).json()
  t.match(await post(body), { error: 'invalid_client', error_description: /has been used/ })
  t.match(await post({ ...body, client_assertion: `${body.client_assertion!.slice(0, -8)}AAAAAAAA` }), {
    error: 'invalid_client',
    error_description: /signature/
  })
  const keyless = await configure(provider, oidc.PrivateKeyJwt(await clientKey()), provider.clients[1])
  await t.rejects(oidc.clientCredentialsGrant(keyless), oauthError('invalid_client'))
  const unknown = await configure(provider, oidc.PrivateKeyJwt(await clientKey()), { client_id: 'stranger' })
  await t.rejects(oidc.clientCredentialsGrant(unknown), oauthError('invalid_client'))
  const secretless = await configure(
    provider,
    oidc.ClientSecretJwt('some-secret-of-thirty-two-bytes-length'),
    provider.clients[1]
  )
  await t.rejects(oidc.clientCredentialsGrant(secretless), oauthError('invalid_client'))
})

t.test('client credentials, with opaque and with JWT access tokens', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const opaque = await oidc.clientCredentialsGrant(config, { scope: 'read write' })
  t.equal(opaque.scope, 'read write')
  t.notOk('id_token' in opaque || 'refresh_token' in opaque)
  t.notMatch(opaque.access_token, /\./)
  t.equal((await oidc.clientCredentialsGrant(config)).scope, '')

  provider.options.accessTokenFormat = 'jwt'
  const { access_token } = await oidc.clientCredentialsGrant(config, {
    scope: 'read',
    resource: 'https://api.example.com'
  })
  const { payload, protectedHeader } = await jwtVerify(access_token, createLocalJWKSet(provider.jwks()), {
    typ: 'at+jwt',
    audience: 'https://api.example.com'
  })
  t.equal(protectedHeader.alg, 'RS256')
  t.match(payload, {
    iss: provider.issuer,
    sub: 'web',
    client_id: 'web',
    scope: 'read',
    jti: String,
    iat: Number,
    exp: Number
  })

  provider.options.accessTokenAudience = ['https://api.example.com', 'https://other.example.com']
  const user = await login(config, { scope: 'openid read' })
  t.match(decodeJwt(user.tokens.access_token), {
    sub: 'alice',
    aud: provider.options.accessTokenAudience,
    auth_time: user.claims.auth_time,
    acr: '1',
    roles: ['user']
  })
  t.match(await oidc.fetchUserInfo(config, user.tokens.access_token, 'alice'), { sub: 'alice' })
  delete provider.options.accessTokenAudience
  t.equal(decodeJwt((await login(config)).tokens.access_token).aud, provider.issuer)
  t.equal(
    decodeJwt((await login(config, { resource: 'https://api.example.com' })).tokens.access_token).aud,
    'https://api.example.com'
  )
})

t.test('the device flow', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t, { users: [{ sub: 'alice' }, { sub: 'bob' }] })
  const config = await configure(provider)
  const poll = async (device_code: string) => {
    const response = await fetch(
      `${provider.issuer}/token`,
      form({ grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code, ...secretOf(provider) })
    )
    return (await response.json()) as Record<string, string>
  }
  const begin = () => oidc.initiateDeviceAuthorization(config, { scope: 'openid offline_access' })

  const device = await begin()
  t.match(device, {
    expires_in: 600,
    interval: 5,
    verification_uri: `${provider.issuer}/device/verify`,
    verification_uri_complete: new RegExp(device.user_code)
  })
  t.match(await poll(device.device_code), { error: 'authorization_pending' })
  t.match(await poll(device.device_code), { error: 'slow_down' })
  clock.advance(5)
  t.match(await poll(device.device_code), { error: 'authorization_pending' })
  provider.approveDevice(device.user_code, 'bob')
  const tokens = await poll(device.device_code)
  t.match(decodeJwt(tokens.id_token!), { sub: 'bob', aud: 'web' })
  t.ok(tokens.refresh_token)
  t.match(await poll(device.device_code), { error: 'invalid_grant' }, 'a code is used once')

  const denied = await begin()
  await begin()
  provider.denyDevice(denied.user_code)
  t.match(await poll(denied.device_code), { error: 'access_denied' })
  const newest = await oidc.initiateDeviceAuthorization(config, {})
  provider.approveDevice()
  t.notOk('id_token' in await poll(newest.device_code), 'no ID token without openid')
  provider.approveDevice((await begin()).user_code, 'stranger')
  t.throws(() => provider.approveDevice('unknown'), 'unknown user_code')

  const late = await begin()
  clock.advance(601)
  t.match(await poll(late.device_code), { error: 'expired_token' })
  t.match(await poll('unknown'), { error: 'invalid_grant' })
  provider.clients.push({ client_id: 'public' })
  const stolen = await fetch(`${provider.issuer}/token`, form({
    grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code: late.device_code, client_id: 'public'
  }))
  t.match(await stolen.json(), { error: 'invalid_grant' })
})

t.test('a user approves a device login in a browser', async (t) => {
  const provider = await start(t, { deviceInterval: 1 })
  const config = await configure(provider)
  const device = await oidc.initiateDeviceAuthorization(config, { scope: 'openid' })
  const polling = oidc.pollDeviceAuthorizationGrant(config, device)
  t.match(await (await fetch(device.verification_uri_complete!)).text(), 'Approved')
  t.equal((await polling).claims()!.sub, 'alice')

  provider.options.approve = () => false
  const denied = await oidc.initiateDeviceAuthorization(config, { scope: 'openid' })
  t.match(await (await fetch(denied.verification_uri_complete!)).text(), 'Denied')
  await t.rejects(oidc.pollDeviceAuthorizationGrant(config, denied), oauthError('access_denied'))
  t.equal((await fetch(denied.verification_uri)).status, 400)
})

t.test('pushed authorization requests', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t, { requirePar: true })
  provider.clients.push({ client_id: 'public' })
  const config = await configure(provider)
  const pkceCodeVerifier = oidc.randomPKCECodeVerifier()
  const params = {
    redirect_uri,
    scope: 'openid',
    state: 'state',
    code_challenge: await oidc.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256'
  }
  const url = await oidc.buildAuthorizationUrlWithPAR(config, params)
  t.same([...url.searchParams.keys()].sort(), ['client_id', 'request_uri'])
  t.match(provider.requests.at(-1), { endpoint: 'par', body: { state: 'state' } })
  const location = new URL((await fetch(url, { redirect: 'manual' })).headers.get('location')!)
  const tokens = await oidc.authorizationCodeGrant(config, location, { expectedState: 'state', pkceCodeVerifier })
  t.equal(tokens.claims()!.sub, 'alice')

  t.equal((await fetch(url)).status, 400, 'a request_uri is used once')
  const stolen = await oidc.buildAuthorizationUrlWithPAR(config, params)
  stolen.searchParams.set('client_id', 'public')
  t.equal((await fetch(stolen)).status, 400)
  const late = await oidc.buildAuthorizationUrlWithPAR(config, params)
  clock.advance(61)
  t.equal((await fetch(late)).status, 400)

  await t.rejects(
    oidc.buildAuthorizationUrlWithPAR(config, { ...params, response_type: 'token' }),
    oauthError('unsupported_response_type')
  )
  await t.rejects(
    oidc.buildAuthorizationUrlWithPAR(config, { ...params, code_challenge_method: 'plain' }),
    oauthError('invalid_request')
  )
  const nested = await fetch(
    `${provider.issuer}/par`,
    form({ ...secretOf(provider), ...params, response_type: 'code', request_uri: 'urn:x' })
  )
  t.match(await nested.json(), oauthError('invalid_request'))
})

t.test('introspection and revocation', async (t) => {
  const clock = startClock()
  t.teardown(() => clock.restore())
  const provider = await start(t)
  const other = { client_id: 'other', client_secret: 'other-secret' }
  provider.clients.push(other)
  const config = await configure(provider)
  const { tokens } = await login(config)
  const look = (token: string) => oidc.tokenIntrospection(config, token)
  t.match(await look(tokens.access_token), {
    active: true,
    sub: 'alice',
    username: 'alice',
    client_id: 'web',
    token_type: 'Bearer',
    aud: provider.issuer,
    iss: provider.issuer,
    iat: Number,
    exp: Number,
    scope: /openid/
  })
  t.match(await look(tokens.refresh_token!), { active: true, sub: 'alice', scope: /offline_access/ })
  t.same(await look('unknown'), { active: false })
  t.match(await look((await oidc.clientCredentialsGrant(config, { resource: 'urn:api' })).access_token), {
    active: true,
    sub: 'web',
    aud: 'urn:api'
  })
  t.match(await (await fetch(`${provider.issuer}/introspect`, form(secretOf(provider)))).json(), { active: false })
  t.equal((await fetch(`${provider.issuer}/introspect`, form({ token: tokens.access_token }))).status, 401)

  await oidc.tokenRevocation(await configure(provider, undefined, other), tokens.refresh_token!)
  await oidc.tokenRevocation(await configure(provider, undefined, other), tokens.access_token)
  t.match(await look(tokens.access_token), { active: true }, 'another client cannot revoke it')
  await oidc.tokenRevocation(config, tokens.access_token)
  t.same(await look(tokens.access_token), { active: false })
  t.match(await look(tokens.refresh_token!), { active: true }, 'an access token is revoked alone')

  const second = await oidc.refreshTokenGrant(config, tokens.refresh_token!)
  t.same(await look(tokens.refresh_token!), { active: false }, 'a rotated token is not active')
  await oidc.tokenRevocation(config, second.refresh_token!)
  t.same(await look(second.access_token), { active: false }, 'a refresh token revokes its grant')
  t.same(await look(second.refresh_token!), { active: false })
  t.equal((await fetch(`${provider.issuer}/revoke`, form(secretOf(provider)))).status, 200)

  const { tokens: { access_token } } = await login(config)
  clock.advance(3600)
  t.same(await look(access_token), { active: false }, 'an expired token is not active')
})

t.test('userinfo', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const { tokens: { access_token } } = await login(config)
  const ask = async (headers: Record<string, string>, body?: string) => {
    const response = await fetch(`${provider.issuer}/userinfo`, {
      headers, ...(body !== undefined && { method: 'POST', body: new URLSearchParams(body) })
    })
    return { status: response.status, challenge: response.headers.get('www-authenticate'), body: await response.json() }
  }
  t.match(await ask({ authorization: `bearer ${access_token}` }), { status: 200, body: { sub: 'alice' } })
  t.match(await ask({}, `access_token=${access_token}`), { status: 200, body: { sub: 'alice' } })
  t.match(await ask({ authorization: `Bearer ${access_token}` }, `access_token=${access_token}`), {
    status: 400,
    body: oauthError('invalid_request')
  })
  t.match(await ask({}), { status: 401, challenge: 'Bearer' })
  t.match(await ask({ authorization: 'Bearer unknown' }), { status: 401, challenge: /error="invalid_token"/ })
  const machine = await oidc.clientCredentialsGrant(config, { scope: 'openid' })
  t.match(await ask({ authorization: `Bearer ${machine.access_token}` }), {
    status: 403,
    challenge: /error="insufficient_scope"/
  })
  const plain = await oidc.authorizationCodeGrant(config, ...(await codeOnly(config, 'email')))
  t.match(await ask({ authorization: `Bearer ${plain.access_token}` }), { status: 403 })
})

t.test('signed userinfo', async (t) => {
  const provider = await start(t, { clients: [{ client_id: 'web', userinfo_signed_response_alg: 'ES256' }] })
  const config = await configure(provider)
  const { tokens: { access_token } } = await login(config)
  t.match(await oidc.fetchUserInfo(config, access_token, 'alice'), { sub: 'alice', iss: provider.issuer, aud: 'web' })
  const jwt = await (
    await fetch(`${provider.issuer}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } })
  ).text()
  t.equal(decodeProtectedHeader(jwt).alg, 'ES256')
  provider.fault({ on: 'userinfo', signWith: 'none' })
  const unsigned = await (
    await fetch(`${provider.issuer}/userinfo`, { headers: { authorization: `Bearer ${access_token}` } })
  ).text()
  t.match(unsigned, /\.$/)
})

const post_logout_redirect_uri = 'https://app.example.com/'

t.test('the end-session endpoint', async (t) => {
  const provider = await start(t, {
    clients: [
      {
        client_id: 'web',
        client_secret: 'web-secret',
        post_logout_redirect_uris: [post_logout_redirect_uri, `${post_logout_redirect_uri}?bye`]
      },
      { client_id: 'any' }
    ]
  })
  const config = await configure(provider)
  const end = (params: Record<string, string>, cookie = '') =>
    fetch(`${provider.issuer}/end-session?${new URLSearchParams(params)}`, { redirect: 'manual', headers: { cookie } })
  const { tokens, cookie } = await login(config, { scope: 'openid' })
  const id_token_hint = tokens.id_token!

  t.equal((await end({ id_token_hint: `${id_token_hint}x`, post_logout_redirect_uri })).status, 400)
  t.equal((await end({ post_logout_redirect_uri })).status, 400, 'a client must be known for a redirect')
  t.equal((await end({ id_token_hint, post_logout_redirect_uri: 'https://evil.example' })).status, 400)
  t.equal((await end({ client_id: 'any', post_logout_redirect_uri: 'nonsense' })).status, 400)
  t.equal(
    (await visit(config, { prompt: 'none' }, cookie)).location.searchParams.get('error'),
    null,
    'the session is still there'
  )

  const response = await end({ id_token_hint, post_logout_redirect_uri, state: 'a&b' }, cookie)
  t.equal(response.status, 302)
  t.equal(response.headers.get('location'), `${post_logout_redirect_uri}?state=a%26b`)
  t.match(response.headers.getSetCookie()[0], /Max-Age=0/)
  t.equal((await visit(config, { prompt: 'none' }, cookie)).location.searchParams.get('error'), 'login_required')
  await t.rejects(
    oidc.fetchUserInfo(config, tokens.access_token, 'alice'),
    like({ status: 401 }),
    'its tokens are revoked'
  )

  const posted = await fetch(
    `${provider.issuer}/end-session`,
    form({ id_token_hint, post_logout_redirect_uri: `${post_logout_redirect_uri}?bye`, state: 's' })
  )
  t.equal(
    posted.headers.get('location'),
    `${post_logout_redirect_uri}?bye&state=s`,
    'a session that has ended is not an error'
  )
  t.equal(
    (await end({ client_id: 'any', post_logout_redirect_uri: 'https://any.example/' })).headers.get('location'),
    'https://any.example/'
  )
})

t.test('the end-session endpoint finds the session by the cookie, and keeps offline access', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  const { tokens, cookie } = await login(config)
  const response = await fetch(`${provider.issuer}/end-session`, { headers: { cookie } })
  t.match(await response.text(), 'logged out')
  t.equal((await visit(config, { prompt: 'none' }, cookie)).location.searchParams.get('error'), 'login_required')
  t.ok((await oidc.refreshTokenGrant(config, tokens.refresh_token!)).access_token)

  provider.options.refreshTokens = 'always'
  const online = await login(config, { scope: 'openid' })
  await fetch(`${provider.issuer}/end-session`, { headers: { cookie: online.cookie } })
  await t.rejects(oidc.refreshTokenGrant(config, online.tokens.refresh_token!), oauthError('invalid_grant'))
})

t.test('the end-session endpoint notifies the applications', async (t) => {
  const provider = await start(t)
  const received: string[] = []
  const server = createServer((req, res) => {
    req.setEncoding('utf8').on('data', (chunk: string) => received.push(chunk)).on('end', () => res.end())
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const backchannel_logout_uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/backchannel`
  Object.assign(provider.clients[0]!, {
    backchannel_logout_uri,
    frontchannel_logout_uri: 'https://app.example.com/frontchannel?a=1'
  })
  provider.clients.push({ client_id: 'absent', backchannel_logout_uri: 'http://127.0.0.1:1/' })

  const config = await configure(provider)
  const { claims, cookie } = await login(config)
  await visit(await configure(provider, undefined, provider.clients[1]), {}, cookie)
  const got = once(server, 'request')
  const page = await (
    await fetch(`${provider.issuer}/end-session?client_id=web&post_logout_redirect_uri=https://app.example.com/`, {
      headers: { cookie }
    })
  ).text()
  t.match(page, '<iframe src="https://app.example.com/frontchannel?a=1&#38;iss=')
  t.match(page, `sid=${String(claims.sid)}`)
  t.match(page, '<a href="https://app.example.com/">', 'when there is an iframe to load, the browser is not redirected')
  const [, res] = await got
  await once(res, 'finish')
  const token = new URLSearchParams(received.join('')).get('logout_token')!
  t.match(decodeJwt(token), { sub: 'alice', sid: claims.sid, aud: 'web' })
})

t.test('logout tokens', async (t) => {
  const provider = await start(t)
  const jwt = provider.logoutToken({ sub: 'alice', sid: 'sid-1' })
  const { payload, protectedHeader } = await jwtVerify(jwt, createLocalJWKSet(provider.jwks()))
  t.match(protectedHeader, { alg: 'RS256', typ: 'logout+jwt' })
  t.match(payload, {
    iss: provider.issuer,
    aud: 'web',
    sub: 'alice',
    sid: 'sid-1',
    jti: String,
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} }
  })
  t.equal(payload.exp! - payload.iat!, 120)
  const bare = decodeJwt(
    provider.logoutToken({ sid: 'sid-1', overrides: { jti: undefined, extra: 1 }, header: { typ: undefined } })
  )
  t.notOk('sub' in bare || 'jti' in bare)
  t.equal(bare.extra, 1)
  t.throws(() => provider.logoutToken({ client_id: 'stranger' }), /no client "stranger"/)
})

t.test('logout tokens are sent over the network and by inject', async (t) => {
  const provider = await start(t)
  const app = Fastify()
  t.teardown(() => app.close())
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body)
  )
  app.post('/backchannel', async (request, reply) =>
    reply.header('cache-control', 'no-store').send({ host: request.host, body: request.body })
  )
  const url = await app.listen({ host: '127.0.0.1', port: 0 })

  const answer = await provider.sendLogoutToken(`${url}/backchannel`, { sub: 'alice', fields: { unknown: 'x' } })
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const { body } = JSON.parse(answer.body) as { body: string }
  const fields = new URLSearchParams(body)
  t.equal(fields.get('unknown'), 'x')
  t.equal(decodeJwt(fields.get('logout_token')!).sub, 'alice')

  const injected = await provider.sendLogoutToken('https://app.example.com/backchannel', {
    sid: 's',
    app,
    signWith: 'none'
  })
  t.match(JSON.parse(injected.body), { host: 'app.example.com', body: /^logout_token=.*\.$/ })

  const tls = testCertificate()
  const secure = Fastify({ https: tls })
  t.teardown(() => secure.close())
  secure.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) =>
    done(null, body)
  )
  secure.post('/backchannel', async () => 'secure')
  const secureUrl = await secure.listen({ host: '127.0.0.1', port: 0 })
  t.equal((await provider.sendLogoutToken(`${secureUrl}/backchannel`, { sid: 's', ca: tls.cert })).body, 'secure')
  await t.rejects(provider.sendLogoutToken(`${secureUrl}/backchannel`, { sid: 's' }), /self-signed/)
})

t.test('each named logout token', async (t) => {
  const provider = await start(t)
  const verify = createLocalJWKSet(provider.jwks())
  const regular = {
    iss: provider.issuer,
    aud: 'web',
    sub: 'alice',
    sid: 's',
    jti: String,
    iat: Number,
    exp: Number,
    events: Object
  }
  const event = 'http://schemas.openid.net/event/backchannel-logout'
  const now = Math.floor(Date.now() / 1000)
  const token = (name: keyof typeof logoutFaults) => {
    const jwt = provider.logoutToken({ sub: 'alice', sid: 's', ...logoutFaults[name] })
    return { jwt, claims: decodeJwt(jwt), header: decodeProtectedHeader(jwt) }
  }

  t.match(token('valid').claims, { ...regular, unknown: 'ignored' })
  await t.resolves(jwtVerify(token('valid').jwt, verify))
  for (const claim of ['aud', 'iss', 'iat', 'exp', 'jti'] as const) t.notOk(claim in token(`no-${claim}`).claims, claim)
  t.notOk('events' in token('no-event').claims)
  t.notOk('sub' in token('no-sub-and-no-sid').claims || 'sid' in token('no-sub-and-no-sid').claims)
  t.equal(token('with-nonce').claims.nonce, 'nonce')
  t.equal(token('wrong-aud').claims.aud, 'webINVALID')
  t.equal(token('wrong-iss').claims.iss, `${provider.issuer}INVALID`)
  t.same(token('wrong-event').claims.events, { [`${event}INVALID`]: {} })
  t.same(token('events-string').claims.events, event)
  t.same(token('events-array').claims.events, [event])
  t.same(token('event-not-an-object').claims.events, { [event]: true })
  t.equal(token('sub-number').claims.sub, 42)
  t.equal(token('sid-empty').claims.sid, '')
  t.ok(token('expired').claims.exp! < now && token('expired').claims.iat! < now - 900)
  t.ok(token('iat-in-future').claims.iat! > now + 3000)
  t.equal(token('typ-jwt').header.typ, 'JWT')
  t.equal(token('typ-access-token').header.typ, 'at+jwt')
  t.notOk('typ' in token('no-typ').header)

  t.match(token('alg-none'), { header: { alg: 'none' }, jwt: /\.$/ })
  t.equal(token('wrong-alg').header.alg, 'PS256')
  await t.resolves(
    jwtVerify(token('wrong-alg').jwt, createLocalJWKSet(provider.jwks())),
    'signed by a key of the key set'
  )
  for (const name of ['broken-signature', 'other-key', 'unknown-kid', 'public-pem', 'embedded-jwk', 'crit'] as const) {
    await t.rejects(jwtVerify(token(name).jwt, verify), name)
  }
})

t.test('tokens without a login', async (t) => {
  const provider = await start(t, { users: [{ sub: 'alice', email: 'alice@example.com' }, { sub: 'bob' }] })
  const keys = createLocalJWKSet(provider.jwks())
  const idToken = await jwtVerify(provider.idToken(), keys, { issuer: provider.issuer, audience: 'web' })
  t.match(idToken.payload, { sub: 'alice', email: 'alice@example.com', sid: String })
  t.match(
    decodeJwt(provider.idToken({ sub: 'bob', overrides: { nonce: 'n', exp: undefined }, header: { typ: 'JWT' } })),
    { sub: 'bob', nonce: 'n', exp: undefined }
  )
  t.match(
    decodeJwt(
      provider.idToken({
        overrides: (claims, header) => {
          claims.alg = header.alg
        }
      })
    ),
    { sub: 'alice', alg: 'RS256' }
  )
  t.equal(decodeJwt(provider.idToken({ sub: 'stranger' })).sub, 'stranger')
  t.equal(decodeJwt((await start(t, { users: [] })).idToken()).sub, 'nobody')
  const open = await start(t, { clients: [{ client_id: 'public' }] })
  t.match(decodeJwt(open.idToken({ signWith: 'client-secret' })), { aud: 'public' }, 'an empty secret is a secret')
  t.equal(decodeProtectedHeader(provider.idToken({ signWith: 'ES256' })).alg, 'ES256')

  const access = provider.accessToken({ scope: 'openid admin', overrides: (claims) => ({ ...claims, aud: 'urn:api' }) })
  t.match((await jwtVerify(access, keys, { typ: 'at+jwt', audience: 'urn:api' })).payload, {
    sub: 'alice',
    client_id: 'web',
    scope: 'openid admin'
  })
  t.match(
    await oidc.fetchUserInfo(await configure(provider), access, 'alice'),
    { sub: 'alice' },
    'the provider accepts it'
  )
  t.match(decodeJwt(provider.accessToken()), { sub: 'alice', scope: 'openid profile email' })
  t.match(decodeProtectedHeader(provider.accessToken({ header: { typ: undefined }, signWith: 'none' })), {
    alg: 'none',
    typ: undefined
  })
})

t.test('metadata', async (t) => {
  const provider = await start(t, {
    path: '/realms/demo',
    paths: { jwks: '/keys/42' },
    metadata: { code_challenge_methods_supported: undefined, extra: true }
  })
  t.equal(provider.issuer, `${provider.url}/realms/demo`)
  const config = await configure(provider)
  t.match(config.serverMetadata(), {
    issuer: provider.issuer,
    jwks_uri: `${provider.issuer}/keys/42`,
    extra: true,
    authorization_response_iss_parameter_supported: true
  })
  t.notOk('code_challenge_methods_supported' in config.serverMetadata())
  t.equal((await login(config)).claims.iss, provider.issuer)
  t.equal(provider.count('jwks'), 1)
  t.match(await (await fetch(`${provider.url}/attacker`)).json(), { keys: [] })
  t.equal(provider.count('attacker'), 1)

  const oauth = await fetch(`${provider.url}/.well-known/oauth-authorization-server/realms/demo`)
  t.match(await oauth.json(), { issuer: provider.issuer })
  t.equal((await fetch(`${provider.url}/.well-known/openid-configuration`)).status, 404)
  const listed = await start(t)
  t.same((await configure(listed)).serverMetadata().code_challenge_methods_supported, ['S256'])
})

t.test('requests that the provider does not know', async (t) => {
  const provider = await start(t)
  t.equal((await fetch(`${provider.url}/nowhere`)).status, 404)
  t.equal(provider.requests[0]!.endpoint, 'unknown')
  const wrong = await fetch(`${provider.url}/token`)
  t.equal(wrong.status, 405)
  t.equal(wrong.headers.get('allow'), 'POST')
  const json = await fetch(`${provider.url}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"client_id":"web"}'
  })
  t.equal(json.status, 401, 'JSON is not a form')
  const typeless = await fetch(`${provider.url}/token`, { method: 'POST' })
  t.equal(typeless.status, 401)
  const twice = await fetch(`${provider.url}/authorize?client_id=web&client_id=web`)
  t.match(await twice.json(), { error: 'invalid_request', error_description: /"client_id" occurs twice/ })
  const resources = await fetch(
    `${provider.url}/authorize?client_id=web&resource=a&resource=b&response_type=code&redirect_uri=https://a.example/`,
    { redirect: 'manual' }
  )
  t.equal(resources.status, 302, 'resource may occur twice')

  provider.options.approve = () => {
    throw new Error('approve is broken')
  }
  const broken = await fetch(
    `${provider.url}/authorize?client_id=web&response_type=code&redirect_uri=https://a.example/`
  )
  t.equal(broken.status, 500)
  t.match(await broken.json(), { error: 'server_error', error_description: /approve is broken/ })
})

t.test('keys', async (t) => {
  const clients: ProviderClient[] = [
    { client_id: 'web', id_token_signed_response_alg: 'ES256', userinfo_signed_response_alg: 'HS256' }
  ]
  const provider = await start(t, { clients })
  const [rsa, ec] = provider.jwks().keys
  t.match(rsa, { kty: 'RSA', alg: 'RS256', use: 'sig', kid: String })
  t.match(ec, { kty: 'EC', alg: 'ES256', use: 'sig' })
  t.equal(provider.jwks().keys.length, 2)
  t.notOk(provider.jwks().keys.some((key) => 'd' in key))

  provider.rotateKeys()
  const rotated = provider.jwks().keys
  t.equal(rotated.length, 2)
  t.notOk(rotated.some(({ kid }) => kid === rsa!.kid || kid === ec!.kid))
  provider.rotateKeys({ keep: true })
  t.equal(provider.jwks().keys.length, 4)
  provider.rotateKeys({ sameKid: true })
  const same = provider.jwks().keys
  t.same(same.length, 2)
  t.not(same[1]!.x, ec!.x)
  const { kid } = decodeProtectedHeader(provider.idToken())
  t.equal(same[1]!.kid, kid)
  await t.resolves(jwtVerify(provider.idToken(), createLocalJWKSet(provider.jwks())))
})

t.test('two providers never share a key, and a provider that replaces another one has new keys', async (t) => {
  const first = await start(t)
  const second = await start(t)
  const modulus = (provider: Provider) => provider.jwks().keys[0]!.n
  t.not(modulus(first), modulus(second))

  const seen = new Set<unknown>()
  let last: unknown
  for (let i = 0; i < 12; i++) {
    const provider = await startProvider()
    t.not(modulus(provider), last)
    last = modulus(provider)
    seen.add(last)
    await provider.close()
  }
  t.ok(seen.size < 12, 'keys of closed providers are used again')
})

t.test('a provider restarts on the same port, with empty state', async (t) => {
  const first = await start(t)
  const config = await configure(first)
  const { tokens } = await login(config)
  await first.close()
  await first.close()
  await t.rejects(fetch(first.url))
  const second = await start(t, { port: first.port })
  t.equal(second.issuer, first.issuer)
  await t.rejects(oidc.refreshTokenGrant(config, tokens.refresh_token!), oauthError('invalid_grant'))
})

t.test('https with a client certificate', async (t) => {
  const server = testCertificate()
  const mine = testCertificate('web')
  const clients: ProviderClient[] = [
    { client_id: 'web', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=web' }
  ]
  const provider = await start(t, {
    clients,
    tls: { ...server, ca: [mine.cert], requestCert: true, rejectUnauthorized: false }
  })
  t.match(provider.issuer, /^https:\/\/127\.0\.0\.1:\d+$/)

  const post = (tls: object): Promise<{ status: number; body: unknown }> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      httpsRequest(
        `${provider.issuer}/token`,
        { method: 'POST', headers, ca: server.cert, agent: false, ...tls },
        (res) => {
          let body = ''
          res
            .setEncoding('utf8')
            .on('data', (chunk: string) => {
              body += chunk
            })
            .on('end', () => resolve({ status: res.statusCode!, body: JSON.parse(body) }))
        }
      )
        .on('error', reject)
        .end('grant_type=client_credentials&client_id=web')
    })
  t.match(await post(mine), { status: 200, body: { access_token: String } })
  t.equal(provider.requests.at(-1)!.clientCertificate, 'CN=web')
  t.match(await post({}), { status: 401, body: oauthError('invalid_client') })
  t.match(await post(testCertificate('other')), {
    status: 401,
    body: { error_description: /wrong client certificate/ }
  })

  const browser = testClient({ baseUrl: provider.issuer, ca: server.cert })
  const page = await browser.goto(`/authorize?client_id=web&response_type=code&redirect_uri=${provider.issuer}/back`)
  t.equal(new URL(page.url).pathname, '/back')
  t.match(browser.cookies.list(), [{ name: `op_session_${provider.port}`, sameSite: 'none', secure: true }])
})

/** The first message of a TLS handshake. */
const clientHello = (): Promise<Buffer> => new Promise((resolve) => {
  const socket = new Duplex({ read () {}, write: (chunk: Buffer) => resolve(chunk) })
  tlsConnect({ socket })
})

t.test('the provider closes during a TLS handshake', async (t) => {
  const provider = await startProvider({ tls: testCertificate() })
  const socket = connect(provider.port, '127.0.0.1')
  socket.write(await clientHello())
  // The provider has answered with its hello, and waits
  await once(socket, 'data')
  const closed = once(socket, 'close')
  await provider.close()
  await closed
  t.pass('without waiting for the handshake')
})

t.test('many providers start quickly', async (t) => {
  const before = Date.now()
  for (let i = 0; i < 100; i++) await (await startProvider()).close()
  t.ok(Date.now() - before < 3000)
})

t.test('the clock', async (t) => {
  const real = Date
  const clock = startClock()
  t.teardown(() => clock.restore())
  const before = real.now()
  clock.advance(3600)
  t.ok(Math.abs(Date.now() - before - 3_600_000) < 1000)
  t.ok(Math.abs(new Date().getTime() - Date.now()) < 1000)
  t.ok(new Date() instanceof Date)
  t.equal(new Date(0).toISOString(), '1970-01-01T00:00:00.000Z')
  t.equal(Date.UTC(2000, 0), 946_684_800_000)
  clock.advance(-7200)
  t.ok(Date.now() < before)
  clock.set('2038-01-19T03:14:08Z')
  t.match(new Date().toISOString(), /^2038-01-19T03:14:0/)
  t.match(Date(), /2038/)
  clock.set(new Date(0))
  t.ok(Date.now() < 1000)
  clock.set(5_000_000)
  t.ok(Date.now() - 5_000_000 < 1000)
  clock.restore()
  t.equal(Date, real)
})

t.test('the faults of a refresh apply only to a refresh', async (t) => {
  const provider = await start(t)
  const config = await configure(provider)
  provider.fault(faults['refresh-token-invalid-sub'])
  const { tokens, claims } = await login(config)
  t.equal(claims.sub, 'alice')
  t.equal((await oidc.refreshTokenGrant(config, tokens.refresh_token!)).claims()!.sub, 'alice1')
})
