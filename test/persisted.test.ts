import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { createMemoryStore } from '../lib/store/memory.ts'
import { startClock } from '../lib/testing/index.ts'
import { API, build, cookiesOf, fixedProvider, ISSUER, NATIVE } from './support/persisted.ts'
import { testKey } from './support/keys.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { SessionOptions, Store } from '../index.ts'
import type {
  Approval, Built, FixedProvider, Fixtures, JsonOptions, Persisted, StoredEntry, StoredLogin, StoredSession
} from './support/persisted.ts'

/**
 * Values that an earlier version wrote must work in this one: users stay logged in, pending logins complete, and grants
 * can be refreshed. The values are in fixtures/persisted.json, which fixtures/make-persisted.ts wrote. They expire, so
 * each test sets the clock to the time when they were made.
 */

const fixtures = JSON.parse(readFileSync('test/fixtures/persisted.json', 'utf8')) as Fixtures
const BASE = 'https://app.example.com'
const NEW_KEY = testKey(12)
const NEW_SECRET = 'another secret, which is long enough too'
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'

/** The session cookie of each registration that keeps sessions in cookies. */
const COOKIE_NAMES = {
  https: '__Host-oidc',
  http: 'oidc',
  prefix: '__Host-oidc.login.oidc',
  named: '__Host-shop',
  scoped: '__Host-oidc.tenant'
}

const clock = startClock()
t.teardown(() => clock.restore())
t.beforeEach(() => clock.set(fixtures.madeAt))

interface World extends Built {
  made: Persisted
  provider: FixedProvider
}

interface OpenOptions {
  options?: Partial<JsonOptions>
  /** What is loaded into the store instead of its fixture. */
  entries?: readonly StoredEntry[]
}

function madeBy (name: string): Persisted {
  const made = fixtures.registrations[name]
  if (made === undefined) throw new Error(`there are no fixtures of ${name}`)
  return made
}

/** A new process with the options of then, and with the store as it was. */
async function open (t: Test, name: string, { options, entries }: OpenOptions = {}): Promise<World> {
  const made = madeBy(name)
  const provider = await fixedProvider(fixtures.jwks.keys)
  const store = made.store === undefined ? undefined : await storeOf(entries ?? made.store)
  const built = await build(t, { ...made, options: { ...made.options, ...options } as JsonOptions }, provider, store)
  return { ...built, made, provider }
}

async function storeOf (entries: readonly StoredEntry[]): Promise<Store> {
  const store = { ...createMemoryStore(), inProcess: false }
  for (const { key, value, expiresAt, tags } of entries) await store.set(key, value, { expiresAt, tags })
  return store
}

function pick<T> (values: Record<string, T>, name: string): T {
  const value = values[name]
  if (value === undefined) throw new Error(`there is no fixture ${name}`)
  return value
}

/** The same, but for one character. */
function changed (text: string): string {
  const at = text.length - 60
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1)
}

const nameOf = (cookie: string): string => cookie.slice(0, cookie.indexOf('='))
const kindOf = ({ key }: StoredEntry): string => key.slice(0, key.indexOf(':'))
const param = (location: unknown, name: string): string | null => new URL(String(location)).searchParams.get(name)

function assertSession (
  t: Test, response: LightMyRequestResponse, { sub, session }: StoredSession, setCookies = 0
): void {
  t.equal(response.statusCode, 200)
  const { claims, user, session: found } = response.json()
  t.match(claims, { iss: ISSUER, sub, email: `${sub}@example.com`, roles: ['admin'] })
  t.same(user, { id: 7, of: sub }, 'with what onClaims returned')
  t.same(found, session)
  t.equal(cookiesOf(response).length, setCookies, 'cookies that are set')
}

function assertRefused (t: Test, response: LightMyRequestResponse, message: string): void {
  t.match([response.statusCode, response.json()], [401, { code: 'FST_OIDC_LOGIN_REQUIRED' }], message)
}

/** The page of an error, for a user. */
function assertPage (t: Test, response: LightMyRequestResponse, status: number, code: string): void {
  t.equal(response.statusCode, status, code)
  t.match(response.body, code)
  t.notOk(response.headers.location, 'no redirect')
}

/** The user comes back from the provider. */
async function comeBack (
  { get, callbackOf, provider }: World, { location, cookies }: Omit<StoredLogin, 'state'>, approval?: Approval
): Promise<LightMyRequestResponse> {
  return await get(`${callbackOf(location)}?${provider.approve(location, approval)}`, cookies, { accept: 'text/html' })
}

