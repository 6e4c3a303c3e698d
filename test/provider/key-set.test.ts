import { setImmediate as nextTurn } from 'node:timers/promises'
import { errors } from 'jose'
import t from 'tap'
import { createKeySet } from '../../lib/provider/key-set.ts'
import { createTransport } from '../../lib/provider/transport.ts'
import { client, faults } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor, providerSettings, stopClock, silentLog } from '../support/app.ts'
import { inParallel, times } from '../support/crowd.ts'
import { createGate } from '../support/gate.ts'
import { anotherApp, assertLoggedIn, assertRefused, attempt, untilCallback } from '../support/protocol.ts'
import { startedClock, startedProvider } from '../support/started.ts'
import type { Test } from 'tap'
import type { KeySet } from '../../lib/provider/key-set.ts'
import type { Fault, Provider } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

t.test(
  'R8 logins succeed while the keys rotate, with about one request for keys per rotation',
  async (t) => {
    const provider = await startedProvider(t)
    const clock = startedClock(t)
    const { app } = await anotherApp(t, provider)
    let tokens = 0
    let rotations = 0
    // The keys rotate just before a token is signed, while tokens of the old key are on their way. Two seconds lie
    // between two rotations.
    provider.fault(
      {
        on: 'token',
        before: () => {
          tokens += 1
          if (tokens % 6 !== 0) return
          provider.rotateKeys({ keep: true })
          clock.advance(2)
          rotations += 1
        }
      },
      { on: 'jwks', delay: 5 }
    )
    const pages = await inParallel(
      8,
      times(60, () => async () => await client({ app, baseUrl: BASE_URL }).goto('/auth/login?return_to=/me'))
    )
    t.same([...new Set(pages.map(({ status }) => status))], [200])
    t.equal(provider.count('token'), 60)
    t.equal(rotations, 10)
    const fetches = provider.count('jwks')
    t.ok(fetches >= rotations && fetches <= rotations + 3, `${fetches} requests for keys`)
  }
)

interface World {
  keySet: KeySet
  provider: Provider
  fetches: () => number
  fail: (failing: boolean) => void
  /** Lets the next fetch hang until the result is called. */
  hang: () => () => void
}

type Verifier = Pick<KeySet, 'verify'>

const RULES = { algorithms: ['RS256'] }

async function startKeySet (t: Test): Promise<World> {
  const provider = await startedProvider(t)
  const transport = createTransport(providerSettings(optionsFor(provider)))
  let fetches = 0
  let failing = false
  let answer = Promise.resolve()
  const counting: typeof transport = async (url, init) => {
    fetches += 1
    await answer
    if (failing) await nextTurn()
    return failing ? await transport(`${provider.url}/nothing-here`, init) : await transport(url, init)
  }
  return {
    keySet: createKeySet(`${provider.url}/jwks`, counting, silentLog),
    provider,
    fetches: () => fetches,
    fail: (value) => {
      failing = value
    },
    hang: () => {
      const gate = createGate()
      answer = gate.pass()
      return gate.open
    }
  }
}

/** A token with the signature of another one and an unknown kid: an attacker makes it without any key. */
function unknownKid (token: string, index: number): string {
  const [, claims, signature] = token.split('.')
  const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid: `random-${index}-${Math.random()}` })).toString(
    'base64url'
  )
  return `${header}.${claims}.${signature}`
}

async function flood (keySet: Verifier, token: string, count: number): Promise<unknown[]> {
  return await Promise.all(
    times(
      count,
      async (index) =>
        await keySet.verify(unknownKid(token, index), RULES).then(
          () => 'accepted',
          (error: unknown) => error
        )
    )
  )
}

async function isVerified (keySet: Verifier, token: string): Promise<boolean> {
  return await keySet.verify(token, RULES).then(
    () => true,
    () => false
  )
}

t.test(
  'R9 V36 ten thousand tokens of random keys cause at most 16 requests for keys in ten seconds, and valid tokens pass',
  async (t) => {
    const clock = stopClock(t)
    const { keySet, provider, fetches } = await startKeySet(t)
    const token = provider.idToken()
    t.ok(await isVerified(keySet, token))
    const verified: boolean[] = []
    for (let second = 0; second < 10; second++) {
      const [outcomes, right] = await Promise.all([
        flood(keySet, token, 1000),
        Promise.all(times(5, async () => await isVerified(keySet, token)))
      ])
      t.ok(
        outcomes.every((outcome) => outcome instanceof errors.JWKSNoMatchingKey),
        `second ${second}`
      )
      verified.push(...right)
      clock.advance(1)
    }
    t.same([...new Set(verified)], [true])
    t.ok(fetches() <= 1 + 5 + 10, `${fetches()} requests for keys in ten seconds`)

    provider.rotateKeys()
    clock.advance(1)
    t.ok(await isVerified(keySet, provider.idToken()), 'a rotation after the flood takes effect within a second')
  }
)

