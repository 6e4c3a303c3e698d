import assert from 'node:assert/strict'
import { faults } from '../../lib/testing/index.ts'
import { accepts, beRefused, counter, logIn, refuses } from './flows.ts'
import type { OidcErrorCode } from '../../index.ts'
import type { Fault, FaultName } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Start } from './party.ts'

const plan = 'fapi2-security-profile-final-client-test-plan'
const prefix = 'fapi2-security-profile-final-client-test-'
const stop = 'stop before the token request'
const reject = 'reject, no request with the access token'

/** C42-C54 and C56 in the code flow, without PAR and sender-constrained tokens. */
export const fapiModules: RunModule[] = [
  before('C42', 'invalid-authorization-response-iss', 'another iss in the response', 'FST_OIDC_RESPONSE_ISSUER'),
  before(
    'C43', 'remove-authorization-response-iss', 'announces iss, but the response has none',
    'FST_OIDC_RESPONSE_ISSUER'
  ),
  before(
    'C44', 'ensure-authorization-response-with-invalid-state-fails', 'another state in the response',
    'FST_OIDC_STATE'
  ),
  before(
    'C45', 'ensure-authorization-response-with-invalid-missing-state-fails', 'no state in the response',
    'FST_OIDC_STATE'
  ),
  refused('C46', 'invalid-iss', 'another iss in the ID token'),
  refused('C46', 'invalid-missing-iss', 'no iss in the ID token'),
  refused('C47', 'invalid-aud', 'another aud in the ID token'),
  refused('C47', 'invalid-missing-aud', 'no aud in the ID token'),
  refused('C48', 'invalid-secondary-aud', 'another client in aud in addition to this one, no azp'),
  accepted('C49', 'valid-aud-as-array', 'aud is an array with the client'),
  refused('C50', 'invalid-expired-exp', 'exp is five minutes ago'),
  refused('C50', 'invalid-missing-exp', 'no exp in the ID token'),
  refused('C51', 'invalid-nonce', 'another nonce in the ID token'),
  refused('C51', 'invalid-missing-nonce', 'no nonce in the ID token'),
  refused('C52', 'invalid-null-alg', 'alg none'),
  {
    number: 'C53',
    id: `${prefix}invalid-alternate-alg`,
    plan,
    provider: 'a valid RS256 signature where PS256, ES256 or EdDSA is registered',
    required: reject,
    run: alternateAlg
  },
  accepted('C54', 'token-type-case-insensitivity', 'token_type in different letter case'),
  {
    number: 'C56',
    id: `${prefix}token-endpoint-response-without-expires_in`,
    plan,
    provider: 'no expires_in',
    required: 'work without a known lifetime',
    run: withoutExpiry
  }
]

function before (number: string, name: FaultName, provider: string, code: OidcErrorCode): RunModule {
  return { number, id: prefix + name, plan, provider, required: stop, run: refuses(faults[name], { code, token: 0 }) }
}

function refused (number: string, name: FaultName, provider: string): RunModule {
  return {
    number,
    id: prefix + name,
    plan,
    provider,
    required: reject,
    run: refuses(faults[name], { code: 'FST_OIDC_ID_TOKEN' })
  }
}

function accepted (number: string, name: FaultName, provider: string): RunModule {
  return { number, id: prefix + name, plan, provider, required: 'accept', run: accepts(faults[name]) }
}

async function alternateAlg (start: Start): Promise<string> {
  const algs = ['PS256', 'ES256', 'EdDSA'] as const
  for (const alg of algs) {
    const party = await start({ client: { id_token_signed_response_alg: alg }, options: { idTokenSigningAlg: alg } })
    const signed: Fault = { on: 'token', signWith: 'RS256' }
    const off = party.provider.fault(signed)
    await beRefused(party, { code: 'FST_OIDC_ID_TOKEN' })
    off()
    await logIn(party)
    assert.ok(party.provider.jwks().keys.some((key) => key.alg === 'RS256'), 'the key was in the key set')
  }
  return `FST_OIDC_ID_TOKEN with each of ${algs.join(', ')}; no UserInfo request, no session`
}

async function withoutExpiry (start: Start): Promise<string> {
  const party = await start({ options: { offlineAccess: true } })
  party.provider.fault(faults['token-endpoint-response-without-expires_in'])
  const happened = await logIn(party)
  party.clock.advance(1800)
  const count = counter(party)
  const { token } = (await party.browser.goto('/token')).json() as { token: string }
  assert.equal(token, party.issued[0]?.['access_token'], 'the token is still used')
  assert.equal(count('token'), 0, 'no refresh')
  return `${happened}; the token is still used, without a refresh`
}