t.test('the fixtures have each kind of entry', async (t) => {
  const entries = Object.values(fixtures.registrations).flatMap(({ store = [] }) => store)
  t.same([...new Set(entries.map(kindOf))].sort(), [
    'code', 'code-used', 'ended', 'grant', 'login', 'logout-token', 'peer-keys', 'proof', 'refresh', 'session',
    'signing-keys'
  ])
})

t.test('sessions in cookies', async (t) => {
  for (const [name, cookieName] of Object.entries(COOKIE_NAMES)) {
    await t.test(name, async (t) => {
      const { made, get } = await open(t, name)
      const session = pick(made.sessions, 'plain')
      t.same(session.cookies.map(nameOf), [cookieName, `${cookieName}-tokens-0`])
      assertSession(t, await get('/me', session.cookies), session)
      const token = await get('/token', session.cookies)
      t.same([token.statusCode, token.json()], [200, { token: session.accessToken }])

      const [hot, cold] = session.cookies as [string, string]
      assertRefused(t, await get('/me', [changed(hot), cold]), 'one byte of the session is changed')
      assertRefused(t, await get('/token', [hot, changed(cold)]), 'one byte of the tokens is changed')
      assertSession(t, await get('/me', [hot, changed(cold)]), session)

      const [foreign] = pick(madeBy(name === 'https' ? 'http' : 'https').sessions, 'plain').cookies as [string]
      const renamed = cookieName + foreign.slice(foreign.indexOf('='))
      assertRefused(t, await get('/me', [renamed]), 'a session of another registration')

      clock.advance(3601)
      assertRefused(t, await get('/me', session.cookies), 'after the idle time')
    })
  }
})

t.test('tokens that take several cookies', async (t) => {
  const { made, get } = await open(t, 'https')
  const session = pick(made.sessions, 'large')
  t.same(session.cookies.map(nameOf), ['__Host-oidc', '__Host-oidc-tokens-0', '__Host-oidc-tokens-1'])
  assertSession(t, await get('/me', session.cookies), session)
  t.same((await get('/token', session.cookies)).json(), { token: session.accessToken })
  assertRefused(t, await get('/token', session.cookies.slice(0, 2)), 'one cookie is missing')
})

t.test('tokens that are refreshed, in cookies and in the store', async (t) => {
  for (const name of ['https', 'records']) {
    await t.test(name, async (t) => {
      const { made, get, provider } = await open(t, name)
      const session = pick(made.sessions, 'expiring')
      clock.advance(20)
      const response = await get('/token', session.cookies)
      t.equal(response.statusCode, 200)
      const { token } = response.json()
      t.not(token, session.accessToken)
      const [request, ...others] = provider.tokenRequests as [URLSearchParams]
      t.same([request.get('grant_type'), request.getAll('resource'), others.length], ['refresh_token', [API], 0])
      t.same(JSON.parse(Buffer.from(request.get('refresh_token') as string, 'base64url').toString()).sub, session.sub)
      const cookies = cookiesOf(response)
      assertSession(t, await get('/me', cookies), session)
      t.same((await get('/token', cookies)).json(), { token })
    })
  }
})

t.test('sessions of a key or secret that was rotated', async (t) => {
  const { key } = madeBy('https').options.session
  const { secret } = madeBy('prefix').options.session
  const cases: Array<[string, SessionOptions, SessionOptions]> = [
    ['https', { key: [NEW_KEY, key as string] }, { key: NEW_KEY }],
    ['prefix', { secret: [NEW_SECRET, secret as string] }, { secret: NEW_SECRET }]
  ]
  for (const [name, both, newOnly] of cases) {
    const session = pick(madeBy(name).sessions, 'plain')
    const { get } = await open(t, name, { options: { session: both } })
    const response = await get('/me', session.cookies)
    assertSession(t, response, session, 2)
    const later = await open(t, name, { options: { session: newOnly } })
    assertSession(t, await later.get('/me', cookiesOf(response)), session)
    t.same((await later.get('/token', cookiesOf(response))).json(), { token: session.accessToken })
    assertRefused(t, await later.get('/me', session.cookies), 'the old key is gone')
  }
})

