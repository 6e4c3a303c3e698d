import { createHash, createHmac, createPublicKey, generateKeyPairSync, sign as cryptoSign } from 'node:crypto'
import { SignJWT } from 'jose'
import t from 'tap'
import { verifyIdToken } from '../../lib/provider/id-token.ts'
import { createKeySet } from '../../lib/provider/key-set.ts'
import { faults, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor, providerSettings, silentLog, stopClock } from '../support/app.ts'
import {
  anotherApp, assertLoggedIn, assertRefused, attempt, authorizationParams, loginRoute, untilCallback
} from '../support/protocol.ts'
import { rsaKey } from '../support/keys.ts'
import { until } from '../support/until.ts'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import type { Test } from 'tap'
import type { IdTokenClaims, OidcOptions } from '../../index.ts'
import type { IdTokenExpectations } from '../../lib/provider/id-token.ts'
import type { KeySet } from '../../lib/provider/key-set.ts'
import type { Claims, Fault, FaultName, Provider, ProviderOptions, TokenOptions } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const NONCE = 'the-nonce-that-was-sent'
const ACCESS_TOKEN = 'the-access-token'

async function startedProvider (t: Test, options: ProviderOptions = {}): Promise<Provider> {
  const provider = await startProvider(options)
  t.teardown(async () => await provider.close())
  return provider
}

function now (): number {
  return Math.floor(Date.now() / 1000)
}

// The modules of the conformance suite, and similar ones, with a real provider

const refused: Record<string, Fault | readonly Fault[]> = {
  'C2 invalid-iss': faults['invalid-iss'],
  'C3 missing-sub': faults['missing-sub'],
  'C4 invalid-aud': faults['invalid-aud'],
  'C4 missing-aud': faults['missing-aud'],
  'C5 missing-iat': faults['missing-iat'],
  'C9 C18 C52 idtoken-sig-none': faults['idtoken-sig-none'],
  'C10 invalid-sig-rs256': faults['invalid-sig-rs256'],
  'C10 invalid-sig-hs256': faults['invalid-sig-hs256'],
  'C10 invalid-sig-es256': faults['invalid-sig-es256'],
  'C12 C51 nonce-invalid': faults['nonce-invalid'],
  'C46 invalid-missing-iss': faults['invalid-missing-iss'],
  'C47 invalid-missing-aud': faults['invalid-missing-aud'],
  'C48 invalid-secondary-aud': faults['invalid-secondary-aud'],
  'C50 invalid-expired-exp': faults['invalid-expired-exp'],
  'C50 invalid-missing-exp': faults['invalid-missing-exp'],
  'C51 invalid-missing-nonce': faults['invalid-missing-nonce'],
  'C52 invalid-null-alg': faults['invalid-null-alg'],
  'C53 invalid-alternate-alg': faults['invalid-alternate-alg'],
  'V17 iss-as-array': faults['iss-as-array'],
  'V17 V36 sub-empty': faults['sub-empty'],
  'S27 sub-number': faults['sub-number'],
  'S27 sub-too-long': faults['sub-too-long'],
  'V36 exp-as-string': faults['exp-as-string'],
  'V36 exp-absurd': faults['exp-absurd'],
  'V36 exp-negative': faults['exp-negative'],
  'S27 iat-in-future': faults['iat-in-future'],
  'S27 nbf-in-future': faults['nbf-in-future'],
  'S26 azp-of-another': faults['azp-of-another'],
  'S30 at-hash-invalid': faults['at-hash-invalid'],
  'S28 typ-logout-token': faults['typ-logout-token'],
  'S28 typ-access-token': faults['typ-access-token'],
  'S28 has-events': faults['has-events'],
  'S28 typ no text': { on: 'token', idToken: (_claims, header) => { header['typ'] = 5 } },
  'S25 sig-other-key': faults['sig-other-key'],
  'S25 sig-unknown-kid': faults['sig-unknown-kid'],
  'S25 V17 sig-hs256-public-pem': faults['sig-hs256-public-pem'],
  'S25 V17 sig-hs256-public-jwk': faults['sig-hs256-public-jwk'],
  'S25 sig-hs256-client-secret': faults['sig-hs256-client-secret'],
  'S31 sig-embedded-jwk': faults['sig-embedded-jwk'],
  'S31 sig-jku': faults['sig-jku'],
  'S31 sig-x5u': faults['sig-x5u'],
  'S31 V17 sig-crit': faults['sig-crit'],
  'V17 sig-none-mixed-case': faults['sig-none-mixed-case']
}

t.test('a wrong ID token is refused', async (t) => {
  const provider = await startedProvider(t)
  for (const [name, fault] of Object.entries(refused)) {
    await t.test(name, async (t) => {
      const tried = await attempt(t, provider, fault)
      await assertRefused(t, tried, 403, 'FST_OIDC_ID_TOKEN')
      t.equal(provider.count('token'), 1)
      t.ok(provider.count('jwks') <= 3, `${provider.count('jwks')} requests for keys`)
      t.equal(provider.count('attacker'), 0, 'no key from elsewhere')
    })
  }
})

t.test('a correct ID token logs in', async (t) => {
  const provider = await startedProvider(t)
  const good: Record<string, Fault | readonly Fault[]> = {
    'C1 a plain login': [],
    'C6 kid-absent-single-jwks': faults['kid-absent-single-jwks'],
    'K4 C7 kid-absent-multiple-jwks': faults['kid-absent-multiple-jwks'],
    'C8 idtoken-sig-rs256': faults['idtoken-sig-rs256'],
    'C49 valid-aud-as-array': faults['valid-aud-as-array'],
    'S26 azp is this client': { on: 'token', idToken: (claims) => ({ ...claims, azp: 'web' }) },
    'S30 no at_hash': { on: 'token', idToken: ({ at_hash: _, ...claims }) => claims },
    'S29 no auth_time where none was asked for': faults['auth-time-missing'],
    'S28 typ JWT': { on: 'token', idToken: (_claims, header) => { header['typ'] = 'JWT' } },
    'S31 jku, x5u and jwk beside a right signature are not looked at': {
      on: 'token',
      idToken: (_claims, header) => {
        Object.assign(header, {
          jku: `${provider.issuer}/attacker`,
          x5u: `${provider.issuer}/attacker`,
          jwk: { kty: 'oct', k: 'AAAA' },
          x5c: ['AAAA']
        })
      }
    },
    'R10 exp in the year 10000': { on: 'token', idToken: (claims) => ({ ...claims, exp: 253_402_300_800 }) }
  }
  for (const [name, fault] of Object.entries(good)) {
    await t.test(name, async (t) => {
      const { browser, page } = await attempt(t, provider, fault)
      t.same([page.status, page.url], [200, `${BASE_URL}/me`])
      await assertLoggedIn(t, browser)
      t.equal(provider.count('attacker'), 0)
    })
  }
})

