import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { JSONWebKeySet, JWK } from 'jose'
import type { Fault, TransportFault } from './provider/fault.ts'
import type {
  Claims, Endpoint, LogoutTokenOptions, Overrides, ProviderRequest, SendLogoutOptions, SignWith
} from './provider/types.ts'

type Change = (claims: Claims) => Claims

const set = (values: Claims): Change => (claims) => ({ ...claims, ...values })
const append = (name: string, text: string): Change => (claims) => ({ ...claims, [name]: `${claims[name]}${text}` })
const move = (name: string, seconds: number): Change => (claims) =>
  ({ ...claims, [name]: Number(claims[name]) + seconds })
const shift = (seconds: number): Change => (claims) =>
  ['iat', 'exp', 'auth_time'].reduce((value, name) => move(name, seconds)(value), claims)
const drop = (name: string): Change => set({ [name]: undefined })

const idToken = (change: Overrides): Fault => ({ on: 'token', idToken: change as Change })
const signed = (signWith: SignWith): Fault => ({ on: 'token', signWith })
const tokens = (tokenResponse: Change): Fault => ({ on: 'token', tokenResponse })
const userinfo = (change: Change): Fault => ({ on: 'userinfo', userinfo: change })
const metadata = (change: Change): Fault => ({ on: 'metadata', metadata: change })

const isRefresh = ({ body }: ProviderRequest): boolean => body.grant_type === 'refresh_token'
const refreshed = (change: Change): Fault => ({ on: 'token', when: isRefresh, idToken: change })

type ChangeParams = (params: URLSearchParams) => void

const response = (change: ChangeParams): Fault => ({ on: 'authorize', authorizationResponse: change })
const afterLogout = (change: ChangeParams): Fault => ({ on: 'end_session', logoutResponse: change })
const addTo = (name: string, text: string): Fault =>
  response((params) => params.set(name, `${params.get(name)}${text}`))
const repeat = (name: string): Fault => response((params) => params.append(name, String(params.get(name))))
const leaveOut = (name: string): Fault => response((params) => params.delete(name))

const breakSignature = (jwt: string): string => {
  const [header, claims, signature = ''] = jwt.split('.')
  const bytes = Buffer.from(signature, 'base64url').map((byte, i) => i === 9 ? byte ^ 1 : byte)
  return `${header}.${claims}.${Buffer.from(bytes).toString('base64url')}`
}

const keys = (change: (keys: JWK[]) => JWK[]): Fault =>
  ({ on: 'jwks', jwks: (set: JSONWebKeySet) => ({ keys: change(set.keys) }) })

const withoutKid = ({ kid: _, ...key }: JWK): JWK => key

// Nobody has the private key of a random modulus, and nobody needs it
const randomRsa = (members: Partial<JWK> = {}): JWK => {
  const modulus = randomBytes(256)
  modulus[0]! |= 0x80
  modulus[255]! |= 1
  return { kty: 'RSA', e: 'AQAB', n: modulus.toString('base64url'), ...members }
}

const isRsa = ({ kty }: JWK): boolean => kty === 'RSA'

const rsaDecoy = (): JWK => randomRsa({ use: 'sig', alg: 'RS256' })

const newEcKey = (which: 'publicKey' | 'privateKey', members: Partial<JWK> = {}): JWK =>
  ({ ...generateKeyPairSync('ec', { namedCurve: 'P-256' })[which].export({ format: 'jwk' }) as JWK, ...members })

// FAPI 2.0: other keys under the same kid, told apart by alg, kty and use
const decoysOf = ({ kid = '' }: JWK): JWK[] => [
  randomRsa({ kid, use: 'enc', alg: 'RSA-OAEP' }),
  newEcKey('publicKey', { kid, use: 'sig', alg: 'ES256' }),
  randomRsa({ kid, use: 'sig', alg: 'PS256' }),
  randomRsa({ kid, use: 'sig', alg: 'RS256' }),
  { kty: 'OKP', crv: 'X25519', x: randomBytes(32).toString('base64url'), kid, use: 'enc' }
]