t.test('logins that wait for their callback', async (t) => {
  for (const [name, cookieName] of Object.entries(COOKIE_NAMES)) {
    await t.test(name, async (t) => {
      const world = await open(t, name)
      const login = pick(world.made.logins, 'ordinary')
      t.same(login.cookies.map(nameOf), [`${cookieName}-login-${login.state.slice(0, 16)}`])
      const broken = await comeBack(world, { ...login, cookies: login.cookies.map(changed) })
      assertPage(t, broken, 400, 'FST_OIDC_STATE')
      t.equal(world.provider.tokenRequests.length, 0, 'no code is sent for a changed login')

      const response = await comeBack(world, login)
      const returnTo = new URL('/me?page=2', world.made.options.baseUrl).href
      t.same([response.statusCode, response.headers.location], [302, returnTo])
      const cookies = cookiesOf(response)
      t.same(cookies.map(nameOf).sort(), [cookieName, ...login.cookies.map(nameOf), `${cookieName}-tokens-0`].sort())
      const me = await world.get('/me', cookies)
      t.match([me.statusCode, me.json()], [200, { claims: { sub: 'alice' }, user: { id: 7 } }])
      t.equal(world.provider.tokenRequests.length, 1)
      const again = await comeBack(world, login)
      t.equal(again.statusCode, 302, 'the second time, the login begins again')
      t.ok(String(again.headers.location).startsWith(`${ISSUER}/authorize?`))
      t.equal(world.provider.tokenRequests.length, 1)
    })
  }
})

t.test('without room, a login that waits goes after cookies with such names that no key opens', async (t) => {
  const { made, get } = await open(t, 'https')
  const waiting = pick(made.logins, 'ordinary').cookies[0] as string
  const broken = ['1', '2'].map((end) => `__Host-oidc-login-${'z'.repeat(15)}${end}=${'x'.repeat(3400)}`)
  const removedBy = async (cookies: string[]): Promise<string[]> => {
    const response = await get('/auth/login', cookies)
    return response.cookies.filter(({ maxAge }) => maxAge === 0).map(({ name }) => name)
  }
  t.same(await removedBy([...broken, waiting]), [nameOf(broken[0] as string)], 'the waiting login, which is older, stays')
  const session = `__Host-oidc-tokens-0=${'x'.repeat(6900)}`
  t.same(await removedBy([...broken, waiting, session]), [...broken, waiting].map(nameOf), 'it goes last')
})

t.test('a login with max_age, acr_values and resource', async (t) => {
  const login = pick(madeBy('https').logins, 'demanding')
  const world = await open(t, 'https')
  const response = await comeBack(world, login, { claims: { acr: 'silver' }, expiresIn: 20 })
  t.same([response.statusCode, response.headers.location], [302, `${BASE}/me`])
  t.same(world.provider.tokenRequests[0]?.getAll('resource'), [API, `${API}/more`])
  t.equal((await world.get('/token', cookiesOf(response))).statusCode, 200)
  t.same(world.provider.tokenRequests[1]?.getAll('resource'), [API, `${API}/more`], 'the refresh asks for the same')

  const old = await open(t, 'https')
  const longAgo = Math.floor(Date.now() / 1000) - 331
  const late = await comeBack(old, login, { claims: { acr: 'gold', auth_time: longAgo } })
  t.equal(late.statusCode, 302, 'K14 the login begins once more')
  t.equal(new URL(late.headers.location as string).searchParams.get('prompt'), 'login consent')
  t.notOk(cookiesOf(late).map(nameOf).includes('__Host-oidc'), 'no session')
  const weak = await open(t, 'https')
  assertPage(t, await comeBack(weak, login, { claims: { acr: 'bronze' } }), 403, 'FST_OIDC_ID_TOKEN')
  const ordinary = await comeBack(weak, pick(weak.made.logins, 'ordinary'), { claims: { auth_time: longAgo } })
  t.equal(ordinary.statusCode, 302, 'a login that did not ask for them completes')
})

t.test('a silent login that the provider refuses', async (t) => {
  const { made, get } = await open(t, 'https')
  const refuse = async ({ state, cookies }: StoredLogin): Promise<LightMyRequestResponse> => {
    const query = new URLSearchParams({ error: 'login_required', state, iss: ISSUER })
    return await get(`/auth/callback?${query.toString()}`, cookies, { accept: 'text/html' })
  }
  const response = await refuse(pick(made.logins, 'silent'))
  t.same([response.statusCode, response.headers.location], [302, `${BASE}/maybe`])
  t.notOk(cookiesOf(response).find((cookie) => cookie.startsWith('__Host-oidc=')), 'there is no session')
  assertPage(t, await refuse(pick(made.logins, 'ordinary')), 403, 'FST_OIDC_PROVIDER_REFUSED')

  const page = await get('/maybe', [pick(made.values, 'silent')], { accept: 'text/html' })
  t.same([page.statusCode, page.json()], [200, { sub: null }], 'no second silent login for a while')
  t.equal((await get('/maybe', [], { accept: 'text/html' })).statusCode, 302)
})

