import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { faults } from '../../lib/testing/index.ts'
import { checkErrorPage, counter, hasSession, logIn } from './flows.ts'
import { basicModules } from './basic.ts'
import type { Endpoint } from '../../lib/testing/index.ts'
import type { RunModule } from './module.ts'
import type { Start } from './party.ts'

const plan = 'oidcc-client-config-certification-test-plan'
const id = 'oidcc-client-test'

/** C15-C20 */
export const configModules: RunModule[] = [
  {
    number: 'C15',
    id: `${id}-discovery-openid-config`,
    plan,
    provider: 'metadata with marked endpoints',
    required: 'read the metadata and use its endpoints',
    run: usesMetadata
  },
  {
    number: 'C16',
    id: `${id}-discovery-jwks-uri-keys`,
    plan,
    provider: 'the key set at a random path',
    required: 'fetch it from the jwks_uri of the metadata',
    run: usesJwksUri
  },
  {
    number: 'C17',
    id: `${id}-discovery-issuer-mismatch`,
    plan,
    provider: 'another issuer in the metadata',
    required: 'stop before the authorization endpoint',
    run: issuerMismatch
  },
  { ...(basicModules.find(({ number }) => number === 'C9') as RunModule), number: 'C18', plan },
  {
    number: 'C19',
    id: `${id}-signing-key-rotation-just-before-signing`,
    plan,
    provider: 'new keys just before the ID token is signed',
    required: 'fetch the key set again, accept',
    run: rotationBeforeSigning
  },
  {
    number: 'C20',
    id: `${id}-signing-key-rotation`,
    plan,
    provider: 'new keys between two logins',
    required: 'fetch the key set again, accept the second',
    run: rotation
  }
]

async function usesMetadata (start: Start): Promise<string> {
  const party = await start()
  const { provider, browser } = party
  provider.fault(faults['discovery-openid-config'])
  await logIn(party)
  await browser.post('/auth/logout')
  const endpoints: Endpoint[] = ['authorize', 'token', 'userinfo', 'end_session']
  for (const name of endpoints) {
    const requests = provider.requests.filter(({ endpoint }) => endpoint === name)
    assert.ok(
      requests.length > 0 && requests.every(({ query }) => query['from'] !== undefined),
      `${name} is called at the address in the metadata`
    )
  }
  assert.equal(provider.count('metadata'), 1, 'the metadata is read once')
  return `read the metadata once; called ${endpoints.join(', ')} at its addresses`
}

async function usesJwksUri (start: Start): Promise<string> {
  const jwks = `/keys-${randomBytes(8).toString('hex')}`
  const party = await start({ provider: { paths: { jwks } } })
  const happened = await logIn(party)
  assert.deepEqual(
    party.provider.requests.filter(({ path }) => path.includes('/keys-')).map(({ path }) => path),
    [jwks],
    'the key set is fetched, once, from the jwks_uri'
  )
  return `${happened}; fetched the key set from ${jwks}`
}

async function issuerMismatch (start: Start): Promise<string> {
  const party = await start()
  const off = party.provider.fault(faults['discovery-issuer-mismatch'])
  for (const path of ['/me', '/auth/login']) {
    const page = await party.browser.goto(path)
    checkErrorPage(page, party, 'FST_OIDC_PROVIDER_RESPONSE')
    assert.equal(page.history.length, 1, 'no redirect')
  }
  assert.deepEqual(
    [party.provider.count('authorize'), party.provider.count('token'), hasSession(party.browser)],
    [0, 0, false],
    'no request to the provider, and no session'
  )
  off()
  party.clock.advance(5) // after a failure, the plugin waits before it tries again
  await logIn(party)
  return 'FST_OIDC_PROVIDER_RESPONSE; the authorization endpoint was not reached'
}

async function rotationBeforeSigning (start: Start): Promise<string> {
  const party = await start()
  await logIn(party) // the plugin has the keys before they change
  const count = counter(party)
  for (const fetched of [1, 2]) {
    party.provider.fault(faults['signing-key-rotation-just-before-signing'])
    await logIn(party)
    assert.equal(count('jwks'), fetched, 'the key set is fetched once for each rotation')
  }
  return 'logged in twice with keys created just before signing; fetched the key set once each time, without waiting'
}

async function rotation (start: Start): Promise<string> {
  const party = await start()
  await logIn(party)
  party.provider.rotateKeys()
  const count = counter(party)
  const happened = await logIn(party)
  assert.equal(count('jwks'), 1, 'the key set is fetched once more')
  return `${happened} at the second login; fetched the key set once more, without waiting`
}
