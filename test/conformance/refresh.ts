import assert from 'node:assert/strict'
import { faults } from '../../lib/testing/index.ts'
import { counter, logIn } from './flows.ts'
import type { Fault, ProviderRequest } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Party, Start } from './party.ts'

const plan = 'oidcc-client-refreshtoken-test-plan'
const id = 'oidcc-client-test-refresh-token'
const TTL = 3600

/** C21-C23 */
export const refreshModules: RunModule[] = [
  {
    number: 'C21',
    id,
    plan,
    provider: 'everything is right',
    required: 'refresh, then call UserInfo with the new access token',
    run: refreshes
  },
  {
    number: 'C22',
    id: `${id}-invalid-issuer`,
    plan,
    provider: 'another iss in the refreshed ID token',
    required: 'do not use the new tokens',
    run: refusesRefresh(faults['refresh-token-invalid-issuer'] as Fault)
  },
  {
    number: 'C23',
    id: `${id}-invalid-sub`,
    plan,
    provider: 'another sub in the refreshed ID token',
    required: 'do not use the new tokens',
    run: refusesRefresh(faults['refresh-token-invalid-sub'] as Fault)
  }
]

/** Starts a party that is logged in and whose access token has expired. */
async function startExpired (start: Start): Promise<Party> {
  const party = await start({ options: { offlineAccess: true }, provider: { accessTokenTtl: TTL } })
  await logIn(party)
  party.clock.advance(TTL + 1)
  return party
}

async function refreshes (start: Start): Promise<string> {
  const party = await startExpired(start)
  const count = counter(party)
  const { token } = (await party.browser.goto('/token')).json() as { token: string }
  party.clock.advance(TTL / 2) // longer than the result of a refresh is shared between requests
  assert.equal((await party.browser.fetch('/auth/userinfo')).json().sub, 'alice', 'UserInfo answers')
  const [first, second] = party.issued
  assert.notEqual(second?.['access_token'], first?.['access_token'], 'there is a new access token')
  assert.equal(token, second?.['access_token'], 'the application gets the new access token')
  assert.deepEqual([count('token'), count('userinfo')], [1, 1], 'one refresh, one UserInfo request')
  assert.equal(
    requestsOf(party, 'token').at(-1)?.body['refresh_token'],
    first?.['refresh_token'],
    'the refresh token is that of the login'
  )
  assert.deepEqual(
    usesOf(party, token).map(({ endpoint }) => endpoint),
    ['userinfo'],
    'UserInfo gets the new access token'
  )
  return 'refreshed once, then called UserInfo with the new access token'
}

function refusesRefresh (fault: Fault): RunModule['run'] {
  return async (start) => {
    const party = await startExpired(start)
    party.provider.fault(fault)
    const count = counter(party)
    const page = await party.browser.fetch('/token')
    assert.ok(page.status >= 400, `no token, but status ${page.status}`)
    assert.equal(page.json().code, 'FST_OIDC_ID_TOKEN', 'the new ID token is the reason')
    const userinfo = await party.browser.fetch('/auth/userinfo')
    assert.ok(userinfo.status >= 400, `no UserInfo, but status ${userinfo.status}`)
    assert.deepEqual([count('token'), count('userinfo')], [1, 0], 'one refresh, no UserInfo request')
    assert.deepEqual(usesOf(party, party.issued[1]?.['access_token'] as string), [], 'the new access token is not used')
    return `${page.json().code}; 1 token request, no UserInfo request, the new tokens were not used`
  }
}

function requestsOf ({ provider }: Party, name: string): ProviderRequest[] {
  return provider.requests.filter(({ endpoint }) => endpoint === name)
}

/** The requests that carry a token. */
function usesOf ({ provider }: Party, token: string): ProviderRequest[] {
  assert.ok(token.length > 20, 'there is a token to look for')
  return provider.requests.filter(({ headers, rawBody }) => `${headers.authorization} ${rawBody}`.includes(token))
}