t.test('a login that was begun again', async (t) => {
  const login = pick(madeBy('https').logins, 'restarted')
  const inTime = await comeBack(await open(t, 'https'), login)
  t.same([inTime.statusCode, inTime.headers.location], [302, `${BASE}/me?page=2`])

  clock.advance(601)
  const world = await open(t, 'https')
  assertPage(t, await comeBack(world, login), 400, 'FST_OIDC_STATE')
  const other = await comeBack(world, pick(world.made.logins, 'ordinary'))
  t.equal(other.statusCode, 302, 'a login that was begun once begins again')
  t.ok(String(other.headers.location).startsWith(`${ISSUER}/authorize?`))
  t.equal(world.provider.tokenRequests.length, 0)
})

t.test('the callback of a login that was used', async (t) => {
  const world = await open(t, 'https')
  const used = pick(world.made.used, 'demanding')
  t.same(used.cookies.map(nameOf), used.before.map(nameOf))
  const session = pick(world.made.sessions, 'plain')
  const response = await comeBack(world, { ...used, cookies: [...used.cookies, ...session.cookies] })
  t.same([response.statusCode, response.headers.location], [302, `${BASE}/me`], 'with a session it goes on')

  const again = await comeBack(world, used)
  t.equal(again.statusCode, 302, 'without a session it begins again')
  const { location } = again.headers
  t.same([param(location, 'max_age'), param(location, 'acr_values')], ['300', 'gold silver'])
  t.same(new URL(String(location)).searchParams.getAll('resource'), [API, `${API}/more`])
  const next = { location: String(location), cookies: cookiesOf(again) }
  const complete = await comeBack(world, next, { claims: { acr: 'gold' } })
  t.same([complete.statusCode, complete.headers.location], [302, `${BASE}/me`])

  const silent = await comeBack(world, pick(world.made.used, 'silent'))
  t.same([silent.statusCode, silent.headers.location], [302, `${BASE}/maybe`], 'a silent one goes on without a session')
  const requests = world.provider.tokenRequests.length
  const broken = await comeBack(world, { ...used, cookies: used.cookies.map(changed) })
  assertPage(t, broken, 400, 'FST_OIDC_STATE')
  t.same([requests, world.provider.tokenRequests.length], [1, 1], 'only the login that completed sent a code')
})

t.test('a login that remembers the session before it', async (t) => {
  const { made, get, post, callbackOf, provider, ended } = await open(t, 'formPost')
  const session = pick(made.sessions, 'plain')
  const { location, cookies } = pick(made.logins, 'ordinary')
  assertSession(t, await get('/me', session.cookies), session)
  const form = Object.fromEntries(new URLSearchParams(provider.approve(location, { sub: 'bob' })))
  const [own] = cookies.filter((cookie) => cookie.startsWith('__Host-oidc-login-')) as [string]
  const broken = await post(callbackOf(location), form, { cookie: changed(own), accept: 'text/html' })
  assertPage(t, broken, 400, 'FST_OIDC_STATE')
  const response = await post(callbackOf(location), form, { cookie: own })
  t.same([response.statusCode, response.headers.location], [303, `${BASE}/me?page=2`])
  t.same(ended, [`login ${session.session.id}`])
  assertRefused(t, await get('/me', session.cookies), 'the session before has ended')
  t.match((await get('/me', cookiesOf(response))).json(), { claims: { sub: 'bob' } })
})

t.test('the state of a logout', async (t) => {
  const { made, get } = await open(t, 'https')
  const state = pick(made.values, 'logoutState')
  const back = async (state: string): Promise<unknown> => {
    const response = await get(`/auth/logged-out?${new URLSearchParams({ state }).toString()}`)
    return [response.statusCode, response.headers.location]
  }
  t.same(await back(state), [302, `${BASE}/bye`])
  t.same(await back(changed(state)), [302, `${BASE}/`])
  clock.advance(601)
  t.same(await back(state), [302, `${BASE}/`])
})

t.test('sessions in the store', async (t) => {
  const { made, get, oidc, ended } = await open(t, 'records')
  const session = pick(made.sessions, 'plain')
  t.same(session.cookies.map(nameOf), ['__Host-oidc'])
  assertSession(t, await get('/me', session.cookies), session)
  t.same((await get('/token', session.cookies)).json(), { token: session.accessToken })
  assertRefused(t, await get('/me', pick(made.sessions, 'ended').cookies), 'a session that was logged out')

  const { id, sid, provider } = session.session as Required<typeof session.session>
  const found = { ...session.session, sub: 'alice' }
  for (const filter of [{ id }, { sub: 'alice' }, { sid }, { provider, sub: 'alice' }]) {
    t.same(await oidc.sessions.list(filter), [found], JSON.stringify(filter))
  }
  t.same((await oidc.sessions.list({ provider })).map(({ sub }) => sub).sort(), ['alice', 'carol'])
  t.equal(await oidc.sessions.revoke({ sub: 'alice' }), 1)
  t.same(ended, [`revoked ${id}`])
  assertRefused(t, await get('/me', session.cookies), 'a session that is revoked now')
  t.equal((await get('/me', pick(made.sessions, 'expiring').cookies)).statusCode, 200, 'the session of another user')
})

