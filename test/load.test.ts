import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { errors } from 'jose'
import t from 'tap'
import { parseOptions } from '../lib/options/settings.ts'
import { createKeySet } from '../lib/provider/key-set.ts'
import { createPendingLogins } from '../lib/login/pending-logins.ts'
import { createProviders } from '../lib/provider/providers.ts'
import { createRefreshes } from '../lib/session/refresh-once.ts'
import { createTelemetry } from '../lib/telemetry.ts'
import { createTransport } from '../lib/provider/transport.ts'
import { client, sessionCookie, startClock, startProvider } from '../lib/testing/index.ts'
import {
  BASE_URL, buildApp, logIn, optionsFor, providerSettings, SESSION_KEY, startApp, stopClock
} from './support/app.ts'
import { CALLBACK, SESSION_COOKIE, anotherApp, untilCallback } from './support/protocol.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyReply, FastifyRequest, InjectOptions } from 'fastify'
import type { Test } from 'tap'
import type { KeySet } from '../lib/provider/key-set.ts'
import type { Provider as OpenIdProvider } from '../lib/provider/provider.ts'
import type { Sealer } from '../lib/sealer.ts'
import type { Provider } from '../lib/testing/index.ts'

// Faults, floods and herds: what matters is how often the provider is asked, and who pays for what others do.

t.setTimeout(120_000) // where other work shares the cores

const PAGE = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'cross-site'
}

async function startedProvider (t: Test): Promise<Provider> {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  return provider
}

function startedClock (t: Test) {
  const clock = startClock()
  t.teardown(() => clock.restore())
  return clock
}

/** Runs the jobs, so many at a time. */
async function inParallel<T> (width: number, jobs: Array<() => Promise<T>>): Promise<T[]> {
  const results: T[] = []
  const entries = jobs.entries()
  await Promise.all(Array.from({ length: width }, async () => {
    for (const [index, job] of entries) results[index] = await job()
  }))
  return results
}

function times<T> (count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index))
}

// Key rotation

