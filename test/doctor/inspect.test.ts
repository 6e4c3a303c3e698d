import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { OidcError } from '../../lib/errors.ts'
import { failure } from '../../lib/doctor/failure-advice.ts'
import { describeKeys, inspectKeys } from '../../lib/doctor/inspect-keys.ts'
import { describeMetadata, inspectMetadata, signingAlgOf } from '../../lib/doctor/inspect-metadata.ts'
import type { JWK } from 'jose'
import type { Finding } from '../../lib/doctor/report.ts'
import type { ProviderMetadata } from '../../types/options.ts'

const ISSUER = 'https://id.example.com'
/** Metadata about which there is nothing to say. */
const PERFECT: ProviderMetadata = {
  issuer: ISSUER,
  ...Object.fromEntries([
    'userinfo', 'end_session', 'revocation', 'introspection', 'device_authorization', 'pushed_authorization_request'
  ].map((name) => [`${name}_endpoint`, `${ISSUER}/${name}`])),
  authorization_endpoint: `${ISSUER}/authorize`,
  token_endpoint: `${ISSUER}/token`,
  jwks_uri: `${ISSUER}/keys`,
  id_token_signing_alg_values_supported: ['RS256'],
  code_challenge_methods_supported: ['S256'],
  authorization_response_iss_parameter_supported: true,
  backchannel_logout_supported: true,
  backchannel_logout_session_supported: true,
  token_endpoint_auth_methods_supported: ['client_secret_basic']
}

function codesOf (findings: Finding[]): string[] {
  return findings.map(({ level, code }) => `${level} ${code}`)
}

function inspect (members: Record<string, unknown>): Finding[] {
  return inspectMetadata({ metadata: { ...PERFECT, ...members }, leftOut: new Map() })
}

t.test('K5 what is missing in the metadata, and what is odd', async (t) => {
  t.same(inspect({}), [])
  const cases: Array<[members: Record<string, unknown>, findings: string[], options?: Record<string, unknown>]> = [
    [{ end_session_endpoint: undefined }, ['note endpoint_missing']],
    [{ response_types_supported: ['id_token'] }, ['error no_code_flow']],
    [{ response_types_supported: ['code', 7] }, []],
    [{ response_types_supported: 'code' }, []],
    [{ id_token_signing_alg_values_supported: undefined }, []],
    [{ id_token_signing_alg_values_supported: ['ES256', 'PS256'] }, ['warning signing_alg'], { idTokenSigningAlg: 'PS256' }],
    [{ id_token_signing_alg_values_supported: ['none', 'HS256'] }, ['error no_signing_alg', 'note weak_signing_algs']],
    [{ id_token_signing_alg_values_supported: ['RS256', 'none'] }, ['note weak_signing_algs']],
    [{ code_challenge_methods_supported: undefined }, ['warning pkce']],
    [{ code_challenge_methods_supported: ['plain'] }, ['warning pkce']],
    [{ code_challenge_methods_supported: new Array(60).fill('plain') }, ['warning pkce']],
    [{ authorization_response_iss_parameter_supported: false }, ['note no_iss_parameter']],
    [{ require_pushed_authorization_requests: true }, ['note pushed_requests']],
    [
      { require_pushed_authorization_requests: true, pushed_authorization_request_endpoint: undefined },
      ['note endpoint_missing', 'error no_pushed_requests']
    ],
    [{ require_signed_request_object: true }, ['error signed_requests']],
    [{ response_modes_supported: ['query', 'fragment'] }, []],
    [{ response_modes_supported: ['form_post'] }, ['warning response_mode'], { responseMode: 'form_post' }],
    [{ response_modes_supported: ['fragment'] }, ['error no_response_mode']],
    [{ scopes_supported: ['openid', 'profile', 'email', 'offline_access'] }, []],
    [{ scopes_supported: ['openid', 'email'] }, ['warning scopes', 'note no_offline_access'], { scope: 'openid email' }],
    [{ prompt_values_supported: ['login'] }, ['note no_prompt_none']],
    [{ prompt_values_supported: ['none'] }, []],
    [{ backchannel_logout_supported: undefined }, ['note no_backchannel_logout']],
    [{ backchannel_logout_session_supported: undefined }, ['note backchannel_without_sid']],
    [{ frontchannel_logout_supported: true }, ['note frontchannel_without_sid']],
    [{ frontchannel_logout_supported: true, frontchannel_logout_session_supported: true }, []],
    [{ token_endpoint_auth_methods_supported: undefined }, ['note no_auth_methods']],
    [{ token_endpoint_auth_methods_supported: ['magic'] }, ['error auth_methods']],
    [{ token_endpoint: 'https://other.example/token' }, ['note other_hosts']],
    [{ access_token_issuer: 'http://adfs.example/services/trust' }, ['note access_token_issuer']],
    [{ access_token_issuer: ISSUER }, []]
  ]
  for (const [members, codes, options] of cases) {
    const findings = inspect(members)
    t.same(codesOf(findings), codes, JSON.stringify(members))
    t.same(findings.find((finding) => finding.options !== undefined)?.options, options)
    for (const { message, nextStep } of findings) t.ok(message.length < 600 && nextStep !== '', nextStep)
  }
  const leftOut = new Map([['userinfo_endpoint', 'is not a URL']])
  const { userinfo_endpoint: _, ...metadata } = PERFECT
  t.same(codesOf(inspectMetadata({ metadata: metadata as ProviderMetadata, leftOut })), ['warning endpoint_unusable'])
})