t.test('sessions in a store that was changed', async (t) => {
  const made = madeBy('records')
  const session = pick(made.sessions, 'plain')
  const entries = made.store as StoredEntry[]
  const all = entries.filter((entry) => kindOf(entry) === 'session') as [StoredEntry, StoredEntry]
  const [first, second] = all
  const broken = all.map((entry) => ({ ...entry, value: changed(entry.value) }))
  const swapped = [{ ...first, value: second.value }, { ...second, value: first.value }]
  for (const entries of [broken, swapped]) {
    const { get } = await open(t, 'records', { entries })
    const response = await get('/token', session.cookies)
    t.match([response.statusCode, response.json()], [503, { code: 'FST_OIDC_STORE_UNAVAILABLE' }])
  }
  const { get } = await open(t, 'records', { entries: [] })
  assertRefused(t, await get('/me', session.cookies), 'the session is not in the store')
})

t.test('a store of a key that was rotated', async (t) => {
  const { key } = madeBy('records').options.session
  const session = { key: [NEW_KEY, key as string], store: true }
  const { made, get } = await open(t, 'records', { options: { session } })
  const plain = pick(made.sessions, 'plain')
  assertSession(t, await get('/me', plain.cookies), plain, 1)
  t.same((await get('/token', plain.cookies)).json(), { token: plain.accessToken })
  const without = await open(t, 'records', { options: { session: { key: NEW_KEY, store: true } } })
  assertRefused(t, await without.get('/me', plain.cookies), 'the old key is gone')

  const broker = await open(t, 'broker', { options: { session: { key: [NEW_KEY, key as string] } } })
  const { accessToken, refreshToken } = pick(broker.made.grants, 'plain')
  t.equal((await broker.get('/me', [], { authorization: `Bearer ${accessToken}` })).statusCode, 200)
  const refreshed = await broker.post('/auth/token', { grant_type: 'refresh_token', refresh_token: refreshToken })
  t.equal(refreshed.statusCode, 200)
})

t.test('sessions that have ended, as the store knows', async (t) => {
  const { made, get } = await open(t, 'marks')
  const without = await open(t, 'marks', { entries: [] })
  for (const name of ['byId', 'bySub', 'bySid', 'bySidAndSub', 'byProvider']) {
    const session = pick(made.sessions, name)
    assertRefused(t, await get('/me', session.cookies), name)
    assertSession(t, await without.get('/me', session.cookies), session)
  }
  for (const name of ['live', 'sameSid', 'afterLogoutToken']) {
    const session = pick(made.sessions, name)
    assertSession(t, await get('/me', session.cookies), session)
  }
})

t.test('a refresh whose result another process has', async (t) => {
  const { made, get, provider } = await open(t, 'marks')
  const { cookies } = pick(made.sessions, 'refreshed')
  const response = await get('/token', cookies)
  t.same([response.statusCode, response.json()], [200, { token: pick(made.values, 'refreshed') }])
  t.equal(provider.tokenRequests.length, 0, 'the provider is not asked again')
  t.same(cookiesOf(response).map(nameOf), ['__Host-oidc', '__Host-oidc-tokens-0'])

  const without = await open(t, 'marks', { entries: [] })
  const other = await without.get('/token', cookies)
  t.equal(other.statusCode, 200)
  t.not(other.json().token, pick(made.values, 'refreshed'))
  t.equal(without.provider.tokenRequests.length, 1)
})

t.test('a login that another process has taken', async (t) => {
  const world = await open(t, 'marks')
  const { location, before: cookies } = pick(world.made.used, 'demanding')
  const response = await comeBack(world, { location, cookies }, { claims: { acr: 'gold' } })
  t.equal(response.statusCode, 302)
  t.ok(String(response.headers.location).startsWith(`${ISSUER}/authorize?`), 'it begins again')
  t.equal(world.provider.tokenRequests.length, 0)

  const without = await open(t, 'marks', { entries: [] })
  const other = await comeBack(without, { location, cookies }, { claims: { acr: 'gold' } })
  t.equal(other.headers.location, `${BASE}/me`)
  t.equal(without.provider.tokenRequests.length, 1)
})