t.test(
  'R8 keys rotate while logins are under way: none fails, and keys are fetched about once a rotation',
  async (t) => {
    const provider = await startedProvider(t)
    const clock = startedClock(t)
    const { app } = await anotherApp(t, provider)
    let tokens = 0
    let rotations = 0
    // Just before a token is signed, while others that the old key signed are on their way; two seconds are
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

// The key set under a flood

interface World {
  keySet: KeySet
  provider: Provider
  fetches: () => number
  fail: (failing: boolean) => void
}

async function startKeySet (t: Test): Promise<World> {
  const provider = await startedProvider(t)
  const transport = createTransport(providerSettings(optionsFor(provider)))
  let fetches = 0
  let failing = false
  const counting: typeof transport = async (url, init) => {
    fetches += 1
    if (failing) await delay(1)
    return failing ? await transport(`${provider.url}/nothing-here`, init) : await transport(url, init)
  }
  return {
    keySet: createKeySet(`${provider.url}/jwks`, counting),
    provider,
    fetches: () => fetches,
    fail: (value) => {
      failing = value
    }
  }
}

/** A token with the signature of another one under a key that nobody has: made by anybody, without a key. */
function unknownKid (token: string, index: number): string {
  const [, claims, signature] = token.split('.')
  const header = Buffer.from(JSON.stringify({ alg: 'RS256', kid: `random-${index}-${Math.random()}` })).toString(
    'base64url'
  )
  return `${header}.${claims}.${signature}`
}

async function flood (keySet: KeySet, token: string, count: number): Promise<unknown[]> {
  return await Promise.all(
    times(
      count,
      async (index) =>
        await keySet.verify(unknownKid(token, index), { algorithms: ['RS256'] }).then(
          () => 'accepted',
          (error: unknown) => error
        )
    )
  )
}

async function isVerified (keySet: KeySet, token: string): Promise<boolean> {
  return await keySet.verify(token, { algorithms: ['RS256'] }).then(
    () => true,
    () => false
  )
}

t.test(
  'R9 V36 ten thousand tokens of random keys ask for the keys a handful of times, and right ones pass meanwhile',
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
    t.ok(await isVerified(keySet, provider.idToken()), 'a rotation after the flood is followed within a second')
  }
)

t.test('R9 in one moment a flood asks five times at most', async (t) => {
  stopClock(t)
  const { keySet, provider, fetches } = await startKeySet(t)
  const token = provider.idToken()
  for (let round = 0; round < 10; round++) await flood(keySet, token, 100)
  t.ok(fetches() <= 1 + 5, `${fetches()} requests for keys`)
})

t.test(
  'R9 V36 a flood while the keys cannot be fetched: no more requests, right tokens pass, and a rotation is followed when they can be',
  async (t) => {
    const clock = stopClock(t)
    const { keySet, provider, fetches, fail } = await startKeySet(t)
    const token = provider.idToken()
    t.ok(await isVerified(keySet, token))
    fail(true)
    for (let second = 0; second < 5; second++) {
      const [outcomes, right] = await Promise.all([flood(keySet, token, 500), isVerified(keySet, token)])
      t.ok(outcomes.every((outcome) => outcome instanceof Error))
      t.ok(right, 'with the keys that are known')
      clock.advance(1)
    }
    t.ok(fetches() <= 1 + 5 + 5, `${fetches()} requests for keys in five seconds`)

    provider.rotateKeys()
    const rotated = provider.idToken()
    t.notOk(await isVerified(keySet, rotated), 'its key is not known yet')
    fail(false)
    clock.advance(2)
    t.ok(await isVerified(keySet, rotated), 'it is when the keys are there again')
    t.notOk(await isVerified(keySet, token), 'and a key that was removed is none any more')
  }
)

t.test('R9 without any keys a flood does not ask either', async (t) => {
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

// A provider that was started again

t.test(
  'R11 after a restart of the provider sessions live on, those that need a refresh log in once, and nobody turns in circles',
  async (t) => {
    const clock = startedClock(t)
    const ends: string[] = []
    const { app, provider } = await startApp(
      t,
      {
        offlineAccess: true,
        onLogout: ({ id }, { reason }) => {
          ends.push(`${reason} ${id}`)
        }
      },
      { accessTokenTtl: 300 }
    )
    app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
    const people = await inParallel(
      5,
      times(10, (index) => async () => await logIn({ app, provider }, `person-${index}`))
    )
    clock.advance(400)
    provider.forget()
    provider.rotateKeys({ sameKid: true })
    provider.clearRequests()

    const pages = await Promise.all(people.map(async (browser) => await browser.fetch('/me')))
    t.ok(
      pages.every(({ status }) => status === 200),
      'who only looks at pages notices nothing'
    )
    t.equal(provider.requests.length, 0)

    const refused = await Promise.all(
      people
        .flatMap((browser) => [browser.clone(), browser.clone(), browser])
        .map(async (browser) => await browser.fetch('/token'))
    )
    t.ok(refused.every(({ status }) => status === 401))
    t.equal(provider.count('token'), 10, 'each refresh token is tried once')
    t.equal(new Set(ends).size, 10)
    t.equal(ends.length, 10, 'each session ends once')

    provider.clearRequests()
    const again = await inParallel(
      5,
      people.map((browser) => async () => await browser.goto('/token'))
    )
    t.ok(again.every(({ status, url }) => status === 200 && url === `${BASE_URL}/token`))
    t.same([provider.count('authorize'), provider.count('token')], [10, 10], 'one login each')
    t.ok(provider.count('jwks') <= 3, `${provider.count('jwks')} requests for keys`)
  }
)

// Herds

t.test(
  'R26 a restart of the application: a herd of pages, logins and callbacks makes one discovery and one request for keys',
  async (t) => {
    const provider = await startedProvider(t)
    const before = await anotherApp(t, provider)
    const callbacks = await inParallel(
      10,
      times(60, () => async (): Promise<InjectOptions> => {
        const browser = client({ app: before.app, baseUrl: BASE_URL })
        const callback = await untilCallback(browser)
        return { url: callback.href, headers: { ...PAGE, cookie: browser.cookies.header(CALLBACK) } }
      })
    )
    const { app } = await anotherApp(t, provider)
    provider.clearRequests()
    provider.fault({ on: 'metadata', delay: 30 }, { on: 'jwks', delay: 30 })
    const others = times(940, (index): InjectOptions => ({
      url: ['/me', '/auth/login', '/maybe', '/auth/logout'][index % 4] as string,
      headers: PAGE
    }))
    const statuses = await Promise.all(
      [...callbacks, ...others].map(async (request) => {
        const { statusCode, headers } = await app.inject(request)
        return `${statusCode} ${String(headers.location ?? '').split('?', 1)[0]}`
      })
    )
    t.same(
      [...new Set(statuses)].sort(),
      [`302 ${BASE_URL}/me`, `302 ${provider.issuer}/authorize`, '200 ', '403 '].sort()
    )
    t.equal(statuses.filter((status) => status === `302 ${BASE_URL}/me`).length, 60, 'all callbacks log in')
    t.same([provider.count('metadata'), provider.count('jwks'), provider.count('token')], [1, 1, 60])
  }
)

// Who pays for what others do

t.test('R31 a token request that fails does not fail those beside it', async (t) => {
  const { app, provider } = await startApp(t)
  await logIn({ app, provider }, 'alice')
  provider.clearRequests()
  provider.fault(
    { on: 'token', delay: 20 },
    { on: 'token', status: 503, times: 3 },
    { on: 'token', reset: true, times: 5 }
  )
  const pages = await Promise.all(
    times(20, async () => await client({ app, baseUrl: BASE_URL }).goto('/auth/login?return_to=/me'))
  )
  const statuses = pages.map(({ status }) => status).sort()
  t.same(statuses, [...times(15, () => 200), ...times(5, () => 503)])
  t.equal(provider.count('token'), 20, 'each is sent once')
  t.equal(provider.count('jwks'), 0)
})

t.test('R31 keys that cannot be fetched fail those who need new ones, and only until they can be', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const goto = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status
  t.equal(await goto(), 200)
  provider.clearRequests()
  const off = provider.fault({ on: 'jwks', status: 503 })
  t.equal(await goto(), 200, 'the old keys do for a token of theirs')
  provider.rotateKeys()
  t.same([...new Set(await Promise.all(times(5, goto)))], [503])
  const failed = provider.count('jwks')
  t.ok(failed >= 1 && failed <= 5, `${failed} requests for keys`)
  off()
  clock.advance(1)
  t.same([...new Set(await Promise.all(times(10, goto)))], [200], 'the next ones get them')
  t.equal(provider.count('jwks'), failed + 1)
})

t.test('R31 R3 while keys cannot be fetched a login is told so, however many come', async (t) => {
  const provider = await startedProvider(t)
  const clock = startedClock(t)
  const { app } = await anotherApp(t, provider)
  const goto = async (): Promise<number> => (await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status
  t.equal(await goto(), 200)
  provider.rotateKeys()
  const off = provider.fault({ on: 'jwks', status: 503 })
  const statuses: number[] = []
  for (let count = 0; count < 12; count++) statuses.push(await goto())
  t.same([...new Set(statuses)], [503], 'and not that the answer is wrong')
  off()
  clock.advance(1)
  t.equal(await goto(), 200)
})

t.test('S58 R3 a refresh while keys cannot be fetched: the ID token is dropped, and not the session', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true }, { accessTokenTtl: 300 })
  const clock = startedClock(t)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const browser = await logIn({ app, provider }, 'alice')
  provider.rotateKeys()
  const off = provider.fault({ on: 'jwks', status: 503 })
  clock.advance(400)
  const token = await browser.fetch('/token')
  t.equal(token.status, 200)
  off()
  clock.advance(100)
  t.equal((await browser.fetch('/token')).text(), token.text())
  clock.advance(400)
  t.equal((await browser.fetch('/token')).status, 200, 'the refresh token of the answer was kept')
  provider.fault({ on: 'token', signWith: 'other-key' })
  clock.advance(400)
  t.equal((await browser.fetch('/token')).status, 403, 'a wrong ID token is refused as ever')
})

