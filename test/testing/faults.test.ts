import { once } from 'node:events'
import { connect } from 'node:net'
import { compactVerify, createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose'
import type { JSONWebKeySet, JWK, JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { until } from '../support/until.ts'
import type { Fault, FaultName, ProviderClient, ProviderOptions, Provider } from '../../lib/testing/index.ts'

const redirect_uri = 'https://app.example.com/auth/callback'
const metadataPath = '/.well-known/openid-configuration'

const start = async (t: Test, options?: ProviderOptions): Promise<Provider> => {
  const provider = await startProvider(options)
  t.teardown(() => provider.close())
  return provider
}

const tested = new Set<FaultName>()

let last: Provider | undefined

/** Starts a provider with only this fault. Closes the previous one, so that its keys are used again. */
const faulty = async (t: Test, name: FaultName, options?: ProviderOptions): Promise<Provider> => {
  tested.add(name)
  await last?.close()
  const provider = await start(t, options)
  provider.fault(faults[name])
  last = provider
  return provider
}

type Json = Record<string, unknown>

const post = async (
  provider: Provider,
  path: string,
  fields: Record<string, string>
): Promise<{ status: number; body: Json }> => {
  const { client_id, client_secret = '' } = provider.clients[0]!
  const response = await fetch(`${provider.issuer}${path}`, {
    method: 'POST',
    body: new URLSearchParams({ client_id, client_secret, ...fields })
  })
  return { status: response.status, body: (await response.json()) as Json }
}

const authorize = async (provider: Provider, cookie = ''): Promise<URLSearchParams> => {
  const params = new URLSearchParams({
    client_id: 'web',
    redirect_uri,
    response_type: 'code',
    scope: 'openid email offline_access',
    state: 'state',
    nonce: 'nonce'
  })
  const response = await fetch(`${provider.issuer}/authorize?${params}`, { redirect: 'manual', headers: { cookie } })
  return new URL(response.headers.get('location')!).searchParams
}

/** Logs in without checking the tokens. */
const login = async (provider: Provider) => {
  const params = await authorize(provider)
  const { status, body: tokens } = await post(provider, '/token', {
    grant_type: 'authorization_code',
    code: params.get('code')!,
    redirect_uri
  })
  return { params, status, tokens }
}

interface Issued {
  jwt: string
  header: Json
  claims: JWTPayload & Json
}

const read = (jwt: unknown): Issued => ({
  jwt: String(jwt),
  header: decodeProtectedHeader(String(jwt)) as Json,
  claims: decodeJwt(String(jwt))
})

const idToken = async (provider: Provider): Promise<Issued> => read((await login(provider)).tokens.id_token)

const getJson = async (url: string): Promise<Json> => await (await fetch(url)).json() as Json

const metadata = (provider: Provider) => getJson(`${provider.issuer}${metadataPath}`)

const jwks = async (provider: Provider): Promise<JSONWebKeySet> =>
  (await getJson(`${provider.issuer}/jwks`)) as unknown as JSONWebKeySet

/** Whether the signature is valid. The claims are not checked. */
const verifies = async (provider: Provider, { jwt }: Issued): Promise<boolean> => {
  try {
    await compactVerify(jwt, createLocalJWKSet(await jwks(provider)))
    return true
  } catch {
    return false
  }
}

t.test('a fault applies to one endpoint, a number of times, and under a condition', async (t) => {
  const provider = await start(t)
  const status = async (path = metadataPath) => (await fetch(provider.url + path)).status
  provider.fault({ on: 'metadata', status: 503, times: 2 })
  t.same([await status(), await status('/jwks'), await status(), await status()], [503, 200, 503, 200])

  const off = provider.fault({ on: 'metadata', status: 500 }, [{ on: 'jwks', status: 502 }])
  t.same([await status(), await status('/jwks'), await status()], [500, 502, 500])
  provider.fault({ on: 'jwks', headers: { 'x-fault': '1' } })
  off()
  t.same([await status(), await status('/jwks')], [200, 200])
  t.equal((await fetch(`${provider.url}/jwks`)).headers.get('x-fault'), '1', 'the other fault stays on')

  provider.clearFaults()
  t.equal((await fetch(`${provider.url}/jwks`)).headers.get('x-fault'), null)
  provider.fault({ on: 'metadata', status: 418, when: ({ headers }) => headers['x-when'] === '1' })
  t.equal(await status(), 200)
  t.equal((await fetch(provider.url + metadataPath, { headers: { 'x-when': '1' } })).status, 418)
})

t.test('several faults at the same time', async (t) => {
  const provider = await start(t)
  provider.fault(
    { on: 'token', idToken: (claims) => { claims.first = true } },
    { on: 'token', idToken: (claims) => ({ ...claims, second: true }), idTokenRaw: (jwt) => `${jwt}.tail` },
    { on: 'token', tokenResponse: (body) => ({ ...body, extra: 1 }), headers: { 'x-fault': '1' } },
    { on: 'token', signWith: 'none' },
    { on: 'token', signWith: 'ES256' }
  )
  const { tokens } = await login(provider)
  t.equal(tokens.extra, 1)
  const jwt = String(tokens.id_token)
  t.match(jwt, /\.tail$/)
  t.match(decodeJwt(jwt.slice(0, -5)), { first: true, second: true })
  t.equal(decodeProtectedHeader(jwt.slice(0, -5)).alg, 'ES256', 'the last signature wins')
})

t.test('before and answer', async (t) => {
  const provider = await start(t)
  const seen: unknown[] = []
  provider.fault({
    on: 'jwks',
    before: async (self, request) => {
      seen.push(self === provider, request.path, self.count('jwks'))
    }
  })
  provider.fault(
    {
      on: 'jwks',
      answer: (answer) => {
        answer.status = 299
      }
    },
    { on: 'jwks', answer: (answer) => ({ ...answer, body: 'changed' }) }
  )
  const response = await fetch(`${provider.url}/jwks`)
  t.equal(response.status, 299)
  t.equal(await response.text(), 'changed')
  t.same(seen, [true, '/jwks', 1])
})

t.test('a JWT access token can be changed', async (t) => {
  const provider = await start(t, { accessTokenFormat: 'jwt' })
  provider.fault({ on: 'token', accessToken: (claims, header) => { claims.aud = 'other'; header.typ = 'JWT' } })
  const { header, claims } = read((await login(provider)).tokens.access_token)
  t.equal(header.typ, 'JWT')
  t.equal(claims.aud, 'other')
})

t.test('network: statuses, bodies and redirects', async (t) => {
  const provider = await start(t)
  const get = async (fault: Omit<Fault, 'on'>) => {
    provider.clearFaults()
    provider.fault({ on: 'metadata', ...fault })
    const response = await fetch(provider.url + metadataPath, { redirect: 'manual' })
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      location: response.headers.get('location'),
      retry: response.headers.get('retry-after'),
      body: await response.text()
    }
  }
  t.match(await get({ status: 503 }), { status: 503, body: 'status 503', type: 'text/plain' })
  t.match(await get({ status: 429, headers: { 'retry-after': '7' } }), { status: 429, retry: '7' })
  t.match(await get({ body: 'hello' }), { status: 200, body: 'hello' })
  t.match(await get({ body: Buffer.from('<p>'), headers: { 'content-type': 'text/html' } }), {
    body: '<p>',
    type: 'text/html'
  })
  t.match(await get({ headers: { 'content-type': 'text/css' } }), { body: /issuer/, type: 'text/css' })
  t.match(await get({ redirect: 'https://evil.example/' }), {
    status: 302,
    location: 'https://evil.example/',
    body: ''
  })
  t.match(await get({ redirect: '/x', status: 307 }), { status: 307, location: '/x' })
})

t.test('network: delay', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'metadata', delay: 120 })
  const before = performance.now()
  t.equal((await fetch(provider.url + metadataPath)).status, 200)
  t.ok(performance.now() - before >= 115)
})