const withDecoys = (key: JWK): JWK[] => [...decoysOf(key).filter(({ alg }) => alg !== key.alg), key]

const strangeKeys: JWK[] = [
  { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA', kid: 'post-quantum' },
  { kty: 'EC', crv: 'P-999', x: 'AAAA', y: 'AAAA', kid: 'curve' },
  { kty: 'oct', k: 'AAAA', kid: 'symmetric' },
  { kty: 'RSA', n: 'AQAB', e: 'AQAB', alg: 'XS256', kid: 'algorithm' }
]

const brokenKeys = [{ kty: 'RSA', kid: 'broken', n: '!', e: 17 }, { kty: 'EC' }, {}, null, 'key', 7] as unknown as JWK[]

const marked = (name: string): Change => append(name, `?from=${randomBytes(6).toString('hex')}`)

const tokenFaults = {
  // OpenID Foundation conformance suite, oidcc-client-test-…
  'invalid-iss': idToken(append('iss', '1')),
  'missing-sub': idToken(drop('sub')),
  'invalid-aud': idToken(append('aud', '1')),
  'missing-aud': idToken(drop('aud')),
  'missing-iat': idToken(drop('iat')),
  'kid-absent-single-jwks': [signed('no-kid'), keys((all) => all.slice(-1).map(withoutKid))],
  'kid-absent-multiple-jwks': [
    signed('no-kid'), keys((all) => [rsaDecoy(), ...all.map(withoutKid), rsaDecoy()])
  ],
  'idtoken-sig-rs256': signed('RS256'),
  'idtoken-sig-none': signed('none'),
  'invalid-sig-rs256': { on: 'token', signWith: 'RS256', idTokenRaw: breakSignature },
  'invalid-sig-hs256': { on: 'token', signWith: 'HS256', idTokenRaw: breakSignature },
  'invalid-sig-es256': { on: 'token', signWith: 'ES256', idTokenRaw: breakSignature },
  'nonce-invalid': idToken(append('nonce', '1')),
  'userinfo-invalid-sub': userinfo(append('sub', '1')),
  'signing-key-rotation-just-before-signing': { on: 'token', times: 1, before: (provider) => provider.rotateKeys() },
  'signing-key-rotation': { on: 'authorize', before: (provider) => provider.rotateKeys() },
  'refresh-token-invalid-issuer': refreshed(append('iss', '1')),
  'refresh-token-invalid-sub': refreshed(append('sub', '1')),

  // … fapi2-security-profile-final-client-test-…
  'invalid-missing-iss': idToken(drop('iss')),
  'invalid-missing-aud': idToken(drop('aud')),
  'invalid-secondary-aud': idToken((claims) => set({ aud: [claims.aud, 'stranger'] })(claims)),
  'valid-aud-as-array': idToken((claims) => set({ aud: [claims.aud] })(claims)),
  'invalid-expired-exp': idToken((claims) => set({ exp: Number(claims.iat) - 301 })(claims)),
  'invalid-missing-exp': idToken(drop('exp')),
  'invalid-nonce': idToken(append('nonce', '1')),
  'invalid-missing-nonce': idToken(drop('nonce')),
  'invalid-null-alg': signed('none'),
  'invalid-alternate-alg': signed('alternate-alg'),
  'token-type-case-insensitivity': tokens(set({ token_type: 'bEARER' })),
  'token-endpoint-response-without-expires_in': tokens(drop('expires_in')),

  // Claims of the wrong type, size or meaning (Core 3.1.3.7, RFC 8725)
  'iss-as-array': idToken((claims) => set({ iss: [claims.iss, 'https://evil.example'] })(claims)),
  'sub-empty': idToken(set({ sub: '' })),
  'sub-number': idToken(set({ sub: 42 })),
  'sub-too-long': idToken(set({ sub: 'a'.repeat(256) })),
  'exp-as-string': idToken((claims) => set({ exp: String(claims.exp) })(claims)),
  'exp-absurd': idToken(set({ exp: 1e300 })),
  'exp-negative': idToken(set({ exp: -1 })),
  'iat-in-future': idToken(move('iat', 3600)),
  'nbf-in-future': idToken((claims) => set({ nbf: Number(claims.iat) + 3600 })(claims)),
  'azp-of-another': idToken(set({ azp: 'stranger' })),
  'at-hash-invalid': idToken(append('at_hash', '1')),
  'auth-time-missing': idToken(drop('auth_time')),
  'auth-time-too-old': idToken(move('auth_time', -86_400)),
  'acr-missing': idToken(drop('acr')),
  'typ-logout-token': idToken((_claims, header) => { header.typ = 'logout+jwt' }),
  'typ-access-token': idToken((_claims, header) => { header.typ = 'at+jwt' }),
  'has-events': idToken(set({ events: { 'http://schemas.openid.net/event/backchannel-logout': {} } })),
  'claims-prototype': idToken(set({ ['__proto__']: { isAdmin: true }, constructor: 'x', toString: 1 })),

  // A provider whose clock is wrong
  'clock-29s-ahead': idToken(shift(29)),
  'clock-29s-behind': idToken(shift(-29)),
  'clock-1h-ahead': idToken(shift(3600)),
  'clock-2h-behind': idToken(shift(-7200)),

  // Signatures (RFC 8725 section 2.1, CVE lists)
  'sig-other-key': signed('other-key'),
  'sig-unknown-kid': signed('unknown-kid'),
  'sig-hs256-public-pem': signed('public-pem'),
  'sig-hs256-public-jwk': signed('public-jwk'),
  'sig-hs256-client-secret': signed('client-secret'),
  'sig-embedded-jwk': signed('embedded-jwk'),
  'sig-jku': signed('jku'),
  'sig-x5u': signed('x5u'),
  'sig-crit': signed('crit'),
  'sig-none-mixed-case': { on: 'token', signWith: 'none', idToken: (_claims, header) => { header.alg = 'nOnE' } },

  // Refreshed ID tokens (Core 12.2)
  'refresh-token-invalid-aud': refreshed(append('aud', '1')),
  'refresh-token-invalid-nonce': refreshed(set({ nonce: 'another' })),
  'refresh-token-invalid-auth-time': refreshed(move('auth_time', -60)),
  'refresh-token-revoked': {
    on: 'token',
    when: isRefresh,
    status: 400,
    headers: { 'content-type': 'application/json' },
    body: '{"error":"invalid_grant"}'
  },

  // Token responses (RFC 6749 section 5.1)
  'token-response-without-access-token': tokens(drop('access_token')),
  'token-response-without-token-type': tokens(drop('token_type')),
  'token-response-without-id-token': tokens(drop('id_token')),
  'token-response-unknown-token-type': tokens(set({ token_type: 'mac' })),
  'token-response-expires-in-string': tokens((claims) => set({ expires_in: String(claims.expires_in) })(claims)),
  'token-response-id-token-garbage': tokens(set({ id_token: 'not.a.jwt' })),

  'userinfo-missing-sub': userinfo(drop('sub')),
  'userinfo-overwrites': userinfo(set({ iss: 'https://evil.example', aud: 'stranger' }))
} satisfies Record<string, Fault | Fault[]>

const responseFaults = {
  // fapi2-security-profile-final-client-test-…
  'invalid-authorization-response-iss': addTo('iss', '1'),
  'remove-authorization-response-iss': leaveOut('iss'),
  'ensure-authorization-response-with-invalid-state-fails': addTo('state', '1'),
  'ensure-authorization-response-with-invalid-missing-state-fails': leaveOut('state'),

  'authorization-response-without-code': leaveOut('code'),
  'authorization-response-other-code': addTo('code', '1'),
  'authorization-response-duplicate-code': repeat('code'),
  'authorization-response-duplicate-state': repeat('state'),
  'authorization-response-duplicate-iss': repeat('iss'),
  'authorization-response-with-tokens': response((params) => {
    params.set('access_token', 'from-the-front')
    params.set('id_token', 'from.the.front')
  }),
  'authorization-response-error': response((params) => {
    params.delete('code')
    params.set('error', 'access_denied')
    params.set('error_description', '<script>alert(1)</script>')
  }),
  'authorization-response-error-and-code': response((params) => params.set('error', 'server_error')),

  // oidcc-client-test-…
  'rp-init-logout-other-state': afterLogout((params) => params.set('state', randomBytes(12).toString('base64url'))),
  'rp-init-logout-no-state': afterLogout((params) => params.delete('state'))
} satisfies Record<string, Fault>

const metadataFaults = {
  // oidcc-client-test-…: the marked URLs show in `requests` whether the metadata is used
  'discovery-openid-config': metadata((document) =>
    ['authorization_endpoint', 'token_endpoint', 'userinfo_endpoint', 'end_session_endpoint'].map(marked)
      .reduce((value, mark) => mark(value), document)),
  'discovery-jwks-uri-keys': metadata(marked('jwks_uri')),
  'discovery-issuer-mismatch': metadata(append('issuer', 'INVALID')),

  'metadata-issuer-trailing-slash': metadata(append('issuer', '/')),
  'metadata-without-issuer': metadata(drop('issuer')),
  'metadata-without-jwks-uri': metadata(drop('jwks_uri')),
  'metadata-without-token-endpoint': metadata(drop('token_endpoint')),
  'metadata-without-end-session-endpoint': metadata(drop('end_session_endpoint')),
  'metadata-without-pkce': metadata(drop('code_challenge_methods_supported')),
  'metadata-insecure-token-endpoint': metadata(set({ token_endpoint: 'http://insecure.example/token' })),
  'metadata-endpoint-on-another-host': metadata(set({ token_endpoint: 'https://other.example/token' })),
  'metadata-javascript-endpoint': metadata(set({ authorization_endpoint: 'javascript:alert(1)//' })),
  'metadata-endpoint-with-credentials': metadata(set({ token_endpoint: 'https://user:password@evil.example/token' })),
  'metadata-endpoint-not-a-string': metadata(set({ token_endpoint: ['https://evil.example/token'] })),
  'metadata-huge-array': metadata(set({ scopes_supported: new Array<string>(100_000).fill('scope') }))
} satisfies Record<string, Fault>

const keyFaults = {
  'jwks-no-keys': keys(() => []),
  'jwks-not-an-array': { on: 'jwks', jwks: () => ({ keys: { 0: 'key' } as unknown as JWK[] }) },
  'jwks-10000-keys': keys((all) => [
    ...Array.from({ length: 10_000 }, (_, i) => randomRsa({ kid: `decoy-${i}`, use: 'sig', alg: 'RS256' })), ...all
  ]),
  'jwks-private-keys': keys((all) => [newEcKey('privateKey', { kid: 'private' }), ...all]),
  'jwks-unknown-keys': keys((all) => [...strangeKeys, ...all]),
  'jwks-malformed-keys': keys((all) => [...brokenKeys, ...all]),
  'jwks-same-kid-decoys': keys((all) => all.flatMap(withDecoys)),
  'jwks-same-kid-twice': keys((all) => [...all.filter(isRsa).map((key) => ({ ...key, ...randomRsa() })), ...all]),
  'jwks-without-kid': keys((all) => all.map(withoutKid)),
  'jwks-without-alg': keys((all) => all.map(({ alg: _, ...key }) => key)),
  'jwks-404': { on: 'jwks', status: 404 }
} satisfies Record<string, Fault>

/** What can happen to every endpoint. */
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
  'redirect-cloud': { redirect: 'http://169.254.169.254/latest/meta-data/' },
  html: { garbage: 'html' },
  empty: { garbage: 'empty' },
  truncated: { garbage: 'truncated' },
  array: { garbage: 'array' },
  null: { garbage: 'null' },
  number: { garbage: 'number' },
  string: { garbage: 'string' },
  'content-type': { garbage: 'content-type' },
  'no-content-type': { garbage: 'no-content-type' },
  'gzip-bomb': { garbage: 'gzip-bomb' },
  huge: { garbage: 'huge' },
  deep: { garbage: 'deep' },
  'duplicate-keys': { garbage: 'duplicate-keys' },
  bom: { garbage: 'bom' },
  'invalid-utf8': { garbage: 'invalid-utf8' }
} satisfies Record<string, TransportFault>