t.test('metadata is described as it is, within limits', async (t) => {
  const described = describeMetadata('https://x', {
    token_endpoint: 7,
    userinfo_endpoint: 'u',
    scopes_supported: new Array(100_000).fill('scope'),
    claims_supported: null,
    backchannel_logout_supported: 'true',
    frontchannel_logout_supported: false
  })
  t.match(described, {
    url: 'https://x',
    endpoints: { token_endpoint: null, userinfo_endpoint: 'u', jwks_uri: null },
    supports: { claims_supported: null, backchannel_logout_supported: null, frontchannel_logout_supported: false }
  })
  t.equal((described.supports['scopes_supported'] as string[]).length, 50)
  t.equal(signingAlgOf(PERFECT), 'RS256')
})

function publicKey (members: Partial<JWK>, type: 'rsa' | 'ec' | 'ed25519' = 'rsa', bits = 2048): JWK {
  const { publicKey } = type === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: bits })
    : type === 'ec' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519')
  return { ...publicKey.export({ format: 'jwk' }) as JWK, ...members }
}

t.test('K4 what is odd about a key set', async (t) => {
  const rsa = publicKey({ kid: 'a' })
  const ec = publicKey({ kid: 'b', alg: 'ES256' }, 'ec')
  const ed = publicKey({ kid: 'c', alg: 'EdDSA' }, 'ed25519')
  const cases: Array<[keys: unknown[], alg: string, codes: string[]]> = [
    [[rsa], 'RS256', []],
    [[{ ...rsa, alg: 'PS256' }], 'RS256', ['error no_key_for_alg']],
    [[rsa], 'ES256', ['error no_key_for_alg']],
    [[ec], 'ES256', []],
    [[{ ...ec, alg: undefined }], 'ES256', []],
    [[{ ...ec, alg: undefined }], 'ES384', ['error no_key_for_alg']],
    [[ed], 'Ed25519', []],
    [[ed], 'RS256', ['error no_key_for_alg']],
    [[{ ...ed, alg: undefined }], 'EdDSA', []],
    [[rsa, { ...ec, kid: 'a' }], 'RS256', ['note kid_repeated']],
    [[{ ...rsa, kid: undefined }], 'RS256', []],
    [[{ ...rsa, kid: undefined }, ec], 'RS256', ['note kid_missing']],
    [[rsa, { kty: 'AKP', alg: 'ML-DSA-44', pub: 'AAAA' }, null, 'key'], 'RS256', new Array(3).fill('warning key_left_out')],
    [[rsa, publicKey({ kid: 'weak' }, 'rsa', 1024)], 'RS256', ['warning key_left_out']],
    [[{ ...rsa, use: 'enc' }], 'RS256', ['error no_keys']],
    [[], 'RS256', ['error no_keys']]
  ]
  for (const [keys, alg, codes] of cases) t.same(codesOf(inspectKeys(keys, alg)), codes, JSON.stringify([keys, alg]))
  t.same(describeKeys([null, { kid: 'k'.repeat(200), kty: 7, use: 'sig' }]), [
    { kid: null, kty: null, alg: null, use: null }, { kid: 'k'.repeat(100), kty: null, alg: null, use: 'sig' }
  ])
  t.equal(describeKeys(new Array(10_000).fill(rsa)).length, 20)
})

t.test('K12 each cause of a failure has its next step', async (t) => {
  const nextStep = (detail: string | undefined): string =>
    failure('x', new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { detail }), 'https://id.example.com/keys').nextStep
  for (const [detail, step] of [
    ['metadata https://id: EAI_AGAIN', /^DNS/],
    ['metadata https://id: CERT_HAS_EXPIRED', /^Renew the certificate/],
    ['metadata https://id: ERR_TLS_CERT_ALTNAME_INVALID', /another name/],
    ['metadata https://id: EPROTO', /check http, https and the port/],
    ['metadata https://id: ETIMEDOUT', /NODE_USE_ENV_PROXY=1/],
    ['metadata: 401 application/json', /make it public/],
    ['metadata: 200 text/plain', /JSON in a browser/],
    ['something else', /^Try https:\/\/id\.example\.com\/keys with curl/],
    [undefined, /^Try https/]
  ] as const) t.match(nextStep(detail), step, String(detail))
})