t.test('a logout token that was seen before', async (t) => {
  const { made, get, post, provider } = await open(t, 'marks')
  const session = pick(made.sessions, 'afterLogoutToken')
  const seen = pick(made.values, 'logoutToken')
  const logout = async (token: string): Promise<number> => {
    return (await post('/auth/acme/backchannel-logout', { logout_token: token })).statusCode
  }
  t.equal(await logout(seen), 200)
  assertSession(t, await get('/me', session.cookies), session)
  t.equal(await logout(changed(seen)), 400)
  const fresh = await provider.sign('logout+jwt', { ...decodeJwt(seen), jti: 'new' })
  t.equal(await logout(fresh), 200)
  assertRefused(t, await get('/me', session.cookies), 'a token that was not seen before ends the session')
})

interface Prover {
  token: string
  prove: (claims: Record<string, unknown>) => Promise<string>
}

/** A client with a key of its own, and a token that is bound to it. */
async function createProver ({ sign }: FixedProvider): Promise<Prover> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(publicKey)
  const iat = Math.floor(Date.now() / 1000)
  const jkt = await calculateJwkThumbprint(jwk)
  const claims = { aud: API, sub: 'bob', client_id: 'cli', jti: 'new', exp: iat + 3600, cnf: { jkt } }
  const token = await sign('at+jwt', claims)
  const ath = createHash('sha256').update(token).digest('base64url')
  const prove: Prover['prove'] = async (claims) => {
    const proof = new SignJWT({ htm: 'GET', htu: `${BASE}/me`, ath, iat, ...claims })
    return await proof.setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).sign(privateKey)
  }
  return { token, prove }
}

t.test('a DPoP proof that was used, and a nonce', async (t) => {
  const ask = async ({ get }: World, token: string, dpop: string): Promise<unknown> => {
    const response = await get('/me', [], { authorization: `DPoP ${token}`, dpop })
    return [response.statusCode, response.json().code ?? response.json().claims.sub]
  }
  const { values } = madeBy('dpop')
  const [token, proof] = [pick(values, 'token'), pick(values, 'proof')]
  t.same(await ask(await open(t, 'dpop'), token, proof), [401, 'FST_OIDC_DPOP'])
  t.same(await ask(await open(t, 'dpop', { entries: [] }), token, proof), [200, 'alice'], 'without the store it is new')

  const world = await open(t, 'dpopNonce')
  const nonce = pick(world.made.values, 'nonce')
  const prover = await createProver(world.provider)
  t.same(await ask(world, prover.token, await prover.prove({ jti: '1', nonce })), [200, 'bob'])
  const broken = await prover.prove({ jti: '2', nonce: changed(nonce) })
  t.same(await ask(world, prover.token, broken), [401, 'FST_OIDC_DPOP_NONCE'])
  clock.advance(301)
  const later = await createProver(world.provider)
  t.same(await ask(world, later.token, await later.prove({ jti: '3', nonce })), [401, 'FST_OIDC_DPOP_NONCE'])
})

/** What the tests of the broker ask. */
async function openBroker (t: Test, options?: OpenOptions) {
  const world = await open(t, 'broker', options)
  const token = async (form: Record<string, string>): Promise<{ status: number, body: Record<string, string> }> => {
    const response = await world.post('/auth/token', form)
    return { status: response.statusCode, body: response.json() }
  }
  return {
    ...world,
    token,
    refresh: async (refreshToken: string) => await token({ grant_type: 'refresh_token', refresh_token: refreshToken }),
    redeem: async (code: string, verifier = pick(world.made.values, 'verifier')) => await token({
      grant_type: 'authorization_code', code, redirect_uri: NATIVE, client_id: 'cli', code_verifier: verifier
    }),
    /** The status of a request with an access token, and for whom it is. */
    api: async (accessToken: string): Promise<[number, string]> => {
      const response = await world.get('/me', [], { authorization: `Bearer ${accessToken}` })
      return [response.statusCode, response.json().code ?? response.json().claims.sub]
    }
  }
}

const GONE = [401, 'FST_OIDC_TOKEN']
const INVALID = { status: 400, body: { error: 'invalid_grant' } }