/** Endpoints that an application calls itself. */
const called = [
  'metadata', 'jwks', 'token', 'userinfo', 'revocation', 'introspection', 'device', 'par'
] as const satisfies Endpoint[]

type WireName = `${typeof called[number]}-${keyof typeof wire}`

const wireFaults = Object.fromEntries(called.flatMap((on) =>
  Object.entries(wire).map(([name, fault]) => [`${on}-${name}`, { on, ...fault }]))) as Record<WireName, Fault>

const all = { ...tokenFaults, ...responseFaults, ...metadataFaults, ...keyFaults, ...wireFaults }

/** The names of `faults`. */
export type FaultName = keyof typeof all

/**
 * Faults by name. The first part is named after the modules of the OpenID Foundation's conformance suite; then come
 * `{endpoint}-{what}` for everything that happens on the wire, e.g. `token-503`, `jwks-hang`, `metadata-gzip-bomb`.
 *
 * @example
 * provider.fault(faults['invalid-iss'])
 * provider.fault({ ...faults['token-503'], times: 1 })
 */
export const faults: { readonly [Name in FaultName]: typeof all[Name] extends Fault[] ? Fault[] : Fault } = all

const event = 'http://schemas.openid.net/event/backchannel-logout'

type LogoutVariant = Omit<LogoutTokenOptions, 'sub' | 'sid'> & Pick<SendLogoutOptions, 'fields'>

