import assert from 'node:assert/strict'
import { decodeProtectedHeader } from 'jose'
import { faults } from '../../lib/testing/index.ts'
import { accepts, logIn, refuses } from './flows.ts'
import type { OidcUser } from '../../index.ts'
import type { FaultName } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Party, Setup, Start } from './party.ts'

const plan = 'oidcc-client-basic-certification-test-plan'
const formPostPlan = 'oidcc-client-formpost-basic-certification-test-plan'
const id = 'oidcc-client-test'
const reject = 'reject, no UserInfo request'
const accept = 'log in, and call UserInfo'

const address = { formatted: '1 Main Street', country: 'NL' }
const alice = { sub: 'alice', name: 'Alice Doe', email: 'alice@example.com', phone_number: '+31 20 1234567', address }

// Every character that form-encoding changes (RFC 6749, appendix B)
const specialClient = { client_id: 'web: client+1/ü', client_secret: 'secret: %41+/?&=€ "quoted" 32 bytes' }

/** C1-C14 */
export const basicModules: RunModule[] = [
  { number: 'C1', id, plan, provider: 'everything is right', required: 'log in, and call UserInfo', run: accepts() },
  idTokenRefused('C2', plan, 'invalid-iss', 'another iss in the ID token'),
  idTokenRefused('C3', plan, 'missing-sub', 'no sub in the ID token'),
  idTokenRefused('C4', plan, 'invalid-aud', 'another aud in the ID token'),
  idTokenRefused('C5', plan, 'missing-iat', 'no iat in the ID token'),
  {
    number: 'C6',
    id: `${id}-kid-absent-single-jwks`,
    plan,
    provider: 'no kid in the header, one key without kid in the key set',
    required: 'verify with that key',
    run: accepts(faults['kid-absent-single-jwks'], {}, hasNoKid)
  },
  {
    number: 'C7',
    id: `${id}-kid-absent-multiple-jwks`,
    plan,
    provider: 'no kid in the header, several keys without kid',
    required: 'try all of them (the suite also accepts a refusal)',
    run: accepts(faults['kid-absent-multiple-jwks'], {}, hasNoKid)
  },
  {
    number: 'C8',
    id: `${id}-idtoken-sig-rs256`,
    plan,
    provider: 'signs with RS256',
    required: accept,
    run: accepts(faults['idtoken-sig-rs256'], {}, isRs256)
  },
  {
    number: 'C9',
    id: `${id}-idtoken-sig-none`,
    plan,
    provider: 'alg none from the token endpoint',
    required: 'reject (the suite then skips the module), or accept',
    run: refuses(faults['idtoken-sig-none'], { code: 'FST_OIDC_ID_TOKEN' })
  },
  idTokenRefused('C10', plan, 'invalid-sig-rs256', 'a broken RS256 signature'),
  {
    number: 'C11',
    id: `${id}-userinfo-invalid-sub`,
    plan,
    provider: 'another sub in UserInfo',
    required: 'refuse the response of UserInfo',
    run: refuses(faults['userinfo-invalid-sub'], { code: 'FST_OIDC_USERINFO', userinfo: 1 })
  },
  idTokenRefused('C12', plan, 'nonce-invalid', 'another nonce in the ID token'),
  {
    number: 'C13',
    id: `${id}-scope-userinfo-claims`,
    plan,
    provider: 'claims in UserInfo by the requested scope',
    required: 'request profile email phone address, use the claims',
    run: scopeClaims
  },
  {
    number: 'C14',
    id: `${id}-client-secret-basic`,
    plan,
    provider: 'accepts only client_secret_basic',
    required: 'form-encode id and secret',
    run: accepts([], { client: specialClient })
  }
]

/** C1-C14 again, with the response in a form. */
export const formPostModules: RunModule[] = basicModules.map((module) => ({
  ...module,
  plan: formPostPlan,
  variant: formPostPlan,
  run: async (start) => await module.run(async (setup) => await start(withFormPost(setup)))
}))

/** A module whose provider sends a wrong ID token. */
export function idTokenRefused (
  number: string, plan: string, name: FaultName, provider: string, setup: Setup = {}
): RunModule {
  const run = refuses(faults[name], { code: 'FST_OIDC_ID_TOKEN' }, setup)
  return { number, id: `${id}-${name}`, plan, provider, required: reject, run }
}

export function withFormPost ({ options, ...setup }: Setup = {}): Setup {
  return { ...setup, options: { ...options, responseMode: 'form_post' } }
}

function headerOf ({ issued }: Party) {
  return decodeProtectedHeader(issued.at(-1)?.['id_token'] as string)
}

function hasNoKid (party: Party): void {
  assert.equal(headerOf(party).kid, undefined, 'the token has no kid')
}

function isRs256 (party: Party): void {
  assert.equal(headerOf(party).alg, 'RS256', 'the token is signed with RS256')
}

async function scopeClaims (start: Start): Promise<string> {
  const scope = 'openid profile email phone address'
  // The claims are in UserInfo only
  const party = await start({ options: { scope }, provider: { users: [alice], claimsInIdToken: false } })
  const happened = await logIn(party)
  assert.equal(
    party.provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['scope'],
    scope,
    'the configured scope is requested'
  )
  const { claims, user } = (await party.browser.fetch('/me')).json() as { claims: object; user: OidcUser }
  assert.ok(!('email' in claims), 'the ID token does not have these claims')
  assert.deepEqual(user, alice, 'the claims of UserInfo are used')
  return `${happened}; the session has ${Object.keys(user).join(', ')}`
}