t.test('an access token and a refresh token of the broker', async (t) => {
  const { made, get, post, api, refresh, provider } = await openBroker(t)
  const { accessToken, refreshToken } = pick(made.grants, 'plain')
  const me = await get('/me', [], { authorization: `Bearer ${accessToken}` })
  t.match([me.statusCode, me.json()], [200, {
    claims: {
      iss: BASE, sub: 'alice', aud: `${BASE}/api`, roles: ['admin'], email: 'alice@example.com', idp: 'default'
    },
    token: { provider: 'default', clientId: 'cli', scopes: ['openid', 'email', 'offline_access'] }
  }])
  t.same(await api(changed(accessToken)), GONE)
  t.match(await refresh(changed(refreshToken)), INVALID)
  const introspect = async (token: string): Promise<unknown> => {
    const form = { token, client_id: 'api', client_secret: 'a secret of the fixtures, long enough' }
    return (await post('/auth/introspect', form)).json()
  }
  t.match(await introspect(accessToken), { active: true, sub: 'alice', client_id: 'cli' })

  const { status, body } = await refresh(refreshToken)
  t.equal(status, 200)
  t.same(await api(body['access_token'] as string), [200, 'alice'])
  t.equal(decodeJwt(body['access_token'] as string)['sid'], decodeJwt(accessToken)['sid'], 'of the same grant')
  const [request, ...others] = provider.tokenRequests as [URLSearchParams]
  t.same([request.get('grant_type'), request.getAll('resource'), others.length], ['refresh_token', [API], 0])
  t.equal(JSON.parse(Buffer.from(request.get('refresh_token') as string, 'base64url').toString()).sub, 'alice')
  t.match((await refresh(refreshToken)).body, { refresh_token: body['refresh_token'] as string }, 'repeated at once')
  clock.advance(31)
  t.match(await refresh(refreshToken), INVALID, 'used again')
  t.same(await api(accessToken), GONE, 'the grant has ended')
  t.match(await refresh(body['refresh_token'] as string), INVALID)
  t.same(await introspect(accessToken), { active: false })
})

t.test('a refresh token that was replaced a moment ago', async (t) => {
  const { made, api, refresh, provider } = await openBroker(t)
  const [previous, current] = [pick(made.grants, 'previous'), pick(made.grants, 'current')]
  t.same(await api(previous.accessToken), [200, 'fred'])
  const repeated = await refresh(previous.refreshToken)
  t.match(repeated, { status: 200, body: { refresh_token: current.refreshToken } })
  t.equal(provider.tokenRequests.length, 0)
  t.equal((await refresh(current.refreshToken)).status, 200)

  const later = await openBroker(t)
  clock.advance(31)
  t.same(await later.api(current.accessToken), [200, 'fred'])
  t.match(await later.refresh(previous.refreshToken), INVALID)
  t.same(await later.api(current.accessToken), GONE)
})

t.test('grants that are ended, by each of their tags and tokens', async (t) => {
  const { sid, provider } = { sid: 'sid-alice', provider: 'default' }
  const { accessToken, refreshToken } = pick(madeBy('broker').grants, 'plain')
  const [own] = [decodeJwt(accessToken)['sid'] as string]
  type World = Awaited<ReturnType<typeof openBroker>>
  const ways: Array<[string, (world: World) => Promise<unknown>, number]> = [
    ['sub of the tokens', async ({ oidc }) => await oidc.broker.revoke({ sub: 'alice' }), 1],
    ['sub and provider', async ({ oidc }) => await oidc.broker.revoke({ sub: 'alice', provider }), 1],
    ['sid of the tokens', async ({ oidc }) => await oidc.broker.revoke({ sid: own }), 1],
    ['sid of the provider', async ({ oidc }) => await oidc.sessions.revoke({ sid }), 0],
    ['sub of the provider', async ({ oidc }) => await oidc.sessions.revoke({ sub: 'alice' }), 0],
    ['provider', async ({ oidc }) => await oidc.sessions.revoke({ provider }), 0],
    ['refresh token', async ({ post }) => (await post('/auth/revoke', { token: refreshToken })).statusCode, 200],
    ['access token', async ({ post }) => (await post('/auth/revoke', { token: accessToken })).statusCode, 200]
  ]
  for (const [name, end, result] of ways) {
    const world = await openBroker(t)
    t.same(await world.api(accessToken), [200, 'alice'], name)
    t.equal(await end(world), result, name)
    t.same(await world.api(accessToken), GONE, name)
    t.match(await world.refresh(refreshToken), INVALID, name)
    const other = await world.api(pick(world.made.grants, 'current').accessToken)
    t.same(other, name === 'provider' ? GONE : [200, 'fred'], `${name}: the grant of another user`)
  }
})