t.test('network: hang, reset and their effect', async (t) => {
  const provider = await start(t)
  const off = provider.fault({ on: 'metadata', hang: true })
  await t.rejects(fetch(provider.url + metadataPath, { signal: AbortSignal.timeout(100) }), {
    name: 'TimeoutError'
  } as Error)
  t.equal(provider.count('metadata'), 1)
  off()

  for (const after of [false, true]) {
    const params = await authorize(provider)
    const exchange = () =>
      post(provider, '/token', { grant_type: 'authorization_code', code: params.get('code')!, redirect_uri })
    provider.fault({ on: 'token', reset: true, after, times: 1 })
    await t.rejects(exchange(), /fetch failed/)
    t.equal((await exchange()).status, after ? 400 : 200, after ? 'the code was used' : 'the code was not used')
  }
  const params = await authorize(provider)
  provider.fault({
    on: 'token',
    status: 502,
    after: true,
    times: 1,
    headers: { 'content-type': 'application/json' },
    body: '{}'
  })
  t.match(
    await post(provider, '/token', { grant_type: 'authorization_code', code: params.get('code')!, redirect_uri }),
    { status: 502, body: {} }
  )
  t.match(
    await post(provider, '/token', { grant_type: 'authorization_code', code: params.get('code')!, redirect_uri }),
    { status: 400 }
  )
})