t.test('R31 a browser that goes away while many wait for the same answer takes nobody along', async (t) => {
  const { app, provider } = await startApp(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const head = 'GET /auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
  provider.fault({ on: 'metadata', delay: 150 })
  const sockets = await Promise.all(times(10, async () => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(head)
    return socket
  }))
  while (provider.count('metadata') === 0) await delay(5)
  for (const socket of sockets.splice(0, 5)) socket.destroy()
  const answers = await Promise.all(sockets.map(async (socket) => (await once(socket, 'data')).toString().slice(0, 12)))
  t.same([...new Set(answers)], ['HTTP/1.1 302'])
  t.equal(provider.count('metadata'), 1)
})

// What is remembered

/** Seals nothing, so that a hundred thousand are quick. */
function createOpenSealer (): Sealer & { name: string, content: unknown } {
  const sealer = {
    name: '',
    content: undefined as unknown,
    seal (_purpose: string, content: unknown) { sealer.content = content; return 'sealed' },
    open: () => ({ content: sealer.content, rotated: false }),
    setCookie (name: string) { sealer.name = name; return '' }
  }
  return sealer
}

t.test('R32 used logins are remembered for as long as they could be used, but not without end', async (t) => {
  const clock = stopClock(t)
  const settings = parseOptions({
    issuer: 'https://provider.test',
    clientId: 'web',
    baseUrl: BASE_URL,
    session: { key: SESSION_KEY }
  })
  const sealer = createOpenSealer()
  const pending = createPendingLogins(settings, sealer)
  const provider = createProviders(settings).all()[0] as OpenIdProvider
  const reply = { header () {} } as unknown as FastifyReply
  const begin = () => {
    const login = {
      ...pending.create(),
      provider: provider.id,
      returnTo: `${BASE_URL}/`,
      silent: false,
      restarted: false
    }
    pending.save({ headers: {} } as FastifyRequest, reply, provider, login)
    const { name, content } = sealer
    return { state: login.state, name, content }
  }
  const take = async ({ state, name, content }: ReturnType<typeof begin>): Promise<string> => {
    sealer.content = content
    return (await pending.take({ headers: { cookie: `${name}=sealed` } } as FastifyRequest, reply, provider, state))
      .status
  }
  const first = begin()
  const second = begin()
  t.same(
    [await take(first), await take(first), await take(second), await take(second)],
    ['fresh', 'over', 'fresh', 'over']
  )
  for (let count = 0; count < 100_000 - 2; count++) await take(begin())
  t.equal(await take(first), 'over', 'a hundred thousand')
  const last = begin()
  t.equal(await take(last), 'fresh')
  t.equal(
    await take(first),
    'fresh',
    'past the limit the oldest is forgotten; the code of the provider is used up all the same'
  )
  t.equal(await take(last), 'over')
  clock.advance(601)
  t.equal(await take(last), 'over', 'after its time it is too old itself')
  t.equal(await take(begin()), 'fresh')
})

