import { createHash } from 'node:crypto'
import { connect } from 'node:http2'
import Fastify from 'fastify'
import { SignJWT, calculateJwkThumbprint, decodeJwt, exportJWK, generateKeyPair } from 'jose'
import t from 'tap'
import oidc from '../index.ts'
import { createBearer } from '../lib/guard/bearer.ts'
import { coreOf } from '../lib/compose.ts'
import { parseOptions } from '../lib/options/settings.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, startApp, stopClock } from './support/app.ts'
import { programs } from './support/broker.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { OidcOptions, ResolvedProvider } from '../index.ts'
import type { BearerSettings } from '../lib/options/bearer.ts'
import type { Broker } from '../lib/broker/broker.ts'
import type { Providers } from '../lib/provider/providers.ts'
import type { Sealer } from '../lib/sealer.ts'
import type { Provider } from '../lib/testing/index.ts'

const API = 'https://api.example.com'

const whoIs = async ({ oidcClaims, oidcToken, oidcSession, oidcUser }: FastifyRequest): Promise<object> => ({
  claims: oidcClaims,
  token: oidcToken,
  session: oidcSession,
  user: oidcUser
})
const tenantOf = ({ params }: FastifyRequest): string => (params as { tenant: string }).tenant

function tokenOf (provider: Provider, overrides: Record<string, unknown> = {}): string {
  return provider.accessToken({ sub: 'alice', overrides: { aud: API, ...overrides } })
}

async function ask (
  app: FastifyInstance,
  url: string,
  token: string
): Promise<{ status: number; body: Record<string, any> }> {
  const { statusCode, payload } = await app.inject({ url, headers: { authorization: `Bearer ${token}` } })
  return { status: statusCode, body: JSON.parse(payload) }
}

t.test('tokens of a tenant that is gone, or is another one', async (t) => {
  const clock = stopClock(t)
  const [acme, other] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await acme.close()
    await other.close()
  })
  const optionsOf = ({ issuer, clients: [web] }: Provider): ResolvedProvider => ({
    issuer,
    clientId: 'web',
    clientSecret: web?.client_secret as string
  })
  for (const later of [null, optionsOf(other)]) {
    let options: ResolvedProvider | null = optionsOf(acme)
    const app = await buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      session: { key: SESSION_KEY },
      bearer: { audience: API },
      resolveProvider: (_request, name) => (name === 'acme' ? options : null)
    })
    app.get('/api', { preHandler: app.oidc.required() }, whoIs)
    app.get('/t/:tenant', { preHandler: app.oidc.required({ provider: tenantOf }) }, whoIs)
    const token = tokenOf(acme, { exp: Math.floor(Date.now() / 1000) + 1_000_000 })
    t.equal((await ask(app, '/api', token)).status, 401, 'nobody has asked for the tenant yet')
    for (let times = 0; times < 3; times++) {
      t.same([(await ask(app, '/t/acme', token)).status, (await ask(app, '/api', token)).status], [200, 200])
    }
    options = later
    clock.advance(61)
    t.same(
      [(await ask(app, '/api', token)).status, (await ask(app, '/t/acme', token)).status],
      [401, 401],
      'known tokens'
    )
    for (const seconds of [3600, 86_400]) {
      clock.advance(seconds)
      t.equal((await ask(app, '/api', tokenOf(acme))).status, 401, 'new tokens')
    }
    if (later !== null) {
      t.same(
        [(await ask(app, '/t/acme', tokenOf(other))).status, (await ask(app, '/api', tokenOf(other))).status],
        [200, 200]
      )
    }
  }
})