t.test('network: stall, cut and drip', async (t) => {
  const provider = await start(t)
  const get = async (fault: Omit<Fault, 'on'>, timeout = 5000) => {
    provider.clearFaults()
    provider.fault({ on: 'metadata', ...fault })
    return await fetch(provider.url + metadataPath, { signal: AbortSignal.timeout(timeout) })
  }
  const stalled = await get({ stall: true }, 150)
  t.equal(stalled.status, 200, 'the headers arrive')
  await t.rejects(stalled.text(), { name: 'TimeoutError' } as Error)

  const whole = await (await fetch(`${provider.url}/jwks`)).text()
  t.ok(whole.length > 0)
  await t.rejects((await get({ cut: true })).text(), /terminated/)
  await t.rejects((await get({ cut: true, garbage: 'huge', megabytes: 1 })).text(), /terminated/)

  t.equal(await (await get({ drip: 1, body: 'drop by drop' })).text(), 'drop by drop')
  const slow = await get({ drip: true }, 300)
  const { value } = await slow.body!.getReader().read()
  t.equal(Buffer.from(value as Uint8Array).toString(), '{', 'one byte per second')
})

t.test('network: garbage', async (t) => {
  const provider = await start(t)
  const right = await metadata(provider)
  const get = async (garbage: Fault['garbage'], megabytes = 2, on: 'metadata' | 'revocation' = 'metadata') => {
    provider.clearFaults()
    provider.fault({ on, garbage: garbage!, megabytes })
    const response = await fetch(provider.url + metadataPath)
    return { type: response.headers.get('content-type'), bytes: Buffer.from(await response.arrayBuffer()) }
  }
  const text = async (garbage: Fault['garbage']) => (await get(garbage)).bytes.toString()
  const json = async (garbage: Fault['garbage']) => JSON.parse(await text(garbage)) as Json

  t.match(await get('html'), { type: 'text/html' })
  t.equal(await text('empty'), '')
  t.equal(await text('truncated'), JSON.stringify(right).slice(0, -10))
  t.same(await json('array'), [right])
  t.equal(await json('null'), null)
  t.equal(await json('number'), 42)
  t.equal(await json('string'), JSON.stringify(right))
  t.match(await get('content-type'), { type: 'text/plain' })
  t.same(await json('content-type'), right)
  t.equal((await get('no-content-type')).type, null)
  t.match(await text('duplicate-keys'), `{"issuer":"duplicate","issuer":"${provider.issuer}"`)
  t.same(await json('duplicate-keys'), right)
  t.match((await get('bom')).bytes.subarray(0, 3), Buffer.from([0xef, 0xbb, 0xbf]))
  t.throws(() => new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from('{"a":"\xff"}', 'latin1')))
  const { bytes } = await get('invalid-utf8')
  t.throws(() => new TextDecoder('utf-8', { fatal: true }).decode(bytes), 'it is not UTF-8')
  t.match(JSON.parse(bytes.toString()), right, 'the rest is right')

  const { padding, ...rest } = await json('huge') as { padding: string }
  t.equal(padding.length, 2 * 2 ** 20)
  t.same(rest, right, 'the rest is right')
  const { padding: deep, ...others } = await json('deep')
  t.ok(Array.isArray(deep))
  t.same(others, right)
  t.equal((await text('deep')).split('[').length > 100_000, true)
})