const TOO_OLD = { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', detail: /is too old/, retryAfter: 1 }
/** Why 503 is the answer to a token of an unknown key. */
const UNKNOWN_KEY = { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', statusCode: 503, kind: 'flood', retryAfter: 1, level: 'info' }

/** Forged tokens until no more fetches are left, after the first tokens have fetched the keys. */
async function floodUntilLimit (keySet: Verifier, token: string): Promise<void> {
  for (let wave = 0; wave < 5; wave++) await flood(keySet, token, 20)
}

t.test('R9 tokens of unknown keys wait for the next fetch, and are not refused because of others', async (t) => {
  const clock = stopClock(t)
  const { keySet, provider, fetches } = await startKeySet(t)
  const token = provider.idToken()
  t.ok(await isVerified(keySet, token))
  await floodUntilLimit(keySet, token)
  t.equal(fetches(), 1 + 5, 'within a second there are five')
  clock.advance(0.6)
  provider.rotateKeys()
  const waiting = Promise.all([isVerified(keySet, provider.idToken()), flood(keySet, token, 99)])
  const others = await flood(keySet, token, 50)
  t.match(others, times(50, () => UNKNOWN_KEY), 'no more than a hundred wait')
  const [isFreshVerified, outcomes] = await waiting
  t.ok(isFreshVerified)
  t.ok(outcomes.every((outcome) => outcome instanceof errors.JWKSNoMatchingKey), 'for these, the answer is final')
  t.equal(fetches(), 1 + 5 + 1, 'all share one')
  t.match(await flood(keySet, token, 1), [UNKNOWN_KEY], 'the next one is too far away')
})

t.test('R9 tokens that would be refused in any case neither fetch keys nor wait', async (t) => {
  stopClock(t)
  const { keySet, provider, fetches } = await startKeySet(t)
  const claims = { iss: provider.issuer, aud: 'web', sub: 'alice', exp: Date.now() / 1000 + 60 }
  const rules = { issuer: [provider.issuer, 'https://other.example'], audience: 'web', algorithms: ['RS256'] }
  const refusal = async (changed: object, more: object = {}): Promise<unknown> => {
    const content = Buffer.from(JSON.stringify({ ...claims, ...changed })).toString('base64url')
    const token = unknownKid(`x.${content}.AAAA`, 0)
    return await keySet.verify(token, { ...rules, ...more }).catch((error: unknown) => error)
  }
  t.ok(await isVerified(keySet, provider.idToken()))
  const bad: Array<[changed: object, rules?: object]> = [
    [{ iss: 'https://evil.example' }], [{ iss: undefined }], [{ aud: 'other' }], [{ aud: [] }], [{ aud: undefined }],
    [{ exp: 1 }], [{ exp: Date.now() / 1000 }], [{ exp: '9e9' }], [{ exp: null }],
    [{}, { isForUs: () => false }]
  ]
  for (const [changed, more] of bad) {
    for (let count = 0; count < 6; count++) t.type(await refusal(changed, more), errors.JWKSNoMatchingKey)
  }
  t.equal(fetches(), 1)
  const good: Array<[changed: object, rules?: object]> = [
    [{ exp: undefined }], [{ aud: ['x', 'web'] }], [{ exp: Date.now() / 1000 - 10 }, { clockTolerance: 30 }],
    [{ iss: 'x', aud: 'x' }, { issuer: undefined, audience: undefined }], [{}, { isForUs: () => true }]
  ]
  for (const [changed, more] of good) t.type(await refusal(changed, more), errors.JWKSNoMatchingKey)
  t.equal(fetches(), 1 + 5, 'each of these fetches them')
  const noClaims = unknownKid(`x.${Buffer.from('no JSON').toString('base64url')}.AAAA`, 0)
  await t.rejects(keySet.verify(noClaims, rules), { code: 'ERR_JWT_INVALID' })
})

t.test('R9 logins and logouts after a key rotation succeed while a flood has used up the fetches of others', async (t) => {
  const clock = stopClock(t)
  const { keySet, provider, fetches } = await startKeySet(t)
  const { ofLogins, ofLogouts } = keySet
  t.ok(await isVerified(keySet, provider.idToken()))
  await floodUntilLimit(keySet, provider.idToken())
  t.equal(fetches(), 1 + 5)
  provider.rotateKeys()
  t.ok(await isVerified(ofLogins, provider.idToken()))
  t.equal(fetches(), 1 + 6)
  provider.rotateKeys()
  t.ok(await isVerified(ofLogouts, provider.idToken()))
  t.equal(fetches(), 1 + 7)
  clock.advance(0.6)
  for (const verifier of [ofLogins, ofLogouts]) {
    const before = fetches()
    for (let wave = 0; wave < 4; wave++) await flood(verifier, provider.idToken(), 20)
    t.equal(fetches(), before + 4, 'they have a limit as well')
    const waiting = flood(verifier, provider.idToken(), 100)
    t.match(await flood(verifier, provider.idToken(), 1), [UNKNOWN_KEY])
    await waiting
    t.equal(fetches(), before + 5)
  }
})

t.test('R2 a hanging endpoint of the keys delays no token of a known key', async (t) => {
  const clock = stopClock(t)
  const { keySet, provider, fetches, hang } = await startKeySet(t)
  const token = provider.idToken({ overrides: { exp: Date.now() / 1000 + 86_400 } })
  t.ok(await isVerified(keySet, token))
  clock.advance(601)
  const release = hang()
  t.same(await Promise.all(times(20, async () => await isVerified(keySet, token))), times(20, () => true))
  t.equal(fetches(), 2)
  await t.rejects(keySet.verify(unknownKid(token, 0), RULES), UNKNOWN_KEY, 'an unknown key waits for a second')
  clock.advance(600)
  await t.rejects(keySet.verify(token, RULES), TOO_OLD, 'after another ten minutes it does not count')
  release()
  t.ok(await keySet.load(), 'the keys have come')

  clock.advance(1300)
  const goOn = hang()
  const morning = keySet.verify(token, RULES)
  provider.rotateKeys()
  goOn()
  await t.rejects(morning, { code: 'ERR_JWKS_NO_MATCHING_KEY' }, 'S53 a key that was taken away does not verify the first request')
})

t.test('S53 R7 an empty or broken key set never replaces good keys', async (t) => {
  const clock = stopClock(t)
  const { keySet, provider } = await startKeySet(t)
  const token = provider.idToken({ overrides: { exp: Date.now() / 1000 + 86_400 } })
  const bad: Fault[] = [
    { on: 'jwks', jwks: () => ({ keys: [] }) },
    { on: 'jwks', jwks: () => ({ keys: [{ kty: 'RSA', n: 'AQAB', e: 'AQAB', kid: 'short' }, 5, null] as never }) },
    faults['jwks-not-an-array'] as Fault,
    faults['jwks-html'] as Fault
  ]
  t.ok(await isVerified(keySet, token))
  for (const fault of bad) {
    const off = provider.fault(fault)
    clock.advance(3600)
    t.ok(await isVerified(keySet, token), JSON.stringify(fault))
    t.notOk(await keySet.load(), 'they are stale')
    off()
  }
  provider.rotateKeys()
  clock.advance(3600)
  t.notOk(await isVerified(keySet, token), 'other good keys do')
  t.ok(await isVerified(keySet, provider.idToken()))

  const fresh = await startKeySet(t)
  fresh.provider.fault({ ...bad[0] as Fault, times: 2 })
  t.notOk(await isVerified(fresh.keySet, fresh.provider.idToken()), 'without keys from before, there are none')
  t.notOk(await isVerified(fresh.keySet, fresh.provider.idToken()))
  t.ok(await isVerified(fresh.keySet, fresh.provider.idToken()), 'and the first good ones are used at once')
})

t.test(
  'R9 V36 a flood while the keys cannot be fetched causes no more requests, and valid tokens pass',
  async (t) => {
    const clock = stopClock(t)
    const { keySet, provider, fetches, fail } = await startKeySet(t)
    const token = provider.idToken()
    t.ok(await isVerified(keySet, token))
    fail(true)
    for (let second = 0; second < 5; second++) {
      const [outcomes, right] = await Promise.all([flood(keySet, token, 500), isVerified(keySet, token)])
      t.ok(outcomes.every((outcome) => outcome instanceof Error))
      t.ok(right, 'with the known keys')
      clock.advance(1)
    }
    t.ok(fetches() <= 1 + 5 + 5, `${fetches()} requests for keys in five seconds`)

    provider.rotateKeys()
    const rotated = provider.idToken()
    t.notOk(await isVerified(keySet, rotated), 'its key is not known yet')
    fail(false)
    clock.advance(2)
    t.ok(await isVerified(keySet, rotated), 'it is valid when the keys can be fetched again')
    t.notOk(await isVerified(keySet, token), 'and a removed key is not accepted any more')
  }
)

t.test('R9 before the first keys a flood causes one request per second', async (t) => {
  const clock = stopClock(t)
  const { keySet, provider, fetches, fail } = await startKeySet(t)
  const token = provider.idToken()
  fail(true)
  for (let round = 0; round < 10; round++) {
    const outcomes = await flood(keySet, token, 50)
    t.ok(outcomes.every((outcome) => (outcome as { code?: string }).code === 'FST_OIDC_PROVIDER_RESPONSE'))
  }
  t.equal(fetches(), 1, 'a failure is remembered for a second')
  fail(false)
  clock.advance(1)
  t.ok(await isVerified(keySet, token))
  t.equal(fetches(), 2)
})

t.test('C19 signing-key-rotation-just-before-signing', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  provider.fault(faults['signing-key-rotation-just-before-signing'])
  t.equal((await browser.goto('/auth/login')).status, 200, 'with no keys yet')
  provider.fault(faults['signing-key-rotation-just-before-signing'])
  t.equal((await browser.goto('/auth/login')).status, 200, 'and with keys that are old by now')
  t.equal(provider.count('jwks'), 2)
  await assertLoggedIn(t, browser)
})

t.test('C20 S53 signing-key-rotation: login after login, without waiting', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  t.equal((await browser.goto('/auth/login')).status, 200)
  provider.fault(faults['signing-key-rotation'])
  for (let i = 1; i <= 4; i++) {
    const page = await browser.goto('/auth/login?return_to=/me')
    t.equal(page.status, 200, `rotation ${i}`)
    t.equal(provider.count('jwks'), i + 1, 'each is fetched once')
  }
})