t.test('S72 what an introspection says of the kind of a token, and of its subject', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API, introspection: true } })
  app.get('/api', { preHandler: app.oidc.required() }, whoIs)
  let body: Record<string, unknown> = {}
  provider.fault({
    on: 'introspection',
    answer: (given) => {
      given.body = JSON.stringify({ active: true, aud: [API], sub: 'alice', client_id: 'web', ...body })
    }
  })
  let count = 0
  const bring = async (answer: Record<string, unknown>): Promise<number> => {
    body = answer
    return (await ask(app, '/api', `opaque${count++}`)).status
  }
  for (const good of [
    {},
    { token_type: 'Bearer' },
    { token_use: 'access_token' },
    { token_use: 'access', typ: 'Bearer' },
    { typ: 'JWT' }
  ]) { t.equal(await bring(good), 200, JSON.stringify(good)) }
  const bad = [
    { token_use: 'refresh_token' },
    { token_use: 'id' },
    { token_use: null },
    { typ: 'Refresh' },
    { typ: 'Offline' },
    { typ: 'ID' },
    { token_type: 'Bearer', typ: 'Refresh' },
    ...[null, '', 5, ['alice'], {}].map((sub) => ({ sub }))
  ]
  for (const answer of bad) t.equal(await bring(answer), 401, JSON.stringify(answer))
})

t.test('S72 a subject is text, and a client is nobody', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.get('/api', { preHandler: app.oidc.required() }, whoIs)
  for (const claims of [
    ...[null, '', 0, 7, ['alice'], {}, true].map((sub) => ({ sub })),
    ...[null, {}, 5].flatMap((value) => [{ client_id: value }, { jti: value }])
  ]) {
    t.equal((await ask(app, '/api', tokenOf(provider, claims))).status, 401, JSON.stringify(claims))
  }
  const { app: lax, provider: entra } = await startApp(t, { bearer: { audience: API, strictType: false } })
  lax.get('/api', { preHandler: lax.oidc.required() }, whoIs)
  const claims = {
    client_id: undefined,
    scope: undefined,
    sub: 'b0',
    oid: 'b0',
    appid: 'another app',
    appidacr: '1',
    ver: '1.0',
    roles: ['Reports.Read']
  }
  t.equal((await ask(lax, '/api', tokenOf(entra, claims))).status, 403, 'an application in Microsoft Entra ID')
  for (const oid of ['c1', 'b0']) {
    t.equal(
      (await ask(lax, '/api', tokenOf(entra, { ...claims, oid, scp: 'read' }))).status,
      200,
      'a person, also one of Azure AD B2C'
    )
  }
  for (const kind of [
    { token_use: 'refresh' },
    { token_use: 'id' },
    { typ: 'Refresh' },
    { typ: 'Offline' },
    { typ: 'ID' }
  ]) {
    t.equal((await ask(lax, '/api', tokenOf(entra, kind))).status, 401, JSON.stringify(kind))
  }
})

t.test('S74 one proof for all the guards of a route', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API, dpop: true } })
  app.get('/two', { preHandler: [app.oidc.optional(), app.oidc.required({ scopes: 'openid' })] }, whoIs)
  const { token, proof } = await createClient(provider)
  const bring = async (dpop: string): Promise<number> =>
    (await app.inject({ url: '/two', headers: { authorization: `DPoP ${token}`, dpop } })).statusCode
  const dpop = await proof(`${BASE_URL}/two`)
  t.equal(await bring(dpop), 200)
  t.equal(await bring(dpop), 401, 'but for one request')
})

t.test('S74 a proof for another server, over HTTP/2', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify({ http2: true })
  t.teardown(async () => await app.close())
  await app.register(oidc as never, optionsFor(provider, { bearer: { audience: API, dpop: true } }))
  app.get('*', { preHandler: app.oidc.required() as never }, whoIs as never)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { token, proof } = await createClient(provider)
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.close())
  const bring = async (path: string, scheme: string, dpop: string): Promise<unknown> =>
    await new Promise((resolve, reject) => {
      const stream = session.request({ ':path': path, ':scheme': scheme, authorization: `DPoP ${token}`, dpop })
      stream
        .on('response', (headers) => resolve(headers[':status']))
        .on('error', reject)
        .resume()
    })
  t.equal(await bring('/me', 'http', await proof(`${BASE_URL}/me`)), 200)
  t.equal(await bring('@evil.test/me', 'foo', await proof('https://evil.test/me')), 401)
  t.equal(await bring('.evil.test/me', 'foo', await proof(`${BASE_URL}.evil.test/me`)), 401)
})

