import { breakSignature } from '../provider/signers.ts'
import { logoutEvent } from '../provider/tokens.ts'
import { append, drop, move, set, shift } from './claims.ts'
import { keys, rsaDecoy, withoutKid } from './keys.ts'
import type { Overrides, SignWith } from '../provider/token-options.ts'
import type { Fault, ProviderRequest } from '../provider/types.ts'
import type { ClaimsChange } from './claims.ts'

const idToken = (change: Overrides): Fault => ({ on: 'token', idToken: change as ClaimsChange })
const signed = (signWith: SignWith): Fault => ({ on: 'token', signWith })
const tokens = (tokenResponse: ClaimsChange): Fault => ({ on: 'token', tokenResponse })
const userinfo = (change: ClaimsChange): Fault => ({ on: 'userinfo', userinfo: change })

const isRefresh = ({ body }: ProviderRequest): boolean => body.grant_type === 'refresh_token'
const refreshed = (change: ClaimsChange): Fault => ({ on: 'token', when: isRefresh, idToken: change })

const breakJwt = (jwt: string): string => {
  const [header, claims, signature = ''] = jwt.split('.')
  const broken = breakSignature(Buffer.from(signature, 'base64url'))
  return `${header}.${claims}.${broken.toString('base64url')}`
}

export const tokenFaults = {
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
  'invalid-sig-rs256': { on: 'token', signWith: 'RS256', idTokenRaw: breakJwt },
  'invalid-sig-hs256': { on: 'token', signWith: 'HS256', idTokenRaw: breakJwt },
  'invalid-sig-es256': { on: 'token', signWith: 'ES256', idTokenRaw: breakJwt },
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
  'has-events': idToken(set({ events: { [logoutEvent]: {} } })),
  'claims-prototype': idToken(set({ ['__proto__']: { isAdmin: true }, constructor: 'x', toString: 1 })),

  // The clock of the provider is wrong
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