t.test('C13 the claims of the scopes that were asked for', async (t) => {
  const address = { locality: 'Bern' }
  const provider = await startedProvider(t, {
    users: [{ sub: 'alice', name: 'Alice', email: 'a@example.com', phone_number: '+41 0', address }]
  })
  const { page } = await attempt(t, provider, [], { scope: 'openid profile email phone address' })
  t.match(page.json().claims, { name: 'Alice', email: 'a@example.com', phone_number: '+41 0', address })
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['scope'],
    'openid profile email phone address'
  )
  const less = await attempt(t, provider, [], { scope: 'openid email' })
  t.same(less.page.json().claims, { iss: provider.issuer, sub: 'alice', acr: '1', email: 'a@example.com' })
})

t.test('V32 the subject is kept as it is, byte by byte', async (t) => {
  const provider = await startedProvider(t)
  for (const sub of [
    'Alice',
    'alice ',
    'ALICE',
    'a'.repeat(255),
    '../alice',
    'älice',
    '<b>',
    '0',
    'null',
    '__proto__'
  ]) {
    provider.options.approve = () => ({ sub })
    const { browser } = await attempt(t, provider)
    await assertLoggedIn(t, browser, sub)
  }
})

t.test('R19 claims with the names of Object.prototype are only claims', async (t) => {
  const provider = await startedProvider(t)
  const { app, browser } = await anotherApp(t, provider, { userinfo: true })
  app.get('/admin', { preHandler: app.oidc.required({ claims: { isAdmin: true } }) }, async () => 'secret')
  app.get('/look', { preHandler: app.oidc.required() }, async ({ oidcClaims }) => ({
    isAdmin: oidcClaims?.['isAdmin'] ?? null,
    sub: oidcClaims?.sub
  }))
  provider.fault(faults['claims-prototype'], {
    on: 'userinfo',
    userinfo: (claims) => ({
      ...claims,
      ...(JSON.parse('{"__proto__":{"isAdmin":true},"hasOwnProperty":1}') as Claims)
    })
  })
  const page = await browser.goto('/auth/login?return_to=/look')
  t.equal(page.status, 200)
  t.same(page.json(), { isAdmin: null, sub: 'alice' })
  t.equal((await browser.goto('/admin')).status, 403)
  t.notOk('isAdmin' in {})
})

// Each check by itself

interface Bench {
  provider: Provider
  keySet: KeySet
  verify: (
    token: TokenOptions | string,
    expected?: Partial<IdTokenExpectations>,
    options?: Partial<OidcOptions>
  ) => Promise<IdTokenClaims>
}

async function bench (t: Test, provider?: Provider): Promise<Bench> {
  const op = provider ?? await startedProvider(t)
  const keySet = createKeySet(`${op.issuer}/jwks`, async (url, init) => await fetch(url, init), silentLog)
  return {
    provider: op,
    keySet,
    verify: async (token, expected = {}, options = {}) => {
      const settings = providerSettings(optionsFor(op, options))
      const jwt =
        typeof token === 'string' ? token : op.idToken({ ...token, overrides: { nonce: NONCE, ...token.overrides } })
      return await verifyIdToken(jwt, keySet, settings, {
        issuer: op.issuer,
        nonce: NONCE,
        accessToken: ACCESS_TOKEN,
        ...expected
      })
    }
  }
}

type BadClaims = [what: string, claims: Claims, detail: RegExp]