t.test('network: a gzip bomb', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'metadata', garbage: 'gzip-bomb', megabytes: 20 })
  const { port } = new URL(provider.url)
  const socket = connect(Number(port), '127.0.0.1')
  socket.end(`GET ${metadataPath} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  let sent = 0
  socket.on('data', (chunk: Buffer) => { sent += chunk.length })
  await once(socket, 'close')
  t.ok(sent < 100_000, `${sent} bytes on the network`)

  const response = await fetch(provider.url + metadataPath)
  t.equal(response.headers.get('content-encoding'), 'gzip')
  const { padding, issuer } = await response.json() as { padding: string, issuer: string }
  t.equal(padding.length, 20 * 2 ** 20)
  t.equal(issuer, provider.issuer)
})

t.test('garbage of a response that is not an object', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'revocation', garbage: 'huge', megabytes: 1 })
  const { body } = await post(provider, '/revoke', { token: 'x' })
  t.equal(String(body.padding).length, 2 ** 20)
  provider.fault(faults['metadata-huge'])
  const huge = await fetch(provider.url + metadataPath)
  let bytes = 0
  for await (const chunk of huge.body!) bytes += (chunk as Uint8Array).length
  t.ok(bytes > 50 * 2 ** 20, 'the default is 50 MiB')
})

t.test('the provider closes while requests hang, wait, drip and stall', async (t) => {
  const provider = await startProvider()
  provider.fault(
    { on: 'metadata', hang: true },
    { on: 'jwks', delay: 60_000 },
    { on: 'token', drip: true },
    { on: 'userinfo', stall: true }
  )
  const waiting = [metadataPath, '/jwks'].map((path) => t.rejects(fetch(provider.url + path)))
  // Their headers have arrived: the drip and the stall have begun
  const begun = await Promise.all([
    fetch(`${provider.url}/token`, { method: 'POST' }), fetch(`${provider.url}/userinfo`)
  ])
  const reading = begun.map((response) => t.rejects(response.text()))
  await until(() => provider.requests.length === 4)
  await provider.close()
  await Promise.all([...waiting, ...reading])
})

t.test('the provider survives a client that disconnects', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'metadata', garbage: 'huge', megabytes: 20 })
  const socket = connect(provider.port, '127.0.0.1')
  socket.write(`GET ${metadataPath} HTTP/1.1\r\nHost: x\r\n\r\n`)
  await once(socket, 'data')
  socket.destroy()
  const upload = connect(provider.port, '127.0.0.1')
  upload.end('POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf')
  // The provider has noticed it
  await once(upload.resume(), 'close')
  t.equal((await fetch(`${provider.url}/jwks`)).status, 200)
})

// The named faults

t.test('the claims of the ID token', async (t) => {
  const now = Math.floor(Date.now() / 1000)
  const expected: Partial<Record<FaultName, (claims: JWTPayload & Json, provider: Provider) => boolean>> = {
    'invalid-iss': ({ iss }, provider) => iss === `${provider.issuer}1`,
    'missing-sub': (claims) => !('sub' in claims),
    'invalid-aud': ({ aud }) => aud === 'web1',
    'missing-aud': (claims) => !('aud' in claims),
    'missing-iat': (claims) => !('iat' in claims),
    'nonce-invalid': ({ nonce }) => nonce === 'nonce1',
    'invalid-missing-iss': (claims) => !('iss' in claims),
    'invalid-missing-aud': (claims) => !('aud' in claims),
    'invalid-secondary-aud': ({ aud }) => JSON.stringify(aud) === '["web","stranger"]',
    'valid-aud-as-array': ({ aud }) => JSON.stringify(aud) === '["web"]',
    'invalid-expired-exp': ({ exp }) => exp! < now - 300 + 5 && exp! > now - 320,
    'invalid-missing-exp': (claims) => !('exp' in claims),
    'invalid-nonce': ({ nonce }) => nonce === 'nonce1',
    'invalid-missing-nonce': (claims) => !('nonce' in claims),
    'iss-as-array': ({ iss }, provider) =>
      JSON.stringify(iss) === JSON.stringify([provider.issuer, 'https://evil.example']),
    'sub-empty': ({ sub }) => sub === '',
    'sub-number': ({ sub }) => sub as unknown === 42,
    'sub-too-long': ({ sub }) => sub!.length === 256,
    'exp-as-string': ({ exp }) => /^\d{10}$/.test(String(exp)) && typeof exp === 'string',
    'exp-absurd': ({ exp }) => exp === 1e300,
    'exp-negative': ({ exp }) => exp === -1,
    'iat-in-future': ({ iat }) => iat! > now + 3500,
    'nbf-in-future': ({ nbf }) => nbf! > now + 3500,
    'azp-of-another': ({ azp }) => azp === 'stranger',
    'at-hash-invalid': ({ at_hash }) => String(at_hash).length === 23,
    'auth-time-missing': (claims) => !('auth_time' in claims),
    'auth-time-too-old': ({ auth_time }) => Number(auth_time) < now - 86_000,
    'clock-29s-ahead': ({ iat, exp, auth_time }) =>
      iat! >= now + 29 && iat! < now + 60 && exp! === iat! + 3600 && Number(auth_time) >= now + 29,
    'clock-29s-behind': ({ iat, exp }) => iat! >= now - 29 && iat! < now && exp! === iat! + 3600,
    'clock-1h-ahead': ({ iat }) => iat! >= now + 3600,
    'clock-2h-behind': ({ iat, exp }) => iat! < now - 7000 && exp! < now - 3500,
    'acr-missing': (claims) => !('acr' in claims),
    'has-events': ({ events }) => typeof events === 'object',
    'claims-prototype': (claims) =>
      Object.hasOwn(claims, '__proto__') &&
      (claims.constructor as unknown) === 'x' &&
      (claims.toString as unknown) === 1
  }
  for (const [name, check] of Object.entries(expected) as Array<[FaultName, typeof expected[FaultName] & {}]>) {
    const provider = await faulty(t, name)
    const token = await idToken(provider)
    t.ok(check(token.claims, provider), `${name} does what its name says`)
    t.ok(await verifies(provider, token), `${name} has a valid signature`)
    if (!name.includes('iss')) t.equal(token.claims.iss, provider.issuer, `${name} changes nothing else`)
  }
})

t.test('the signature of the ID token', async (t) => {
  for (const name of ['idtoken-sig-none', 'invalid-null-alg'] as const) {
    const provider = await faulty(t, name)
    t.match(await idToken(provider), { header: { alg: 'none' }, jwt: /\.$/ })
  }
  const mixed = await faulty(t, 'sig-none-mixed-case')
  t.match((await idToken(mixed)).jwt.split('.')[2], '')
  t.equal((await idToken(mixed)).header.alg, 'nOnE')

  const good: FaultName[] = ['idtoken-sig-rs256', 'invalid-alternate-alg']
  for (const name of good) {
    const provider = await faulty(t, name)
    t.ok(await verifies(provider, await idToken(provider)), `${name} verifies`)
  }
  const bad: FaultName[] = [
    'invalid-sig-rs256', 'invalid-sig-es256', 'invalid-sig-hs256', 'sig-other-key', 'sig-unknown-kid',
    'sig-hs256-public-pem', 'sig-hs256-public-jwk', 'sig-hs256-client-secret', 'sig-embedded-jwk', 'sig-jku',
    'sig-x5u', 'sig-crit'
  ]
  for (const name of bad) {
    const provider = await faulty(t, name)
    t.notOk(await verifies(provider, await idToken(provider)), `${name} does not verify`)
  }
})

t.test('the alternate algorithm is never the registered one', async (t) => {
  for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] as const) {
    const clients: ProviderClient[] = [
      { client_id: 'web', client_secret: 'secret-of-at-least-32-bytes-length', id_token_signed_response_alg: alg }
    ]
    const provider = await faulty(t, 'invalid-alternate-alg', { clients })
    const token = await idToken(provider)
    t.not(token.header.alg, alg)
    t.ok(await verifies(provider, token))
  }
})

t.test('how each wrong signature is created', async (t) => {
  const token = async (name: FaultName) => {
    const provider = await faulty(t, name)
    const issued = await idToken(provider)
    const { keys } = await jwks(provider)
    const key = keys.find(({ alg }) => alg === 'RS256')!
    return { provider, key, keys, ...issued }
  }
  const hmac = (secret: string, jwt: string) => jwtVerify(jwt, Buffer.from(secret))
  const { createPublicKey } = await import('node:crypto')

  const other = await token('sig-other-key')
  t.equal(other.header.kid, other.key.kid, 'it has the published kid')
  const unknown = await token('sig-unknown-kid')
  t.notOk(unknown.keys.some(({ kid }) => kid === unknown.header.kid))
  await t.resolves(
    jwtVerify(unknown.jwt, createPublicKey({ key: unknown.key, format: 'jwk' })),
    'signed with the published key'
  )

  const pem = await token('sig-hs256-public-pem')
  const spki = createPublicKey({ key: pem.key, format: 'jwk' }).export({ type: 'spki', format: 'pem' }) as string
  await t.resolves(hmac(spki, pem.jwt))
  t.match(pem.header, { alg: 'HS256', kid: pem.key.kid })
  const jwk = await token('sig-hs256-public-jwk')
  await t.resolves(hmac(JSON.stringify(jwk.key), jwk.jwt))
  const secret = await token('sig-hs256-client-secret')
  await t.resolves(hmac(secret.provider.clients[0]!.client_secret!, secret.jwt))

  const embedded = await token('sig-embedded-jwk')
  await t.resolves(
    jwtVerify(embedded.jwt, createPublicKey({ key: embedded.header.jwk as JWK, format: 'jwk' })),
    'verifies with the key in its header'
  )
  for (const [name, member] of [
    ['sig-jku', 'jku'],
    ['sig-x5u', 'x5u']
  ] as const) {
    const { header, jwt, provider } = await token(name)
    t.equal(header[member], `${provider.issuer}/attacker`)
    await t.resolves(
      jwtVerify(jwt, createLocalJWKSet((await getJson(String(header[member]))) as unknown as JSONWebKeySet)),
      'verifies with the keys it points to'
    )
    t.equal(provider.count('attacker'), 1)
  }
  const crit = await token('sig-crit')
  t.match(crit.header, { crit: ['urn:unknown'], 'urn:unknown': true })
  const broken = await token('invalid-sig-rs256')
  t.match(broken.header, { alg: 'RS256', kid: broken.key.kid })
  t.equal((await token('invalid-sig-es256')).header.alg, 'ES256')
  t.equal((await token('invalid-sig-hs256')).header.alg, 'HS256')
  t.equal((await token('typ-logout-token')).header.typ, 'logout+jwt')
  t.equal((await token('typ-access-token')).header.typ, 'at+jwt')
})

t.test('a broken signature differs in one bit', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'token', signWith: 'broken-signature' })
  const token = await idToken(provider)
  t.notOk(await verifies(provider, token))
  const [header, claims, signature] = token.jwt.split('.') as [string, string, string]
  const bytes = Buffer.from(signature, 'base64url')
  bytes[9]! ^= 1
  await t.resolves(
    jwtVerify(`${header}.${claims}.${bytes.toString('base64url')}`, createLocalJWKSet(await jwks(provider)))
  )
})

t.test('keys without kid', async (t) => {
  const single = await faulty(t, 'kid-absent-single-jwks')
  const token = await idToken(single)
  t.notOk('kid' in token.header)
  const { keys } = await jwks(single)
  t.equal(keys.length, 1)
  t.notOk('kid' in keys[0]!)
  t.ok(await verifies(single, token))

  const multiple = await faulty(t, 'kid-absent-multiple-jwks')
  const many = await idToken(multiple)
  t.notOk('kid' in many.header)
  const set = await jwks(multiple)
  t.equal(set.keys.length, 3)
  t.ok(set.keys.every((key) => !('kid' in key) && key.kty === 'RSA' && key.alg === 'RS256'))
  t.equal(new Set(set.keys.map(({ n }) => n)).size, 3)
  await t.rejects(jwtVerify(many.jwt, createLocalJWKSet(set)), {
    code: 'ERR_JWKS_MULTIPLE_MATCHING_KEYS'
  } as unknown as Error)
})

t.test('key rotation', async (t) => {
  const before = await faulty(t, 'signing-key-rotation-just-before-signing')
  const old = await jwks(before)
  const token = await idToken(before)
  t.notOk(old.keys.some(({ kid }) => kid === token.header.kid))
  t.ok(await verifies(before, token))
  t.equal((await idToken(before)).header.kid, token.header.kid, 'the keys rotate once')

  const each = await faulty(t, 'signing-key-rotation')
  const first = await idToken(each)
  t.not((await idToken(each)).header.kid, first.header.kid)
  t.notOk(await verifies(each, first))
})

t.test('refreshed ID tokens', async (t) => {
  const refresh = async (name: FaultName) => {
    const provider = await faulty(t, name)
    const { tokens } = await login(provider)
    const { status, body } = await post(provider, '/token', {
      grant_type: 'refresh_token',
      refresh_token: String(tokens.refresh_token)
    })
    return {
      provider,
      status,
      body,
      before: read(tokens.id_token).claims,
      claims: body.id_token ? read(body.id_token).claims : ({} as JWTPayload)
    }
  }
  const issuer = await refresh('refresh-token-invalid-issuer')
  t.equal(issuer.before.iss, issuer.provider.issuer)
  t.equal(issuer.claims.iss, `${issuer.provider.issuer}1`)
  t.match(await refresh('refresh-token-invalid-sub'), { before: { sub: 'alice' }, claims: { sub: 'alice1' } })
  t.match(await refresh('refresh-token-invalid-aud'), { before: { aud: 'web' }, claims: { aud: 'web1' } })
  t.match(await refresh('refresh-token-invalid-nonce'), { before: { nonce: 'nonce' }, claims: { nonce: 'another' } })
  const time = await refresh('refresh-token-invalid-auth-time')
  t.equal(time.claims.auth_time, Number(time.before.auth_time) - 60)
  t.match(await refresh('refresh-token-revoked'), { status: 400, body: { error: 'invalid_grant' } })
})

t.test('token responses', async (t) => {
  const response = async (name: FaultName) => (await login(await faulty(t, name))).tokens
  t.equal((await response('token-type-case-insensitivity')).token_type, 'bEARER')
  t.equal((await response('token-response-unknown-token-type')).token_type, 'mac')
  t.type((await response('token-response-expires-in-string')).expires_in, 'string')
  t.equal((await response('token-response-id-token-garbage')).id_token, 'not.a.jwt')
  const missing: Array<[FaultName, string]> = [
    ['token-endpoint-response-without-expires_in', 'expires_in'],
    ['token-response-without-access-token', 'access_token'],
    ['token-response-without-token-type', 'token_type'],
    ['token-response-without-id-token', 'id_token']
  ]
  for (const [name, member] of missing) t.notOk(member in await response(name), name)
})

t.test('userinfo', async (t) => {
  const info = async (name: FaultName) => {
    const provider = await faulty(t, name)
    const { tokens } = await login(provider)
    t.equal(read(tokens.id_token).claims.sub, 'alice')
    const response = await fetch(`${provider.issuer}/userinfo`, {
      headers: { authorization: `Bearer ${String(tokens.access_token)}` }
    })
    return (await response.json()) as Json
  }
  t.match(await info('userinfo-invalid-sub'), { sub: 'alice1', email: 'alice@example.com' })
  t.notOk('sub' in await info('userinfo-missing-sub'))
  t.match(await info('userinfo-overwrites'), { sub: 'alice', iss: 'https://evil.example', aud: 'stranger' })
})

t.test('authorization responses', async (t) => {
  const response = async (name: FaultName) => {
    const provider = await faulty(t, name)
    return { params: await authorize(provider), issuer: provider.issuer }
  }
  const iss = await response('invalid-authorization-response-iss')
  t.equal(iss.params.get('iss'), `${iss.issuer}1`)
  t.notOk((await response('remove-authorization-response-iss')).params.has('iss'))
  t.equal((await response('ensure-authorization-response-with-invalid-state-fails')).params.get('state'), 'state1')
  t.notOk((await response('ensure-authorization-response-with-invalid-missing-state-fails')).params.has('state'))
  t.notOk((await response('authorization-response-without-code')).params.has('code'))
  t.match((await response('authorization-response-other-code')).params.get('code'), /1$/)
  for (const name of ['code', 'state', 'iss'] as const) {
    t.equal((await response(`authorization-response-duplicate-${name}`)).params.getAll(name).length, 2)
  }
  const front = await response('authorization-response-with-tokens')
  t.ok(front.params.has('access_token') && front.params.has('id_token') && front.params.has('code'))
  t.match(Object.fromEntries((await response('authorization-response-error')).params), {
    error: 'access_denied',
    error_description: /<script>/,
    state: 'state',
    code: undefined
  })
  t.match(Object.fromEntries((await response('authorization-response-error-and-code')).params), {
    error: 'server_error',
    code: /./
  })
})

t.test('an authorization response without parameters', async (t) => {
  const provider = await start(t)
  provider.fault({ on: 'authorize', authorizationResponse: () => new URLSearchParams() })
  const response = await fetch(
    `${provider.issuer}/authorize?client_id=web&response_type=code&redirect_uri=${redirect_uri}`,
    { redirect: 'manual' }
  )
  t.equal(response.headers.get('location'), redirect_uri)
})

t.test('faults of a form_post response', async (t) => {
  const provider = await faulty(t, 'authorization-response-duplicate-state')
  const query = new URLSearchParams({
    client_id: 'web',
    redirect_uri,
    response_type: 'code',
    state: 's',
    response_mode: 'form_post'
  })
  const page = await client({ baseUrl: provider.url, submit: false }).goto(`/authorize?${query}`)
  t.same(page.form!.fields.getAll('state'), ['s', 's'])
})

t.test('logout responses', async (t) => {
  const location = async (name: FaultName, state = 'state') => {
    const provider = await faulty(t, name)
    const query = new URLSearchParams({ client_id: 'web', post_logout_redirect_uri: 'https://app.example.com/', state })
    const response = await fetch(`${provider.issuer}/end-session?${query}`, { redirect: 'manual' })
    return new URL(response.headers.get('location')!)
  }
  const other = await location('rp-init-logout-other-state')
  t.match(other.searchParams.get('state'), /^[\w-]{16}$/)
  t.equal((await location('rp-init-logout-no-state')).href, 'https://app.example.com/')
})

t.test('metadata', async (t) => {
  const document = async (name: FaultName) => {
    const provider = await faulty(t, name)
    return { issuer: provider.issuer, provider, got: await metadata(provider) }
  }
  const marked = await document('discovery-openid-config')
  for (const name of ['authorization_endpoint', 'token_endpoint', 'userinfo_endpoint', 'end_session_endpoint']) {
    t.match(marked.got[name], /\?from=[0-9a-f]{12}$/)
  }
  t.equal((await fetch(String(marked.got.authorization_endpoint))).status, 400, 'the marked endpoint is there')
  t.match(marked.provider.requests.at(-1), { endpoint: 'authorize', query: { from: /./ } })
  const keys = await document('discovery-jwks-uri-keys')
  t.ok((await getJson(String(keys.got.jwks_uri))).keys)
  t.match(keys.provider.requests.at(-1), { endpoint: 'jwks', query: { from: /./ } })

  const mismatch = await document('discovery-issuer-mismatch')
  t.equal(mismatch.got.issuer, `${mismatch.issuer}INVALID`)
  const slash = await document('metadata-issuer-trailing-slash')
  t.equal(slash.got.issuer, `${slash.issuer}/`)
  const missing: Array<[FaultName, string]> = [
    ['metadata-without-issuer', 'issuer'],
    ['metadata-without-jwks-uri', 'jwks_uri'],
    ['metadata-without-token-endpoint', 'token_endpoint'],
    ['metadata-without-end-session-endpoint', 'end_session_endpoint'],
    ['metadata-without-pkce', 'code_challenge_methods_supported']
  ]
  for (const [name, member] of missing) t.notOk(member in (await document(name)).got, name)
  t.match((await document('metadata-insecure-token-endpoint')).got, { token_endpoint: /^http:\/\/insecure/ })
  t.match((await document('metadata-endpoint-on-another-host')).got, { token_endpoint: 'https://other.example/token' })
  t.match((await document('metadata-javascript-endpoint')).got, { authorization_endpoint: /^javascript:/ })
  t.match((await document('metadata-endpoint-with-credentials')).got, { token_endpoint: /user:password@/ })
  t.type((await document('metadata-endpoint-not-a-string')).got.token_endpoint, Array)
  t.equal(((await document('metadata-huge-array')).got.scopes_supported as unknown[]).length, 100_000)
})

t.test('key sets', async (t) => {
  const options: ProviderOptions = { clients: [{ client_id: 'web', id_token_signed_response_alg: 'ES256' }] }
  const set = async (name: FaultName) => {
    const provider = await faulty(t, name, options)
    const token = read(provider.idToken())
    return {
      ...((await jwks(provider)) as { keys: JWK[] }),
      real: provider.jwks().keys,
      token,
      verified: await verifies(provider, token)
    }
  }
  t.same((await set('jwks-no-keys')).keys, [])
  t.notOk(Array.isArray((await set('jwks-not-an-array')).keys))
  const many = await set('jwks-10000-keys')
  t.equal(many.keys.length, 10_000 + many.real.length)
  t.ok(many.verified)

  const leaky = await set('jwks-private-keys')
  t.match(leaky.keys[0], { kty: 'EC', kid: 'private', d: String })
  t.same(leaky.keys.slice(1), leaky.real)
  const strange = await set('jwks-unknown-keys')
  t.same(strange.keys.map(({ kty }) => kty).slice(0, 4), ['AKP', 'EC', 'oct', 'RSA'])
  t.ok(strange.verified, 'the right key is there')
  const malformed = await set('jwks-malformed-keys')
  t.same(malformed.keys.slice(-malformed.real.length), malformed.real)
  t.ok(malformed.keys.includes(null as unknown as JWK))

  const decoys = await set('jwks-same-kid-decoys')
  const { kid } = decoys.token.header
  const same = decoys.keys.filter((key) => key.kid === kid)
  t.ok(same.length >= 4)
  t.equal(same.filter(({ alg, use }) => alg === 'ES256' && use === 'sig').length, 1, 'they differ in alg and use')
  t.ok(decoys.verified)
  const twice = await set('jwks-same-kid-twice')
  const rsa = twice.keys.filter(({ kty }) => kty === 'RSA')
  t.equal(rsa.length, 2)
  t.equal(rsa[0]!.kid, rsa[1]!.kid)
  t.not(rsa[0]!.n, rsa[1]!.n)

  const without = await set('jwks-without-kid')
  t.same(without.keys, without.real.map(({ kid: _, ...key }) => key))
  const algless = await set('jwks-without-alg')
  t.notOk(algless.keys.some((key) => 'alg' in key))
  t.ok(algless.verified)
  const gone = await faulty(t, 'jwks-404')
  t.equal((await fetch(`${gone.issuer}/jwks`)).status, 404)
})

const endpoints = ['metadata', 'jwks', 'token', 'userinfo', 'revocation', 'introspection', 'device', 'par'] as const

t.test('each endpoint has each fault of the network', async (t) => {
  const wire = {
    hang: { hang: true },
    stall: { stall: true },
    drip: { drip: true },
    reset: { reset: true },
    cut: { cut: true },
    lost: { reset: true, after: true },
    400: { status: 400 },
    403: { status: 403 },
    429: { status: 429, headers: { 'retry-after': '7' } },
    500: { status: 500 },
    502: { status: 502, headers: { 'content-type': 'text/html' }, body: '<h1>Bad gateway</h1>' },
    503: { status: 503, headers: { 'retry-after': '7' } },
    redirect: { redirect: '/attacker' },
    'redirect-307': { redirect: '/attacker', status: 307 },
    'redirect-cloud': { redirect: 'http://169.254.169.254/latest/meta-data/' }
  } as const
  const garbage = [
    'html', 'empty', 'truncated', 'array', 'null', 'number', 'string', 'content-type', 'no-content-type',
    'gzip-bomb', 'huge', 'deep', 'duplicate-keys', 'bom', 'invalid-utf8'
  ] as const
  const check = (name: FaultName, fault: object) => {
    tested.add(name)
    t.same(faults[name], fault, name)
  }
  for (const on of endpoints) {
    for (const [name, fault] of Object.entries(wire)) check(`${on}-${name as keyof typeof wire}`, { on, ...fault })
    for (const name of garbage) check(`${on}-${name}`, { on, garbage: name })
  }
})

t.test('a named fault can be changed', async (t) => {
  const provider = await start(t)
  provider.fault({ ...faults['jwks-503'], times: 1 })
  t.same([(await fetch(`${provider.url}/jwks`)).status, (await fetch(`${provider.url}/jwks`)).status], [503, 200])
  provider.fault({ ...faults['jwks-redirect'], times: 1 })
  t.equal((await fetch(`${provider.url}/jwks`)).status, 200)
  t.equal(provider.count('attacker'), 1, 'the provider counts a client that follows the redirect')
})

t.test('every named fault is tested', (t) => {
  t.same((Object.keys(faults) as FaultName[]).filter((name) => !tested.has(name)), [])
  t.end()
})