/**
 * Logout tokens by name, as options of `logoutToken` and `sendLogoutToken`. The first ones are the modules of the
 * conformance suite, rp-backchannel-rpinitlogout-…
 *
 * @example
 * await provider.sendLogoutToken(url, { sub: 'alice', ...logoutFaults['alg-none'] })
 */
export const logoutFaults = {
  valid: { overrides: { unknown: 'ignored' }, fields: { unknown: 'ignored' } },
  'alg-none': { signWith: 'none' },
  'no-event': { overrides: { events: undefined } },
  'with-nonce': { overrides: { nonce: 'nonce' } },
  'wrong-alg': { signWith: 'alternate-alg' },
  'wrong-aud': { overrides: append('aud', 'INVALID') },
  'wrong-event': { overrides: { events: { [`${event}INVALID`]: {} } } },
  'wrong-iss': { overrides: append('iss', 'INVALID') },

  'no-aud': { overrides: { aud: undefined } },
  'no-iss': { overrides: { iss: undefined } },
  'no-iat': { overrides: { iat: undefined } },
  'no-exp': { overrides: { exp: undefined } },
  'no-jti': { overrides: { jti: undefined } },
  'no-sub-and-no-sid': { overrides: { sub: undefined, sid: undefined } },
  'sub-number': { overrides: { sub: 42 } },
  'sid-empty': { overrides: { sid: '' } },
  expired: { overrides: (claims) => move('exp', -1000)(move('iat', -1000)(claims)) },
  'iat-in-future': { overrides: move('iat', 3600) },
  'events-string': { overrides: { events: event } },
  'events-array': { overrides: { events: [event] } },
  'event-not-an-object': { overrides: { events: { [event]: true } } },
  'typ-jwt': { header: { typ: 'JWT' } },
  'no-typ': { header: { typ: undefined } },
  'typ-access-token': { header: { typ: 'at+jwt' } },
  'broken-signature': { signWith: 'broken-signature' },
  'other-key': { signWith: 'other-key' },
  'unknown-kid': { signWith: 'unknown-kid' },
  'public-pem': { signWith: 'public-pem' },
  'embedded-jwk': { signWith: 'embedded-jwk' },
  crit: { signWith: 'crit' }
} as const satisfies Record<string, LogoutVariant>