t.test('S26 S27 S28 S30 each claim is checked by itself', async (t) => {
  const { provider, verify } = await bench(t)
  const time = now()
  const bad: BadClaims[] = [
    ['iss of another', { iss: 'https://evil.example' }, /"iss"/],
    ['iss with a slash', { iss: `${provider.issuer}/` }, /"iss"/],
    ['iss missing', { iss: undefined }, /"iss"/],
    ['iss a list', { iss: [provider.issuer] }, /"iss"/],
    ['sub missing', { sub: undefined }, /"sub"/],
    ['sub empty', { sub: '' }, /^sub must be/],
    ['sub a number', { sub: 42 }, /^sub must be/],
    ['sub null', { sub: null }, /^sub must be/],
    ['sub a list', { sub: ['alice'] }, /^sub must be/],
    ['sub too long', { sub: 'a'.repeat(256) }, /^sub must be/],
    ['aud of another', { aud: 'stranger' }, /"aud"/],
    ['aud missing', { aud: undefined }, /"aud"/],
    ['aud an empty list', { aud: [] }, /"aud"/],
    ['aud a part', { aud: 'we' }, /"aud"/],
    ['aud an object', { aud: { web: true } }, /"aud"/],
    ['aud with a stranger', { aud: ['web', 'stranger'] }, /^aud names/],
    ['aud with a stranger, azp right', { aud: ['web', 'stranger'], azp: 'web' }, /^aud names/],
    ['aud with a number', { aud: ['web', 7], azp: 'web' }, /^aud names/],
    ['aud twice', { aud: ['web', 'web'] }, /^azp must be/],
    ['azp of another', { azp: 'stranger' }, /^azp must be/],
    ['azp empty', { azp: '' }, /^azp must be/],
    ['azp null', { azp: null }, /^azp must be/],
    ['exp missing', { exp: undefined }, /"exp"/],
    ['exp in the past', { exp: time - 3600 }, /"exp"/],
    ['exp text', { exp: String(time + 3600) }, /"exp"/],
    ['exp "1"', { exp: '1' }, /"exp"/],
    ['exp -1', { exp: -1 }, /"exp"/],
    ['exp 1.5', { exp: 1.5 }, /"exp"/],
    ['exp null', { exp: null }, /"exp"/],
    ['exp a list', { exp: [time + 3600] }, /"exp"/],
    ['exp 1e300', { exp: 1e300 }, /^exp is out of range/],
    ['iat missing', { iat: undefined }, /"iat"/],
    ['iat text', { iat: String(time) }, /"iat"/],
    ['iat null', { iat: null }, /"iat"/],
    ['iat in the future', { iat: time + 3600 }, /^iat is/],
    ['iat 1e300', { iat: 1e300 }, /^iat is/],
    ['nbf in the future', { nbf: time + 3600 }, /"nbf"/],
    ['nbf text', { nbf: 'x' }, /"nbf"/],
    ['auth_time a list', { auth_time: [time] }, /^auth_time must/],
    ['auth_time in the future', { auth_time: time + 3600 }, /^auth_time must/],
    ['nonce missing', { nonce: undefined }, /^nonce/],
    ['nonce of another', { nonce: `${NONCE.slice(0, -1)}x` }, /^nonce/],
    ['nonce longer', { nonce: `${NONCE}x` }, /^nonce/],
    ['nonce shorter', { nonce: NONCE.slice(0, -1) }, /^nonce/],
    ['nonce empty', { nonce: '' }, /^nonce/],
    ['nonce a list', { nonce: [NONCE] }, /^nonce/],
    ['at_hash of another', { at_hash: 'AAAAAAAAAAAAAAAAAAAAAA' }, /^at_hash/],
    ['at_hash a number', { at_hash: 1 }, /^at_hash/],
    ['at_hash empty', { at_hash: '' }, /^at_hash/],
    ['events', { events: {} }, /^events/],
    ['events null', { events: null }, /^events/]
  ]
  for (const [what, overrides, detail] of bad) {
    await t.rejects(verify({ overrides }), { code: 'FST_OIDC_ID_TOKEN', statusCode: 403, detail }, what)
  }
  const good: Array<[what: string, claims: Claims]> = [
    ['as it is', {}],
    ['aud a list', { aud: ['web'] }],
    ['azp this client', { azp: 'web' }],
    ['sub of 255 characters', { sub: 'a'.repeat(255) }],
    ['exp with a fraction', { exp: time + 100.5 }],
    ['exp in 2040', { exp: 2_208_988_800 }],
    ['nbf in the past', { nbf: time - 10 }],
    ['auth_time long ago', { auth_time: 1 }],
    ['no auth_time, sid and acr', { auth_time: undefined, sid: undefined, acr: undefined }]
  ]
  for (const [what, overrides] of good) {
    t.equal((await verify({ overrides })).iss, provider.issuer, what)
  }
})

t.test('S28 the type of the token', async (t) => {
  const { verify } = await bench(t)
  for (const typ of [
    'logout+jwt',
    'at+jwt',
    'AT+JWT',
    'application/at+jwt',
    'dpop+jwt',
    'secevent+jwt',
    'token-introspection+jwt',
    'oauth-authz-req+JWT',
    5,
    null,
    ['JWT'],
    {}
  ]) {
    await t.rejects(
      verify({ header: { typ } }),
      { code: 'FST_OIDC_ID_TOKEN', detail: 'typ names another kind of token' },
      JSON.stringify(typ)
    )
  }
  for (const typ of [undefined, 'JWT', 'jwt', 'application/jwt', 'JOSE']) {
    t.ok(await verify({ header: { typ } }), String(typ))
  }
})

t.test('S26 trusted audiences may stand beside this client', async (t) => {
  const { verify } = await bench(t)
  const options = { trustedAudiences: ['api'] }
  t.ok(await verify({ overrides: { aud: ['web', 'api'], azp: 'web' } }, {}, options))
  t.ok(await verify({ overrides: { aud: ['web'] } }, {}, options))
  await t.rejects(
    verify({ overrides: { aud: ['web', 'api'] } }, {}, options),
    { code: 'FST_OIDC_ID_TOKEN', detail: /^azp must/ },
    'azp must name the client'
  )
  await t.rejects(verify({ overrides: { aud: ['web', 'api'], azp: 'api' } }, {}, options), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /^azp must/
  })
  await t.rejects(verify({ overrides: { aud: ['web', 'api', 'stranger'], azp: 'web' } }, {}, options), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /^aud names/
  })
  await t.rejects(
    verify({ overrides: { aud: 'api', azp: 'web' } }, {}, options),
    { code: 'FST_OIDC_ID_TOKEN', detail: /"aud"/ },
    'not instead of it'
  )
})

