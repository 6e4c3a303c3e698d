import { createServer } from 'node:http'
import { SignJWT, exportJWK, generateKeyPair } from 'jose'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, stopClock } from '../support/app.ts'
import { AUDIENCE, clientsOf, start } from '../support/broker.ts'
import type { JWTPayload } from 'jose'
import type { FastifyInstance } from 'fastify'
import type { BrokerOptions, OidcOptions } from '../../index.ts'

t.test('V19 instances accept the tokens of trusted issuers, each with its own keys', async (t) => {
  const provider = await startProvider({ deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  const instances = new Map<string, FastifyInstance>()
  let calls = 0
  let isDown = false
  const peerFetch = async (url: string, init: RequestInit): Promise<Response> => {
    const app = instances.get(new URL(url).origin)
    if (app === undefined) return await fetch(url, init)
    calls++
    if (isDown) throw new Error('down')
    const { statusCode, headers, payload } = await app.inject(new URL(url).pathname)
    return new Response(payload, { status: statusCode, headers: { 'content-type': String(headers['content-type']) } })
  }
  const create = async (
    name: string,
    trustedIssuers: BrokerOptions['trustedIssuers'] = [],
    more: Partial<OidcOptions> = {},
    brokerOptions: Partial<BrokerOptions> = {}
  ): Promise<ReturnType<typeof clientsOf>> => {
    const baseUrl = `https://${name}.example.com`
    const app = await buildApp(
      t,
      optionsFor(provider, {
        baseUrl,
        store: createMemoryStore(),
        fetch: peerFetch,
        ...more,
        broker: { audience: AUDIENCE, trustedIssuers, ...brokerOptions }
      })
    )
    instances.set(baseUrl, app)
    app.get('/default', { preHandler: app.oidc.required({ provider: 'default' }) }, async () => 'in')
    return clientsOf(app, provider)
  }
  const store = createMemoryStore()
  const one = await create('one', ['https://two.example.com'], { store })
  const two = await create('two', [
    { issuer: 'https://one.example.com', jwksUri: 'https://one.example.com/auth/.well-known/jwks.json' }
  ])
  const three = await create('three')
  const [ofOne, ofTwo, ofThree] = [
    (await one.byDevice()).access_token,
    (await two.byDevice()).access_token,
    (await three.byDevice()).access_token
  ]
  t.match(
    [(await one.api(ofTwo)).statusCode, (await one.api(ofTwo)).json()],
    [200, { token: { provider: 'https://two.example.com' }, claims: { sub: 'alice', iss: 'https://two.example.com' } }]
  )
  t.equal((await two.api(ofOne)).statusCode, 200)
  t.same(
    [(await one.api(ofThree)).statusCode, (await two.api(ofThree)).statusCode, (await three.api(ofOne)).statusCode],
    [401, 401, 401],
    'tokens of issuers that are not trusted are refused'
  )
  t.equal(
    (await one.api(ofTwo, '/default')).statusCode,
    401,
    'a route for one provider refuses tokens of a trusted issuer'
  )
  const asOne = await create('one-too', ['https://two.example.com'])
  t.ok(asOne)
  const liar = await create('liar', [], {}, { issuer: 'https://two.example.com' })
  t.equal(
    (await one.api((await liar.byDevice()).access_token)).statusCode,
    401,
    'a token with the issuer of a peer and other keys is refused'
  )
  const elsewhere = await create(
    'else',
    [],
    {},
    { issuer: 'https://two.example.com', audience: 'https://other.example.com' }
  )
  t.equal((await one.api((await elsewhere.byDevice()).access_token)).statusCode, 401)

  const before = calls
  stopClock(t) // a new fetch is permitted each second
  for (let index = 0; index < 50; index++) await one.api(`${ofTwo.slice(0, -10)}${String(index).padStart(10, 'A')}`)
  t.ok(calls - before <= 6, `V19 a flood of wrong signatures does not flood the peer: ${calls - before}`)

  isDown = true
  const restarted = await create('one', ['https://two.example.com', 'https://four.example.com'], { store })
  t.equal((await restarted.api(ofTwo)).statusCode, 200, 'keys outlast a restart while the peer is down')
  const unknown = await restarted.api((await create('four').then(async (app) => await app.byDevice())).access_token)
  t.equal(unknown.statusCode, 503)
  isDown = false
  instances.set(
    'https://two.example.com',
    await buildApp(t, optionsFor(provider, { baseUrl: 'https://nothing.example.com' }))
  )
  const third = await create('third', ['https://two.example.com'])
  t.equal((await third.api(ofTwo)).statusCode, 502, 'the response is not a key set')
})

t.test('R9 the new keys of a trusted issuer are fetched', async (t) => {
  const clock = stopClock(t)
  const peer = await start(t, { baseUrl: 'https://peer.example.com' })
  const jwks = async (): Promise<string> => (await peer.app.inject('/auth/.well-known/jwks.json')).body
  let calls = 0
  const { api } = await start(t, {
    broker: { trustedIssuers: ['https://peer.example.com'] },
    fetch: async (url, init) => {
      if (!url.startsWith('https://peer.example.com')) return await fetch(url, init)
      calls++
      return new Response(await jwks(), { headers: { 'content-type': 'application/jwk-set+json' } })
    }
  })
  t.equal((await api((await peer.byDevice()).access_token)).statusCode, 200)
  await peer.app.oidc.broker.rotateKeys()
  clock.advance(601)
  t.equal((await api((await peer.byDevice()).access_token)).statusCode, 200)
  t.equal(calls, 2)
})

t.test('S53 while the keys of a trusted issuer cannot be had, those that are known count for a limited time', async (t) => {
  const clock = stopClock(t)
  const issuer = 'https://peer.example.com'
  const peer = await start(t, { baseUrl: issuer })
  const store = createMemoryStore()
  let isAway = false
  const options = {
    store,
    broker: { trustedIssuers: [issuer] },
    fetch: async (url: string, init: RequestInit) => {
      if (!url.startsWith(issuer)) return await fetch(url, init)
      if (isAway) return new Response('', { status: 404 })
      return new Response((await peer.app.inject('/auth/.well-known/jwks.json')).body)
    }
  }
  const statusOf = async (api: typeof peer.api): Promise<number> =>
    (await api((await peer.byDevice()).access_token)).statusCode
  const running = await start(t, options)
  t.equal(await statusOf(running.api), 200)
  isAway = true
  clock.advance(12 * 3600)
  t.equal(await statusOf(running.api), 200, 'the issuer is away for half a day')
  const started = await start(t, options)
  t.equal(await statusOf(started.api), 200, 'a process that starts in the meantime')
  clock.advance(6 * 3600)
  t.equal(await statusOf(started.api), 200, 'and asks again, in vain')
  clock.advance(7 * 3600)
  t.equal(await statusOf(running.api), 502, 'a day after the last fetch')
  t.equal(await statusOf((await start(t, options)).api), 502)
  t.equal(await statusOf(started.api), 502, 'what was kept is not used for longer')
  clock.advance(12 * 3600)
  t.equal(await statusOf(started.api), 502)
})

t.test('tokens of py-oidc-auth are accepted with strictType false', async (t) => {
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  const server = createServer((_request, response) => {
    exportJWK(publicKey).then(
      (jwk) =>
        response
          .setHeader('content-type', 'application/json')
          .end(JSON.stringify({ keys: [{ ...jwk, kid: 'a', alg: 'RS256', use: 'sig' }] })),
      () => response.destroy()
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const issuer = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  const sign = async (claims: JWTPayload, header: Record<string, string> = {}): Promise<string> =>
    await new SignJWT({
      sub: 'alice',
      preferred_username: 'alice',
      email: 'alice@example.com',
      roles: ['admin'],
      jti: 'x',
      iss: issuer,
      aud: AUDIENCE,
      ...claims
    })
      .setProtectedHeader({ alg: 'RS256', kid: 'a', typ: 'JWT', ...header })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(privateKey)
  const lax = await start(t, { broker: { trustedIssuers: [{ issuer, strictType: false }] } })
  const answer = await lax.api(await sign({}), '/admin')
  t.match([answer.statusCode, answer.json()], [200, { claims: { preferred_username: 'alice' } }])
  t.equal((await lax.api(await sign({ nonce: 'x' }))).statusCode, 401, 'an ID token is refused')
  t.equal((await lax.api(await sign({}, { typ: 'logout+jwt' }))).statusCode, 401)
  t.equal((await lax.api(await sign({ jti: undefined as never }))).statusCode, 401)
  const strict = await start(t, { broker: { trustedIssuers: [issuer] } })
  t.equal((await strict.api(await sign({}))).statusCode, 401)
  t.equal((await strict.api(await sign({}, { typ: 'at+jwt' }))).statusCode, 200)
  t.match((await lax.api(await sign({}), '/auth/userinfo')).json(), { username: 'alice', email: 'alice@example.com' })
})

t.test('V19 a tenant cannot use the issuer of a trusted issuer or of the broker', async (t) => {
  const mallory = await startProvider()
  t.teardown(async () => await mallory.close())
  for (const issuer of ['https://peer.example.com', BASE_URL]) {
    const app = await buildApp(t, {
      baseUrl: BASE_URL,
      allowInsecureLoopback: true,
      store: 'memory:',
      session: { key: SESSION_KEY },
      bearer: { audience: AUDIENCE },
      broker: { audience: AUDIENCE, trustedIssuers: ['https://peer.example.com'] },
      resolveProvider: (_request, name = 'mallory') => ({
        name,
        issuer,
        metadata: {
          issuer,
          authorization_endpoint: `${mallory.issuer}/authorize`,
          token_endpoint: `${mallory.issuer}/token`,
          jwks_uri: `${mallory.issuer}/jwks`
        },
        clientId: 'web',
        clientSecret: 'x'
      })
    })
    const world = clientsOf(app, mallory)
    t.equal((await app.inject('/auth/mallory/login')).statusCode, 500)
    const forged = mallory.accessToken({ sub: 'alice', overrides: { iss: issuer, aud: AUDIENCE } })
    t.not((await world.api(forged)).statusCode, 200, issuer)
  }
})