t.test('the last of several guards decides who it is', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const optionsOf = ({ issuer, clients: [web] }: Provider) => ({
    issuer,
    clientId: 'web',
    clientSecret: web?.client_secret as string
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API },
    providers: { one: optionsOf(one), two: optionsOf(two) }
  } satisfies OidcOptions)
  const { optional, required } = app.oidc
  app.get('/two', { preHandler: [optional(), optional({ provider: 'two' })] }, whoIs)
  app.get('/session', { preHandler: [optional(), optional({ accept: ['session'] })] }, whoIs)
  app.get('/bearer', { preHandler: [optional(), optional({ accept: ['bearer'] })] }, whoIs)
  app.get('/either', { preHandler: required({ provider: ['one', 'two'] }) }, whoIs)
  app.get('/t/:tenant', { preHandler: required({ provider: tenantOf }) }, whoIs)
  const nobody = { claims: null, token: null, session: null, user: null }
  const token = tokenOf(one)
  t.same((await ask(app, '/session', token)).body, nobody)
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/one/login')
  for (const url of ['/two', '/bearer']) t.same((await browser.fetch(url)).json(), nobody, url)

  for (let times = 0; times < 3; times++) t.equal((await ask(app, '/either', token)).status, 200)
  t.equal((await ask(app, '/t/one%20two', token)).status, 401, 'two names are not one')
  t.equal((await ask(app, '/t/one', token)).status, 200)
})

t.test('requests do not share what a handler changes', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.get('/claims', { preHandler: app.oidc.required() }, async ({ oidcClaims }) =>
    (oidcClaims?.['realm_access'] as { roles: string[] }).roles.push('admin')
  )
  app.get('/scopes', { preHandler: app.oidc.required() }, async ({ oidcToken }) => oidcToken?.scopes.push('root'))
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, whoIs)
  app.get('/root', { preHandler: app.oidc.required({ scopes: 'root' }) }, whoIs)
  const token = tokenOf(provider, { realm_access: { roles: ['user'] } })
  for (let times = 0; times < 3; times++) {
    for (const [url, status] of [
      ['/claims', 500],
      ['/scopes', 500],
      ['/admin', 403],
      ['/root', 403]
    ] as const) { t.equal((await ask(app, url, token)).status, status, url) }
  }
})

t.test('R9 a forged token makes nothing be verified again', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  const token = tokenOf(provider)
  for (let times = 0; times < 3; times++) await ask(app, '/me', token)
  const before = provider.count('jwks')
  t.equal(
    (await ask(app, '/me', provider.accessToken({ sub: 'x', signWith: 'unknown-kid', overrides: { aud: API } })))
      .status,
    401
  )
  t.equal(provider.count('jwks'), before + 1, 'it costs one question')
  t.equal((await ask(app, '/me', token)).status, 200)
})

t.test('V19 a token of a key that is gone is not good because it was seen before', async (t) => {
  const clock = stopClock(t)
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const app = await buildApp(t, optionsFor(provider, { store: 'memory:', broker: { audience: API } }))
  const { byDevice, api } = programs(app, provider)
  const { access_token: real } = await byDevice()
  const { key, alg, kid } = await (coreOf(app.oidc).broker as Broker).keys.current()
  const claims = { ...decodeJwt(real), sub: 'mallory', exp: Math.floor(Date.now() / 1000) + 1_000_000 }
  const forged = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: 'at+jwt' }).sign(key)
  for (let times = 0; times < 3; times++) t.equal((await api(forged)).statusCode, 200, 'whoever has the key can sign')
  for (let times = 0; times < 3; times++) {
    await app.oidc.broker.rotateKeys()
    clock.advance(2400)
  }
  t.notOk((await app.inject('/auth/.well-known/jwks.json')).json().keys.some((key: { kid: string }) => key.kid === kid))
  t.equal((await api(forged)).statusCode, 401)
})