t.test('K4 trustedAudiences may be a function or "*", and azp must still be this client', async (t) => {
  const { verify } = await bench(t)
  const asked: string[] = []
  const all: Array<Partial<OidcOptions>> = [
    { trustedAudiences: '*' },
    { trustedAudiences: (audience) => { asked.push(audience); return audience.startsWith('project-') } },
    { trustedAudiences: async (audience) => audience.startsWith('project-') }
  ]
  for (const options of all) {
    const aud = ['web', 'project-1', 'project-2']
    t.equal((await verify({ overrides: { aud, azp: 'web' } }, {}, options)).sub, 'alice')
    for (const overrides of [{ aud, azp: 'project-1' }, { aud }, { aud, azp: null }, { aud: 'web', azp: 'other' }]) {
      await t.rejects(verify({ overrides }, {}, options), { code: 'FST_OIDC_ID_TOKEN', detail: /^azp must/ })
    }
    await t.rejects(verify({ overrides: { aud: ['project-1'], azp: 'web' } }, {}, options), { code: 'FST_OIDC_ID_TOKEN', detail: /"aud"/ })
    await t.rejects(verify({ overrides: { aud: ['web', 7], azp: 'web' } }, {}, options), { code: 'FST_OIDC_ID_TOKEN', detail: /^aud names 7/ })
  }
  t.same([...new Set(asked)], ['project-1', 'project-2'], 'this client itself is not asked about')
  const none: Array<Partial<OidcOptions>> = [
    { trustedAudiences: () => false },
    { trustedAudiences: () => 'yes' as unknown as boolean },
    { trustedAudiences: async () => await Promise.resolve(false) },
    { trustedAudiences: () => undefined as unknown as boolean }
  ]
  for (const options of none) {
    await t.rejects(verify({ overrides: { aud: ['web', 'project-1'], azp: 'web' } }, {}, options), {
      code: 'FST_OIDC_ID_TOKEN', detail: 'aud names "project-1", which is not among "trustedAudiences"'
    })
  }
  const failing = { trustedAudiences: () => { throw new Error('a bug') } }
  await t.rejects(verify({ overrides: { aud: ['web', 'project-1'], azp: 'web' } }, {}, failing), {
    code: 'FST_OIDC_UNEXPECTED', statusCode: 500, cause: { message: 'a bug' }
  })
  const hanging = { trustedAudiences: async () => await new Promise<boolean>(() => {}), timeout: 0.02 }
  await t.rejects(verify({ overrides: { aud: ['web', 'project-1'], azp: 'web' } }, {}, hanging), {
    code: 'FST_OIDC_UNEXPECTED', statusCode: 503, cause: { message: 'it has not ended within 0.02 s, as "timeout" demands' }
  })
})

t.test('K4 auth_time as text or null and at_hash null are absent, unless auth_time was asked for', async (t) => {
  const { verify } = await bench(t)
  for (const time of [String(now()), null, '', 'yesterday']) {
    const claims = await verify({ overrides: { auth_time: time, at_hash: null } })
    t.equal(claims.auth_time, undefined)
    await t.rejects(verify({ overrides: { auth_time: time } }, { maxAge: 300 }), {
      code: 'FST_OIDC_ID_TOKEN', detail: `auth_time is ${JSON.stringify(time)}, not a number`
    })
  }
  const provider = await startedProvider(t)
  const { browser, page } = await attempt(t, provider, {
    on: 'token', idToken: (claims) => ({ ...claims, auth_time: String(now()), at_hash: null })
  })
  await assertLoggedIn(t, browser)
  t.notOk('authTime' in page.json().session)
  const asked = await attempt(
    t, provider, { on: 'token', idToken: (claims) => ({ ...claims, auth_time: String(now()) }) },
    { authorizationParams: { max_age: '300' } }
  )
  await assertRefused(t, asked, 403, 'FST_OIDC_ID_TOKEN')
})

t.test('R10 the clocks may differ by the tolerance, and no more', async (t) => {
  stopClock(t)
  const { verify } = await bench(t)
  for (const [tolerance, options] of [[30, {}], [0, { clockTolerance: 0 }], [300, { clockTolerance: 300 }]] as const) {
    const within = tolerance - 1
    const beyond = tolerance + 1
    const checks: Array<[name: string, claims: (skew: number) => Claims, expected?: Partial<IdTokenExpectations>]> = [
      ['exp', (skew) => ({ exp: now() - skew })],
      ['iat', (skew) => ({ iat: now() + skew })],
      ['nbf', (skew) => ({ nbf: now() + skew })],
      ['auth_time', (skew) => ({ auth_time: now() + skew })],
      ['max_age', (skew) => ({ auth_time: now() - 100 - skew }), { maxAge: 100 }]
    ]
    for (const [name, claims, expected] of checks) {
      t.ok(await verify({ overrides: claims(within) }, expected, options), `${name} within ${tolerance}`)
      await t.rejects(
        verify({ overrides: claims(beyond) }, expected, options),
        { code: 'FST_OIDC_ID_TOKEN' },
        `${name} beyond ${tolerance}`
      )
      await t.rejects(
        verify({ overrides: claims(3600) }, expected, options),
        { code: 'FST_OIDC_ID_TOKEN' },
        `${name} by an hour`
      )
    }
  }
})

t.test('R10 clocks that differ, with a real provider', async (t) => {
  const provider = await startedProvider(t)
  const shift = (seconds: number): Fault => ({
    on: 'token',
    idToken: (claims) => ({
      ...claims,
      ...Object.fromEntries(['iat', 'exp', 'auth_time'].map((name) => [name, Number(claims[name]) + seconds]))
    })
  })
  for (const [seconds, status] of [
    [27, 200],
    [-27, 200],
    [-3627, 200],
    [33, 403],
    [3600, 403],
    [-3633, 403],
    [-7200, 403]
  ] as const) {
    const { page } = await attempt(t, provider, shift(seconds))
    t.equal(page.status, status, `the provider is off by ${seconds} seconds`)
  }
  const clock = startClock()
  t.teardown(() => clock.restore())
  for (const date of ['2038-01-19T03:14:00Z', '2038-01-20', '2106-02-08', '9999-12-31']) {
    clock.set(date)
    const { page } = await attempt(t, provider)
    t.equal(page.status, 200, date)
  }
})

// auth_time, max_age and acr