t.test('R11 new keys under the old kid', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  await browser.goto('/auth/login')
  const { kid } = provider.jwks().keys[0] as { kid: string }
  provider.rotateKeys({ sameKid: true })
  t.equal(provider.jwks().keys[0]?.kid, kid)
  t.equal((await browser.goto('/auth/login')).status, 200)
  t.equal(provider.count('jwks'), 2)
})

t.test('R8 fifty logins at once succeed while the keys rotate', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const browsers = Array.from({ length: 40 }, () => client({ app, baseUrl: BASE_URL }))
  const callbacks = await Promise.all(browsers.map(async (browser) => await untilCallback(browser)))
  provider.fault({ on: 'jwks', delay: 10 })
  for (let round = 0; round < 4; round++) {
    if (round > 0) provider.rotateKeys()
    clock.advance(2)
    const now = browsers.slice(round * 10, round * 10 + 10)
    const pages = await Promise.all(
      now.map(async (browser, index) => await browser.goto((callbacks[round * 10 + index] as URL).href))
    )
    t.same([...new Set(pages.map(({ status }) => status))], [200], `round ${round}`)
  }
  t.equal(provider.count('token'), 40)
  t.equal(provider.count('jwks'), 4)
})

t.test('R9 tokens of unknown keys cannot be used to flood the provider', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app, browser } = await anotherApp(t, provider)
  await browser.goto('/auth/login')
  provider.clearRequests()
  const off = provider.fault(faults['sig-unknown-kid'])
  const pages = await Promise.all(
    Array.from({ length: 60 }, async () => await client({ app, baseUrl: BASE_URL }).goto('/auth/login'))
  )
  off()
  t.same([...new Set(pages.map(({ status }) => status))], [403])
  t.equal(provider.count('token'), 60)
  t.ok(provider.count('jwks') <= 12, `${provider.count('jwks')} requests for keys`)
  t.equal((await browser.goto('/auth/login')).status, 200, 'a right token still passes')

  clock.advance(10)
  provider.rotateKeys()
  t.equal((await browser.goto('/auth/login')).status, 200, 'and a rotation after the flood is followed')
})

