import t from 'tap'
import { accepts } from './conformance/flows.ts'
import { isOpen, titleOf } from './conformance/module.ts'
import { modules } from './conformance/modules.ts'
import { runModule } from './conformance/run.ts'
import type { RunModule } from './conformance/module.ts'

// The modules of the OpenID Foundation's test plans for relying parties. `npm run conformance` prints them as a table.

const plans = {
  'oidcc-client-basic-certification-test-plan': 14,
  'oidcc-client-formpost-basic-certification-test-plan': 14,
  'oidcc-client-config-certification-test-plan': 6,
  'oidcc-client-refreshtoken-test-plan': 3,
  'oidcc-client-rp-initiated-logout-rp-basic': 3,
  'oidcc-client-back-channel-logout-rp-basic': 8,
  'oidcc-client-front-channel-logout-rp-basic': 1,
  'oidcc-client-rp-session-management-rp-basic': 1,
  'oidcc-client-test-3rd-party-init-login-test-plan': 1
}

// Modules that need a missing feature. To add the feature, remove its modules from this list and let them run.
const open = [
  'C37 oidcc-client-test-session-management',
  'C39 fapi2-security-profile-final-client-test-happy-path',
  'C40 fapi2-security-profile-final-client-test-happy-path-no-dpop-nonce',
  'C41 fapi2-security-profile-final-client-test-discovery-issuer-mismatch',
  'C55 fapi2-security-profile-final-client-test-rs-dpop-auth-scheme-case-insensitivity',
  'C57 fapi2-security-profile-final-client-refresh-token-test',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-without-iss-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-with-invalid-iss-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-without-aud-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-with-invalid-aud-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-without-exp-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-with-expired-exp-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-with-invalid-sig-fails',
  'C58 fapi2-security-profile-final-client-test-ensure-jarm-signature-is-not-none',
  'extra oidcc-client-test-userinfo-bearer-body',
  'extra oidcc-client-test-aggregated-claims',
  'extra oidcc-client-test-distributed-claims',
  'extra oidcc-client-test-discovery-webfinger-acct',
  'extra oidcc-client-test-discovery-webfinger-url',
  'extra oidcc-client-test-dynamic-registration',
  'extra oidcc-client-test-request-uri-signed-rs256',
  'extra oidcc-client-test-request-uri-signed-none'
]

t.test('the plans are complete, and the open modules are listed', async (t) => {
  const numbers = [...new Set(modules.map(({ number }) => number))]
  t.same(numbers, [...Array.from({ length: 58 }, (_, index) => `C${index + 1}`), 'extra'])
  t.equal(new Set(modules.map(titleOf)).size, modules.length, 'no entry occurs twice')
  for (const [plan, count] of Object.entries(plans)) {
    t.equal(modules.filter((module) => module.plan === plan).length, count, plan)
  }
  t.same(modules.filter(isOpen).map(titleOf), open)
})

for (const module of modules.filter((module) => !isOpen(module))) {
  t.test(titleOf(module), async (t) => {
    const { verdict, happened, error } = await runModule(module)
    if (error !== undefined) throw error
    t.equal(verdict, 'passed', happened)
  })
}

type Call = (url: string, init: RequestInit) => Promise<Response>

// Mistakes that the provider accepts and a user does not notice: the login succeeds, but the module must fail.
const mistakes: Record<string, [reason: RegExp, call: Call]> = {
  'sends the access token in a query': [/no access_token in a query/, async (url, init) =>
    await fetch(url.endsWith('/userinfo') ? `${url}?access_token=x` : url, init)],
  'sends the client secret in a query': [/no client_secret in a query/, async (url, init) =>
    await fetch(url.endsWith('/token') ? `${url}?client_secret=x` : url, init)],
  'redeems the code twice': [/one request each/, replaying()],
  'calls an endpoint that is not in the metadata': [/only endpoints of the metadata/, async (url, init) => {
    if (url.endsWith('/token')) await fetch(new URL('/elsewhere', url))
    return await fetch(url, init)
  }]
}

/** Redeems the code again after UserInfo: the provider then revokes the tokens, but they were used already. */
function replaying (): Call {
  const exchanges: Array<Parameters<Call>> = []
  return async (url, init) => {
    const response = await fetch(url, init)
    if (url.endsWith('/token')) exchanges.push([url, init])
    if (url.endsWith('/userinfo')) for (const exchange of exchanges) await fetch(...exchange)
    return response
  }
}

for (const [name, [reason, call]] of Object.entries(mistakes)) {
  t.test(`a module fails when the relying party ${name}`, async (t) => {
    const module: RunModule = {
      number: 'C1',
      id: name,
      plan: '',
      provider: '',
      required: '',
      run: accepts([], { options: { fetch: call } })
    }
    const { verdict, happened } = await runModule(module)
    t.equal(verdict, 'failed')
    t.match(happened, reason)
  })
}