t.test('S29 max_age is checked, from the options and from a login', async (t) => {
  const provider = await startedProvider(t)
  const ways: Array<[what: string, path: string, options?: Partial<OidcOptions>]> = [
    ['a guard', '/recent'],
    ['login()', '/again'],
    ['authorizationParams of login()', '/params'],
    ['authorizationParams of the options', '/auth/login', { authorizationParams: { max_age: '300' } }]
  ]
  for (const [what, path, options] of ways) {
    await t.test(what, async (t) => {
      const { app, browser } = await anotherApp(t, provider, options)
      app.get('/recent', { preHandler: app.oidc.required({ maxAge: 300 }) }, async () => ({ page: 'recent' }))
      loginRoute(app, '/again', { maxAge: 300 })
      loginRoute(app, '/params', { authorizationParams: { max_age: '300' } })
      t.equal(authorizationParams(await browser.step(path))['max_age'], '300')
      for (const name of ['auth-time-missing', 'auth-time-too-old'] as const) {
        provider.clearRequests()
        const off = provider.fault(faults[name])
        await assertRefused(t, { page: await browser.goto(path), browser, provider }, 403, 'FST_OIDC_ID_TOKEN')
        off()
      }
      const page = await browser.goto(path)
      t.equal(page.status, 200)
      await assertLoggedIn(t, browser)
    })
  }
})

t.test('S29 a max_age of a login takes the place of that of the options', async (t) => {
  const provider = await startedProvider(t)
  const { app, browser } = await anotherApp(t, provider, { authorizationParams: { max_age: '10' } })
  loginRoute(app, '/long', { maxAge: 100_000 })
  loginRoute(app, '/zero', { maxAge: 0 })
  provider.fault(faults['auth-time-too-old'])
  t.equal((await browser.goto('/auth/login')).status, 403)
  t.equal((await browser.goto('/long')).status, 200)
  t.equal(authorizationParams(await browser.step('/zero'))['max_age'], '0')
  for (const maxAge of ['soon', '-1', '1.5', '1e3', ' 1']) {
    await t.rejects(
      anotherApp(t, provider, { authorizationParams: { max_age: maxAge } }),
      { code: 'FST_OIDC_OPTION' },
      maxAge
    )
  }
})

t.test('S29 a requested acr is checked', async (t) => {
  const provider = await startedProvider(t)
  for (const [path, wanted] of [['/gold', 'gold'], ['/metal', 'silver gold']] as const) {
    const { app, browser } = await anotherApp(t, provider)
    app.get('/gold', { preHandler: app.oidc.required({ acr: 'gold' }) }, async ({ oidcSession }) => ({
      acr: oidcSession?.acr
    }))
    app.get('/home', async () => 'home')
    loginRoute(app, '/metal', { acrValues: ['silver', 'gold'], returnTo: '/gold' })
    t.equal(authorizationParams(await browser.step(path))['acr_values'], wanted)
    const wrong: Fault[] = [
      faults['acr-missing'],
      ...['bronze', 'Gold', 1, null, ['gold']].map((acr): Fault => ({
        on: 'token',
        idToken: (claims) => ({ ...claims, acr })
      }))
    ]
    for (const fault of wrong) {
      provider.clearRequests()
      const off = provider.fault(fault)
      await assertRefused(t, { page: await browser.goto(path), browser, provider }, 403, 'FST_OIDC_ID_TOKEN')
      off()
    }
    provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: 'gold' }) })
    const page = await browser.goto(path)
    t.same([page.status, page.json()], [200, { acr: 'gold' }])
    provider.clearFaults()
  }
})

t.test('S29 max_age and acr by themselves', async (t) => {
  const { verify } = await bench(t)
  await t.rejects(verify({ overrides: { auth_time: undefined } }, { maxAge: 300 }), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /max_age/
  })
  await t.rejects(verify({ overrides: { auth_time: now() - 1000 } }, { maxAge: 300 }), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /max_age/
  })
  await t.rejects(verify({ overrides: { acr: 'bronze' } }, { acrValues: ['silver', 'gold'] }), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /^acr/
  })
  await t.rejects(verify({ overrides: { acr: undefined } }, { acrValues: ['gold'] }), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /^acr/
  })
  await t.rejects(verify({ overrides: { acr: ['gold'] } }, { acrValues: ['gold'] }), {
    code: 'FST_OIDC_ID_TOKEN',
    detail: /^acr/
  })
  t.ok(await verify({ overrides: { acr: 'gold' } }, { acrValues: ['silver', 'gold'], maxAge: 300 }))
})

t.test('S59 the nonce may be missing after a refresh', async (t) => {
  const { verify } = await bench(t)
  t.ok(await verify({ overrides: { nonce: undefined } }, { nonce: undefined }))
})

// Signatures

const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url')

/** A JWT that libraries refuse to make. */
function forge (header: unknown, claims: unknown, sign: (input: string) => Buffer): string {
  const input = `${encode(header)}.${encode(claims)}`
  return `${input}.${sign(Buffer.from(input).toString()).toString('base64url')}`
}

function claimsFor ({ issuer }: Provider): Claims {
  return { iss: issuer, sub: 'alice', aud: 'web', iat: now(), exp: now() + 600, nonce: NONCE }
}

t.test('S25 V17 a token signed with a public value as its secret is refused', async (t) => {
  const { provider, verify } = await bench(t)
  const jwk = provider.jwks().keys[0] as JWK
  const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' })
  const pem = key.export({ type: 'spki', format: 'pem' }) as string
  const secrets: Record<string, string | Buffer> = {
    pem,
    'pem with space before it': ` \n\t${pem}`,
    'pem without its last newline': pem.trim(),
    'pem with CRLF': pem.replaceAll('\n', '\r\n'),
    'pem in PKCS #1': key.export({ type: 'pkcs1', format: 'pem' }) as string,
    der: key.export({ type: 'spki', format: 'der' }),
    jwk: JSON.stringify(jwk),
    'jwk set': JSON.stringify(provider.jwks()),
    modulus: jwk.n as string,
    'modulus as bytes': Buffer.from(jwk.n as string, 'base64url'),
    kid: jwk.kid as string,
    empty: '',
    'client secret': provider.clients[0]?.client_secret as string,
    'client id': 'web'
  }
  for (const [what, secret] of Object.entries(secrets)) {
    for (const [alg, hash] of [
      ['HS256', 'sha256'],
      ['HS384', 'sha384'],
      ['HS512', 'sha512'],
      ['RS256', 'sha256']
    ] as const) {
      const token = forge({ alg, kid: jwk.kid }, claimsFor(provider), (input) =>
        createHmac(hash, secret).update(input).digest()
      )
      await t.rejects(verify(token), { code: 'FST_OIDC_ID_TOKEN' }, `${alg} ${what}`)
    }
  }
})