t.test('a grant that was ended before', async (t) => {
  const { made, api, refresh, redeem } = await openBroker(t)
  const { accessToken, refreshToken } = pick(made.grants, 'ended')
  const code = pick(made.values, 'codeOfEnded')
  t.same(await api(accessToken), GONE)
  t.match(await refresh(refreshToken), INVALID)
  t.match(await redeem(code), INVALID, 'a code from before the revocation is refused')
  const entries = (made.store as StoredEntry[]).filter((entry) => kindOf(entry) !== 'ended')
  const without = await openBroker(t, { entries })
  t.equal((await without.redeem(code)).status, 200, 'without the mark, the code is good')
})

t.test('codes of native logins', async (t) => {
  const { made, api, redeem } = await openBroker(t)
  const code = pick(made.values, 'code')
  t.match(await redeem(changed(code)), INVALID)
  const { status, body } = await redeem(code)
  t.equal(status, 200)
  t.same(await api(body['access_token'] as string), [200, 'bob'])
  t.match(await redeem(code), INVALID)
  t.same(await api(body['access_token'] as string), GONE, 'the second use ends the grant')
  const other = await openBroker(t)
  t.match(await other.redeem(code, 'another-verifier-of-the-fixtures-long-enough'), INVALID)

  const { accessToken } = pick(made.grants, 'ofUsedCode')
  t.same(await api(accessToken), [200, 'carol'])
  t.match(await redeem(pick(made.values, 'usedCode')), INVALID, 'a code that was used before')
  t.same(await api(accessToken), GONE)
})

t.test('native logins that wait for their callback', async (t) => {
  const world = await openBroker(t)
  const login = pick(world.made.logins, 'native')
  const broken = await comeBack(world, { ...login, cookies: login.cookies.map(changed) }, { sub: 'bob' })
  assertPage(t, broken, 400, 'FST_OIDC_STATE')
  const finish = async (response: LightMyRequestResponse): Promise<void> => {
    t.equal(response.statusCode, 302)
    const { location } = response.headers
    t.ok(String(location).startsWith(`${NATIVE}?`))
    t.same([param(location, 'state'), param(location, 'iss')], ['of the client', BASE])
    const { status, body } = await world.redeem(param(location, 'code') as string)
    t.equal(status, 200)
    t.equal(body['scope'], 'openid email offline_access')
    t.same(await world.api(body['access_token'] as string), [200, 'bob'])
  }
  await finish(await comeBack(world, login, { sub: 'bob' }))

  const used = pick(world.made.used, 'native')
  for (const cookies of [used.cookies, used.before]) {
    const again = await comeBack(world, { ...used, cookies }, { sub: 'bob' })
    t.equal(again.statusCode, 302, 'a used login begins again')
    const location = String(again.headers.location)
    t.ok(location.startsWith(`${ISSUER}/authorize?`))
    await finish(await comeBack(world, { location, cookies: cookiesOf(again) }, { sub: 'bob' }))
  }
})

t.test('a device code', async (t) => {
  const { made, api, token } = await openBroker(t)
  const poll = async (deviceCode: string, clientId = 'cli') => {
    return await token({ grant_type: DEVICE, device_code: deviceCode, client_id: clientId })
  }
  const code = pick(made.values, 'deviceCode')
  t.match(await poll(changed(code)), INVALID)
  t.match(await poll(code, 'web'), INVALID, 'another client')
  const { status, body } = await poll(code)
  t.equal(status, 200)
  t.same(await api(body['access_token'] as string), [200, 'erin'])
  clock.advance(601)
  t.match(await poll(code), { status: 400, body: { error: 'expired_token' } })
})

t.test('the keys of the broker, and those of a trusted issuer', async (t) => {
  const { made, get, api, refresh } = await openBroker(t)
  const kid = pick(made.values, 'kid')
  const { keys } = (await get('/auth/.well-known/jwks.json')).json()
  t.same(keys.map(({ kid }: { kid: string }) => kid), [kid])
  const { body } = await refresh(pick(made.grants, 'plain').refreshToken)
  t.equal(decodeProtectedHeader(body['access_token'] as string).kid, kid, 'it still signs')
  const token = pick(made.values, 'peerToken')
  t.same(await api(token), [200, 'gina'], 'the issuer does not answer, its key set is in the store')
  t.same(await api(changed(token)), GONE)

  const entries = (made.store as StoredEntry[]).filter((entry) => !kindOf(entry).endsWith('-keys'))
  const without = await openBroker(t, { entries })
  t.equal((await without.get('/me', [], { authorization: `Bearer ${token}` })).statusCode, 503)
  t.same(await without.api(pick(made.grants, 'plain').accessToken), GONE, 'another key does not verify it')
})