t.test('R7 a key set of 10,000 keys is too large, unless that is allowed', async (t) => {
  const provider = await startedProvider(t)
  await assertRefused(t, await attempt(t, provider, faults['jwks-10000-keys']), 502, 'FST_OIDC_PROVIDER_RESPONSE')
  const { browser } = await attempt(t, provider, faults['jwks-10000-keys'], {
    maxResponseBytes: 16 * 2 ** 20,
    timeout: 20
  })
  await assertLoggedIn(t, browser)
})

t.test('R31 while the keys cannot be fetched, only logins that need new keys fail', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const goto = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status
  t.equal(await goto(), 200)
  provider.clearRequests()
  const off = provider.fault({ on: 'jwks', status: 503 })
  t.equal(await goto(), 200, 'the old keys verify their tokens')
  provider.rotateKeys()
  t.same([...new Set(await Promise.all(times(5, goto)))], [503])
  const failed = provider.count('jwks')
  t.ok(failed >= 1 && failed <= 5, `${failed} requests for keys`)
  off()
  clock.advance(1)
  t.same([...new Set(await Promise.all(times(10, goto)))], [200], 'later logins get them')
  t.equal(provider.count('jwks'), failed + 1)
})

t.test('R31 R3 while the keys cannot be fetched, each login gets 503', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const goto = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status
  t.equal(await goto(), 200)
  provider.rotateKeys()
  const off = provider.fault({ on: 'jwks', status: 503 })
  const statuses: number[] = []
  for (let count = 0; count < 12; count++) statuses.push(await goto())
  t.same([...new Set(statuses)], [503], 'and not 403')
  off()
  clock.advance(1)
  t.equal(await goto(), 200)
})