t.test('V19 keys that change while a token is verified', async (t) => {
  let keys: object = {}
  let meanwhile = (): void => {}
  const provider = {
    name: 'default',
    settings: { issuer: 'https://op.example.com', clientId: 'web', clockTolerance: 0 },
    keys: () => keys,
    async verifyAccessToken () {
      verified += 1
      meanwhile()
      return { sub: 'alice', client_id: 'web', exp: Math.floor(Date.now() / 1000) + 600 }
    }
  }
  let verified = 0
  const providers = { known: () => provider, ofIssuer: async () => provider } as unknown as Providers
  const settings = parseOptions({
    issuer: 'https://op.example.com',
    clientId: 'web',
    clientSecret: 'x',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY },
    bearer: { audience: API }
  }).bearer as BearerSettings
  const bearer = createBearer(settings, {
    own: [],
    peers: [],
    baseUrl: BASE_URL,
    providers,
    sealer: {} as Sealer,
    vault: undefined
  })
  const payload = Buffer.from(JSON.stringify({ iss: 'https://op.example.com' })).toString('base64url')
  const authorization = `Bearer e30.${payload}.${'s'.repeat(43)}`
  const request = {
    headers: { authorization },
    raw: { rawHeaders: ['Authorization', authorization] }
  } as unknown as FastifyRequest
  const bring = async (): Promise<number> => {
    await bearer.verify(request, { providers: undefined })
    return verified
  }
  t.equal(await bring(), 1)
  meanwhile = () => { keys = {} }
  t.equal(await bring(), 2)
  meanwhile = () => {}
  t.equal(await bring(), 3, 'what was verified with the old keys is verified with the new ones')
  t.equal(await bring(), 3)
})

t.test('S69 a second token in a form, however its type is written', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  app.addContentTypeParser(/^application\/x-www-form-urlencoded/i, { parseAs: 'string' }, (_request, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  )
  app.post('/api', { preHandler: app.oidc.required() }, whoIs)
  for (const type of ['application/x-www-form-urlencoded', 'Application/X-WWW-Form-Urlencoded; charset=utf-8']) {
    for (let times = 0; times < 3; times++) {
      const { statusCode } = await app.inject({
        method: 'POST',
        url: '/api',
        headers: { authorization: `Bearer ${tokenOf(provider)}`, 'content-type': type },
        payload: 'access_token=x'
      })
      t.equal(statusCode, 400, type)
    }
  }
})

t.test('an opaque token is shown to its provider only', async (t) => {
  const [one, two] = [await startProvider(), await startProvider()]
  t.teardown(async () => {
    await one.close()
    await two.close()
  })
  const optionsOf = ({ issuer, clients: [web] }: Provider) => ({
    issuer,
    clientId: 'web',
    clientSecret: web?.client_secret as string
  })
  const app = await buildApp(t, {
    baseUrl: BASE_URL,
    allowInsecureLoopback: true,
    session: { key: SESSION_KEY },
    bearer: { audience: API, introspection: 'one' },
    providers: { one: optionsOf(one), two: optionsOf(two) }
  })
  app.get('/two', { preHandler: app.oidc.required({ provider: 'two' }) }, whoIs)
  t.equal((await ask(app, '/two', 'opaque')).status, 401)
  t.same([one.count('introspection'), two.count('introspection')], [0, 0])
})

interface Client {
  token: string
  proof: (htu: string) => Promise<string>
}

async function createClient (provider: Provider): Promise<Client> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(publicKey)
  const token = tokenOf(provider, { cnf: { jkt: await calculateJwkThumbprint(jwk) } })
  const ath = createHash('sha256').update(token).digest('base64url')
  return {
    token,
    proof: async (htu) =>
      await new SignJWT({ htm: 'GET', htu, iat: Math.floor(Date.now() / 1000), jti: Math.random().toString(36), ath })
        .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
        .sign(privateKey)
  }
}

t.test('S40 no shared cache keeps what somebody got with their token', async (t) => {
  const { app, provider } = await startApp(t, { bearer: { audience: API } })
  let control: string | undefined
  app.get('/api', { preHandler: app.oidc.optional() }, async ({ oidcClaims }, reply) => {
    if (control !== undefined) reply.header('cache-control', control)
    return { sub: oidcClaims?.sub ?? null }
  })
  const authorization = `Bearer ${tokenOf(provider)}`
  for (const [own, sent] of [
    ['public, max-age=60', 'no-store'],
    ['s-maxage=60', 'no-store'],
    ['private, max-age=60', 'private, max-age=60'],
    [undefined, undefined]
  ]) {
    control = own
    const { headers, payload } = await app.inject({ url: '/api', headers: { authorization } })
    t.same([payload, headers['cache-control']], ['{"sub":"alice"}', sent])
    if (own !== undefined) t.equal((await app.inject('/api')).headers['cache-control'], sent, 'and what the others get')
  }
})