/** Bytes in use, once everything that nobody needs is gone. */
async function heapInUse (): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  await delay(100)
  collect()
  return process.memoryUsage().heapUsed
}

/** Bytes that are still in use after the work, for each time it was done. */
async function retainedBy (work: () => Promise<void>): Promise<number> {
  for (let count = 0; count < 50; count++) await work()
  const before = await heapInUse()
  for (let count = 0; count < 300; count++) await work()
  return (await heapInUse() - before) / 300
}

t.test('R32 what is remembered does not keep the request that it came with', async (t) => {
  const { app, provider } = await startApp(t)
  const padding = times(4, (index) => `padding${index}=${'x'.repeat(4000)}`)
  const login = await retainedBy(async () => {
    const { headers, cookies } = await app.inject({ url: '/auth/login', headers: PAGE })
    const state = new URL(headers.location as string).searchParams.get('state') as string
    const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
    const { body } = await app.inject({
      url: `/auth/callback?error=x&state=${state}&iss=${provider.issuer}&${padding.join('&')}`,
      headers: { ...PAGE, cookie }
    })
    if (!body.includes('FST_OIDC_PROVIDER_REFUSED')) throw new Error(body)
  })
  t.ok(login < 8000, `${login} bytes for a used login`)
  const session = await retainedBy(async () => {
    const request = { url: '/me', headers: { cookie: `${sessionCookie(app)}; ${padding.join('; ')}` } }
    const answers = [await app.inject(request), await app.inject(request)]
    if (answers.some(({ statusCode }) => statusCode !== 200)) throw new Error('not logged in')
  })
  t.ok(session < 8000, `${session} bytes for an opened session`)
})

t.test('R32 answers of refreshes are shared, but not without end', async (t) => {
  const clock = stopClock(t)
  let asked = 0
  const provider = {
    id: 'provider',
    settings: { resource: [] },
    refresh: async (refreshToken: string) => {
      asked += 1
      return { tokens: { access_token: `new ${refreshToken}`, token_type: 'bearer' }, claims: undefined }
    }
  }
  const refreshes = createRefreshes(await createTelemetry(false), undefined)
  const token = async (refreshToken: string): Promise<string> => {
    const fresh = await refreshes.get(provider as unknown as OpenIdProvider, {
      access_token: 'old',
      expires_at: 1,
      refresh_token: refreshToken
    })
    return fresh.tokens.access_token
  }
  for (let count = 0; count < 10_000; count++) await token(`token ${count}`)
  t.equal(asked, 10_000)
  t.equal(await token('token 0'), 'new token 0')
  t.equal(asked, 10_000, 'ten thousand')
  await token('one more')
  await token('token 1')
  t.equal(asked, 10_001)
  await token('token 0')
  t.equal(asked, 10_002, 'past the limit the oldest is asked for again')
  clock.advance(60)
  await token('token 9999')
  t.equal(asked, 10_003, 'after a minute as well')
})