t.test('S25 V17 the configured algorithm counts, not that of the token', async (t) => {
  const { provider, verify } = await bench(t)
  const { kid } = provider.jwks().keys[0] as JWK
  const [header, body, signature] = provider.idToken({ overrides: { nonce: NONCE } }).split('.') as [
    string,
    string,
    string
  ]
  t.match(JSON.parse(Buffer.from(header, 'base64url').toString()), { alg: 'RS256', kid })
  t.ok(await verify(`${header}.${body}.${signature}`))
  for (const alg of [
    'none',
    'None',
    'NONE',
    'nOnE',
    '',
    'rs256',
    'RS256 ',
    ' RS256',
    'RS384',
    'RS512',
    'PS256',
    'ES256',
    'HS256',
    'EdDSA',
    'RSA-OAEP',
    'dir',
    null,
    5,
    ['RS256'],
    {},
    undefined
  ]) {
    for (const end of ['', signature]) {
      await t.rejects(
        verify(`${encode({ alg, kid })}.${body}.${end}`),
        { code: 'FST_OIDC_ID_TOKEN' },
        `${JSON.stringify(alg)} ${end.length}`
      )
    }
  }
})

t.test('S25 V17 a token with a changed part is refused', async (t) => {
  const { provider, verify } = await bench(t)
  const { kid } = provider.jwks().keys[0] as JWK
  const token = provider.idToken({ overrides: { nonce: NONCE } })
  const [header, body, signature] = token.split('.') as [string, string, string]
  const other = encode({ ...claimsFor(provider), sub: 'mallory' })
  const bad = [
    '',
    '.',
    '..',
    '...',
    'x',
    `${header}.${body}`,
    `${header}.${body}.`,
    `${header}..${signature}`,
    `.${body}.${signature}`,
    `${header}.${other}.${signature}`,
    `${token}.`,
    `${token}.${signature}`,
    `${header}.${body}.${signature}.x.y`,
    `${header}.${body}.${signature.slice(0, -4)}`,
    `${header}.${body}.${signature}AAAA`,
    ` ${token}`,
    `${header}.${body}=.${signature}`,
    `Bearer ${token}`,
    JSON.stringify({ protected: header, payload: body, signature }),
    forge({ alg: 'RS256', kid }, [claimsFor(provider)], () => Buffer.from(signature, 'base64url')),
    forge({ alg: 'RS256', kid, b64: false, crit: ['b64'] }, claimsFor(provider), () =>
      Buffer.from(signature, 'base64url')
    ),
    forge({ alg: 'RS256', kid, crit: [] }, claimsFor(provider), () => Buffer.from(signature, 'base64url')),
    `${encode('header')}.${body}.${signature}`,
    `${encode(null)}.${body}.${signature}`,
    `${encode([])}.${body}.${signature}`,
    `!.${body}.${signature}`
  ]
  for (const [index, jwt] of bad.entries()) {
    await t.rejects(verify(jwt), { code: 'FST_OIDC_ID_TOKEN' }, `${index} ${jwt.slice(0, 20)}`)
  }
  t.ok(await verify(token))
})

t.test('V35 S32 an encrypted token is refused without any work', async (t) => {
  const { provider, verify } = await bench(t)
  const headers = [
    { alg: 'PBES2-HS256+A128KW', enc: 'A128GCM', p2c: 1_000_000_000, p2s: 'AAAAAAAAAAA' },
    { alg: 'RSA-OAEP', enc: 'A256GCM', zip: 'DEF' },
    { alg: 'RSA1_5', enc: 'A128CBC-HS256' },
    { alg: 'dir', enc: 'A256GCM', zip: 'DEF' },
    { alg: 'RS256', enc: 'A256GCM' }
  ]
  for (const header of headers) {
    const jwe = [
      encode(header),
      ...['key', 'iv', 'x'.repeat(100_000), 'tag'].map((part) => Buffer.from(part).toString('base64url'))
    ].join('.')
    await t.rejects(verify(jwe), { code: 'FST_OIDC_ID_TOKEN' }, header.alg)
    const tried = await attempt(t, provider, { on: 'token', idTokenRaw: () => jwe })
    t.ok([403, 502].includes(tried.page.status), `status ${tried.page.status}`)
    await assertRefused(t, tried, tried.page.status, 'FST_OIDC_')
  }
})

t.test('S31 an unknown crit is refused although the signature is right', async (t) => {
  const { verify } = await bench(t)
  for (const header of [
    { crit: ['urn:unknown'], 'urn:unknown': true },
    { crit: ['exp'], exp: 1 },
    { crit: [] },
    { crit: 'exp' }
  ]) {
    await t.rejects(verify({ header }), { code: 'FST_OIDC_ID_TOKEN' }, JSON.stringify(header))
  }
})

t.test('S25 C53 every algorithm works when it is the configured one, and only then', async (t) => {
  const algs = ['RS256', 'PS256', 'ES256', 'EdDSA'] as const
  for (const registered of algs) {
    const provider = await startedProvider(t, {
      clients: [{ client_id: 'web', client_secret: 'x'.repeat(40), id_token_signed_response_alg: registered }]
    })
    for (const idTokenSigningAlg of algs) {
      const tried = await attempt(t, provider, [], { idTokenSigningAlg })
      if (idTokenSigningAlg === registered) await assertLoggedIn(t, tried.browser)
      else await assertRefused(t, tried, 403, 'FST_OIDC_ID_TOKEN')
    }
  }
})

const rsa = rsaKey(0)
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })
const ed = generateKeyPairSync('ed25519')
const pairs: Record<string, { publicKey: KeyObject; privateKey: KeyObject }> = {
  RS384: rsa,
  RS512: rsa,
  PS384: rsa,
  PS512: rsa,
  ES256: ec('P-256'),
  ES384: ec('P-384'),
  ES512: ec('P-521'),
  EdDSA: ed,
  Ed25519: ed
}

function jsonResponse (value: unknown): Response {
  return new Response(JSON.stringify(value), { headers: { 'content-type': 'application/json' } })
}

function keySetOf (keys: unknown[]): KeySet {
  return createKeySet('https://op.example/jwks', async () => jsonResponse({ keys }), silentLog)
}

t.test('S30 the at_hash of every algorithm', async (t) => {
  const { provider } = await bench(t)
  const halfHash = (bits: number): string =>
    createHash(`sha${bits}`)
      .update(ACCESS_TOKEN)
      .digest()
      .subarray(0, bits / 16)
      .toString('base64url')
  for (const [alg, { publicKey, privateKey }] of Object.entries(pairs)) {
    const keySet = keySetOf([{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }])
    const settings = providerSettings(optionsFor(provider, { idTokenSigningAlg: alg as 'RS384' }))
    const right = alg.startsWith('Ed') ? 512 : Number(alg.slice(2))
    for (const bits of [256, 384, 512]) {
      const token = await new SignJWT({ nonce: NONCE, at_hash: halfHash(bits) })
        .setProtectedHeader({ alg, kid: 'k' })
        .setIssuer(provider.issuer)
        .setAudience('web')
        .setSubject('alice')
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(privateKey)
      const verified = verifyIdToken(token, keySet, settings, {
        issuer: provider.issuer,
        nonce: NONCE,
        accessToken: ACCESS_TOKEN
      })
      if (bits === right) t.equal((await verified).sub, 'alice', `${alg} ${bits}`)
      else await t.rejects(verified, { code: 'FST_OIDC_ID_TOKEN', detail: /^at_hash/ }, `${alg} ${bits}`)
    }
  }
})

t.test('S25 a key set with a shared secret in it verifies nothing', async (t) => {
  const { provider } = await bench(t)
  const secret = 'k'.repeat(32)
  const keySet = keySetOf([{ kty: 'oct', kid: 'k', alg: 'HS256', k: Buffer.from(secret).toString('base64url') }])
  const token = forge({ alg: 'HS256', kid: 'k' }, claimsFor(provider), (input) =>
    createHmac('sha256', secret).update(input).digest()
  )
  await t.rejects(keySet.verify(token, { algorithms: ['HS256'] }), { code: 'ERR_JOSE_NOT_SUPPORTED' })
})

// Key selection