// Unauthenticated endpoints

function hostileRequests (callback: URL, cookie: string): InjectOptions[] {
  const state = callback.searchParams.get('state') as string
  const flipped = cookie.replace(/=(.)/, (_, first: string) => `=${first === 'A' ? 'B' : 'A'}`)
  const junk = (length: number): string => 'QUJD'.repeat(length)
  const own = { origin: BASE_URL, 'content-type': 'application/x-www-form-urlencoded' }
  return [
    ...[
      '',
      '?state=x&code=y',
      `?state=${state}&code=a&code=b`,
      `?state=${'s'.repeat(10_000)}&code=y`,
      `?state=${state}`,
      '?state=%FF&code=%00',
      '?error=access_denied'
    ].map((query) => ({ url: `/auth/callback${query}` })),
    { url: callback.href, headers: PAGE },
    { url: callback.href, headers: { ...PAGE, cookie: flipped } },
    {
      url: callback.href,
      headers: { ...PAGE, cookie: `${SESSION_COOKIE}-login-${state.slice(0, 16)}=${junk(200)}.${junk(8)}` }
    },
    { url: callback.href, headers: { ...PAGE, cookie, 'sec-purpose': 'prefetch' } },
    ...(['HEAD', 'POST', 'PUT', 'DELETE'] as const).map((method) => ({
      method,
      url: callback.href,
      headers: { ...PAGE, cookie }
    })),
    ...['/me', '/maybe', '/auth/session', '/auth/userinfo', '/token'].flatMap((url) => [
      { url },
      {
        url,
        headers: {
          cookie: `${SESSION_COOKIE}=${junk(400)}.${junk(8)}; ${SESSION_COOKIE}-tokens-0=${junk(900)}.${junk(8)}`
        }
      },
      { url, headers: { cookie: times(200, (index) => `${SESSION_COOKIE}-tokens-${index}=x`).join('; ') } }
    ]),
    { method: 'POST', url: '/auth/logout', headers: own, payload: 'return_to=https://evil.test' },
    { method: 'POST', url: '/auth/logout', headers: { ...own, cookie: `${SESSION_COOKIE}=${junk(400)}.${junk(8)}` } },
    { method: 'POST', url: '/auth/logout', headers: own, payload: 'x'.repeat(70_000) },
    { url: '/auth/logged-out?state=x' },
    { url: `/auth/logged-out?state=${junk(500)}.${junk(8)}` },
    { url: '/auth/login?return_to=https://evil.test', headers: PAGE },
    { url: '/auth/login', headers: { 'sec-fetch-mode': 'cors' } },
    { url: '/auth/login', headers: { ...PAGE, 'sec-fetch-dest': 'iframe' } }
  ]
}

t.test('R36 what comes without a login does not make the application ask the provider', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
  const callback = await untilCallback(browser)
  const requests = hostileRequests(callback, browser.cookies.header(CALLBACK))
  provider.clearRequests()
  const statuses = await Promise.all(
    times(8, () => requests)
      .flat()
      .map(async (request) => (await app.inject(request)).statusCode)
  )
  t.notOk(
    statuses.some((status) => status >= 500 && status !== 503),
    [...new Set(statuses)].join(' ')
  )
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    []
  )
  t.equal((await browser.goto(callback.href)).url, `${BASE_URL}/me`, 'the login that they used is still there')
})

t.test('R36 before the first login, most of it does not even make it look for the provider', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  const callback = await untilCallback(browser)
  const app = await buildApp(t, optionsFor(provider, { session: { key: SESSION_KEY } }))
  provider.clearRequests()
  const requests = hostileRequests(callback, browser.cookies.header(CALLBACK)).filter(
    ({ url }) => url !== '/auth/login?return_to=https://evil.test'
  )
  for (const request of requests) await app.inject(request)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    []
  )
})

t.test('R36 a logout that is sent again and again revokes once', async (t) => {
  const { app, provider } = await startApp(t, { offlineAccess: true })
  const browser = await logIn({ app, provider }, 'alice')
  const cookie = browser.cookies.header(BASE_URL)
  const post = async (): Promise<number> =>
    (await app.inject({ method: 'POST', url: '/auth/logout', headers: { origin: BASE_URL, cookie } })).statusCode
  provider.clearRequests()
  const statuses = [...(await Promise.all(times(30, post))), ...(await Promise.all(times(30, post)))]
  t.same([...new Set(statuses)], [303])
  await delay(50)
  t.same(
    provider.requests.map(({ endpoint }) => endpoint),
    ['revocation']
  )
})