t.test('K4 S33 R7 C6 C7 the choice of a key of the set', async (t) => {
  const provider = await startedProvider(t)
  const good: FaultName[] = [
    'jwks-private-keys', 'jwks-unknown-keys', 'jwks-malformed-keys', 'jwks-same-kid-decoys', 'jwks-without-alg',
    'kid-absent-single-jwks', 'jwks-same-kid-twice', 'jwks-without-kid', 'kid-absent-multiple-jwks'
  ]
  for (const name of good) {
    const { browser } = await attempt(t, provider, faults[name])
    await assertLoggedIn(t, browser)
    t.equal(provider.count('jwks'), 1, name)
  }
  const bad: Array<[name: FaultName, status: number, code: string]> = [
    ['jwks-no-keys', 403, 'FST_OIDC_ID_TOKEN'],
    ['jwks-not-an-array', 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['jwks-404', 502, 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  for (const [name, status, code] of bad) {
    await t.test(name, async (t) => {
      await assertRefused(t, await attempt(t, provider, faults[name]), status, code)
      t.ok(provider.count('jwks') <= 3)
    })
  }
})

t.test('S33 a key for another use is not used', async (t) => {
  const { provider } = await bench(t)
  const publicJwk = rsa.publicKey.export({ format: 'jwk' })
  const sign = (input: string): Buffer => cryptoSign('sha256', Buffer.from(input), rsa.privateKey)
  const settings = providerSettings(optionsFor(provider))
  const verify = async (members: Claims, header: Claims = {}): Promise<IdTokenClaims> => {
    const keySet = keySetOf([{ ...publicJwk, kid: 'k', ...members }])
    const token = forge({ alg: 'RS256', kid: 'k', ...header }, claimsFor(provider), sign)
    return await verifyIdToken(token, keySet, settings, {
      issuer: provider.issuer,
      nonce: NONCE,
      accessToken: ACCESS_TOKEN
    })
  }
  t.ok(await verify({}))
  t.ok(await verify({ use: 'sig', alg: 'RS256', key_ops: ['verify'], ext: true, x5t: 'x' }))
  const others: Claims[] = [
    { use: 'enc' },
    { key_ops: ['encrypt'] },
    { alg: 'RS512' },
    { alg: 'PS256' },
    { alg: 'RSA-OAEP' },
    { alg: 'HS256' },
    { kid: 'K' },
    { kid: 'k ' },
    { kid: 7 },
    { kty: 'EC' },
    { kty: 'oct', k: 'AAAA' },
    { kty: 'rsa' },
    { kty: undefined },
    rsa.privateKey.export({ format: 'jwk' }) as Claims,
    { n: undefined },
    { e: 'AQAC' }
  ]
  for (const members of others) {
    await t.rejects(verify(members), { code: 'FST_OIDC_ID_TOKEN' }, JSON.stringify(members).slice(0, 60))
  }
  for (const kid of ['../k', 'k\u0000', 'K', '', 'k,RS256', '__proto__', 7, null, ['k']]) {
    await t.rejects(verify({}, { kid }), { code: 'FST_OIDC_ID_TOKEN' }, `V19 kid ${JSON.stringify(kid)}`)
  }
})

t.test('V17 S25 a key that names no algorithm is used with the configured one only', async (t) => {
  const { provider } = await bench(t)
  for (const key of [{}, { alg: 'RS256' }]) {
    const keySet = keySetOf([{ ...rsa.publicKey.export({ format: 'jwk' }), kid: 'k', ...key }])
    for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']) {
      const token = await new SignJWT({ nonce: NONCE })
        .setProtectedHeader({ alg, kid: 'k' })
        .setIssuer(provider.issuer)
        .setAudience('web')
        .setSubject('alice')
        .setIssuedAt()
        .setExpirationTime('5m')
        .sign(rsa.privateKey)
      const verified = verifyIdToken(token, keySet, providerSettings(optionsFor(provider)), {
        issuer: provider.issuer,
        nonce: NONCE,
        accessToken: ACCESS_TOKEN
      })
      if (alg === 'RS256') t.equal((await verified).sub, 'alice')
      else await t.rejects(verified, { code: 'FST_OIDC_ID_TOKEN', cause: { code: 'ERR_JOSE_ALG_NOT_ALLOWED' } }, alg)
    }
  }
})

t.test('S53 V19 a key that was removed stops working within the age of the cache', async (t) => {
  const { provider, keySet, verify } = await bench(t)
  const clock = startClock()
  t.teardown(() => clock.restore())
  const lasting = { exp: now() + 86_400 }
  const old = provider.idToken({ overrides: { nonce: NONCE, ...lasting } })
  t.ok(await verify(old))
  provider.rotateKeys()
  clock.advance(599)
  t.ok(await verify(old), 'the keys are used for ten minutes')
  clock.advance(2)
  t.ok(await verify(old), 'and until others have come')
  await until(async () => await verify(old).then(() => false, () => true))
  await t.rejects(verify(old), { code: 'FST_OIDC_ID_TOKEN' }, 'they are replaced as a whole')
  const next = provider.idToken({ overrides: { nonce: NONCE, ...lasting } })
  t.ok(await verify(next))
  provider.rotateKeys()
  clock.advance(3600)
  await t.rejects(verify(next), { code: 'FST_OIDC_ID_TOKEN' }, 'keys of long ago do not count at all')
  t.ok(await verify({ overrides: lasting }))
  t.type(keySet.verify, 'function')
})

// UserInfo

t.test('C11 S34 UserInfo of another user is refused', async (t) => {
  const provider = await startedProvider(t)
  const answer = (change: (claims: Claims) => unknown): Fault => ({
    on: 'userinfo',
    answer: (answer) => ({ ...answer, body: JSON.stringify(change(JSON.parse(String(answer.body)) as Claims)) })
  })
  const cases: Array<[what: string, fault: Fault | Fault[], status: number, code: string]> = [
    ['C11 userinfo-invalid-sub', faults['userinfo-invalid-sub'], 403, 'FST_OIDC_USERINFO'],
    ['no sub', faults['userinfo-missing-sub'], 403, 'FST_OIDC_USERINFO'],
    ['sub in other capitals', answer((claims) => ({ ...claims, sub: 'Alice' })), 403, 'FST_OIDC_USERINFO'],
    ['sub a list', answer((claims) => ({ ...claims, sub: ['alice'] })), 403, 'FST_OIDC_USERINFO'],
    ['sub inherited', answer(() => JSON.parse('{"__proto__":{"sub":"alice"}}')), 403, 'FST_OIDC_USERINFO'],
    ['V36 a list', faults['userinfo-array'], 403, 'FST_OIDC_USERINFO'],
    ['V36 null', faults['userinfo-null'], 403, 'FST_OIDC_USERINFO'],
    ['V36 text', faults['userinfo-string'], 403, 'FST_OIDC_USERINFO'],
    ['V36 a number', faults['userinfo-number'], 403, 'FST_OIDC_USERINFO'],
    ['HTML', faults['userinfo-html'], 403, 'FST_OIDC_USERINFO'],
    ['nothing', faults['userinfo-empty'], 403, 'FST_OIDC_USERINFO'],
    ['the wrong content type', faults['userinfo-content-type'], 403, 'FST_OIDC_USERINFO'],
    [
      'a JWT that was not configured',
      { on: 'userinfo', headers: { 'content-type': 'application/jwt' } },
      403,
      'FST_OIDC_USERINFO'
    ],
    ['400', faults['userinfo-400'], 403, 'FST_OIDC_USERINFO'],
    ['403', faults['userinfo-403'], 403, 'FST_OIDC_USERINFO'],
    [
      'K3 401 with a challenge',
      { on: 'userinfo', status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token"' } },
      401,
      'FST_OIDC_LOGIN_REQUIRED'
    ],
    [
      'no endpoint',
      {
        on: 'metadata',
        metadata: (document) => {
          delete document['userinfo_endpoint']
        }
      },
      403,
      'FST_OIDC_USERINFO'
    ],
    ['500', faults['userinfo-500'], 503, 'FST_OIDC_PROVIDER_UNAVAILABLE'],
    ['503', faults['userinfo-503'], 503, 'FST_OIDC_PROVIDER_UNAVAILABLE']
  ]
  for (const [what, fault, status, code] of cases) {
    await t.test(what, async (t) => {
      const tried = await attempt(t, provider, fault, { userinfo: true })
      await assertRefused(t, tried, status, code, what === 'no endpoint' ? 0 : 1)
    })
  }
})

t.test('S34 signed UserInfo is refused, because it is not verified', async (t) => {
  const provider = await startedProvider(t, {
    clients: [{ client_id: 'web', client_secret: 'x'.repeat(40), userinfo_signed_response_alg: 'RS256' }]
  })
  await assertRefused(t, await attempt(t, provider, [], { userinfo: true }), 403, 'FST_OIDC_USERINFO', 1)
})

t.test('C1 UserInfo after the login, with the token of the session', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await attempt(t, provider)
  const page = await browser.fetch('/auth/userinfo')
  t.same([page.status, page.json().sub], [200, 'alice'])
  t.equal(provider.count('userinfo'), 1)
  const off = provider.fault(faults['userinfo-invalid-sub'])
  const refusal = await browser.fetch('/auth/userinfo')
  t.same([refusal.status, refusal.json().code], [403, 'FST_OIDC_USERINFO'])
  t.notMatch(refusal.text(), 'alice')
  off()
  await untilCallback(browser)
})
