import { Writable } from 'node:stream'
import { decodeJwt } from 'jose'
import t from 'tap'
import { refuse } from '../../index.ts'
import { client } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, startApp, stopClock } from '../support/app.ts'
import { refresh, start as startBroker } from '../support/broker.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { ProviderOptions } from '../../lib/testing/index.ts'

const TTL = 300

/** The log of an application, by line. */
function createLog (level = 'info') {
  const lines: Array<Record<string, any>> = []
  const stream = new Writable({
    write (chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)) as Record<string, any>)
      done()
    }
  })
  return { lines, logger: { level, stream }, about: (code: string) => lines.filter((line) => line['code'] === code) }
}

/** A provider as Keycloak: the roles are in the access token only. */
async function start (
  t: Test,
  options: Partial<OidcOptions> = {},
  providerOptions: ProviderOptions = {},
  level?: string
) {
  const clock = stopClock(t)
  const log = createLog(level)
  let access: Record<string, unknown> = { realm_access: { roles: ['admin'] } }
  const { app, provider } = await startApp(
    t,
    { rolesFrom: ['access_token'], ...options },
    {
      accessTokenFormat: 'jwt',
      accessTokenTtl: TTL,
      refreshTokens: 'always',
      users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com' }],
      ...providerOptions
    },
    { logger: log.logger }
  )
  provider.fault({ on: 'token', accessToken: (claims) => ({ ...claims, ...access }) })
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  app.get('/token', async (request) => ({ length: (await app.oidc.accessToken(request)).length }))
  const browser = client({ app, baseUrl: BASE_URL })
  const statusOf = async (): Promise<number> => (await browser.fetch('/admin')).status
  const claims = async (): Promise<Record<string, unknown>> => (await browser.fetch('/me')).json().claims
  return {
    app,
    provider,
    browser,
    log,
    clock,
    statusOf,
    claims,
    /** Changes what access tokens say from now on. */
    say: (next: Record<string, unknown>) => { access = next },
    logIn: async () => await browser.goto('/auth/login'),
    async refresh () {
      clock.advance(TTL)
      return (await browser.fetch('/token')).status
    }
  }
}

t.test('K15 the roles of a session come from the access token, and nothing else does', async (t) => {
  const { browser, claims, provider, say, statusOf } = await start(t)
  say({ realm_access: { roles: ['admin'], other: true }, email: 'eve@example.com', department: 'sales' })
  await browser.goto('/auth/login')
  t.equal(await statusOf(), 200)
  t.same((await claims())['realm_access'], { roles: ['admin'] })
  t.match(await claims(), { sub: 'alice', name: 'Alice', email: 'alice@example.com' })
  t.notOk('department' in await claims() || 'scope' in await claims() || 'client_id' in await claims())
  t.equal(provider.count('userinfo'), 0)
})

t.test('K15 without rolesFrom the access token is not looked at, and a refresh changes no claim', async (t) => {
  const kit = await start(t, { rolesFrom: undefined } as unknown as Partial<OidcOptions>)
  await kit.logIn()
  t.equal(await kit.statusOf(), 403)
  const before = await kit.claims()
  kit.provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, name: 'Other', roles: ['admin'] }) })
  t.equal(await kit.refresh(), 200)
  t.same(await kit.claims(), before)
  t.equal(kit.provider.count('userinfo'), 0)
})

for (const options of [{}, { store: 'memory:', session: { key: SESSION_KEY, store: true } }] as Array<Partial<OidcOptions>>) {
  t.test(`K15 a removed role goes with the refresh, and a name stays ${JSON.stringify(options)}`, async (t) => {
    const kit = await start(t, { rolesFrom: ['id_token', 'userinfo', 'access_token'], ...options })
    const off = kit.provider.fault({ on: 'userinfo', userinfo: (claims) => ({ ...claims, groups: ['staff'] }) })
    await kit.logIn()
    t.match(await kit.claims(), { name: 'Alice', groups: ['staff'], realm_access: { roles: ['admin'] } })
    kit.provider.fault({ on: 'token', idToken: ({ name: _, email: _e, ...claims }) => claims })
    kit.say({ realm_access: { roles: ['user'] } })
    t.equal(await kit.refresh(), 200)
    t.match(await kit.claims(), { name: 'Alice', groups: ['staff'], realm_access: { roles: ['user'] } })
    t.equal(await kit.statusOf(), 403)

    off()
    kit.say({ groups: ['admin'] })
    t.equal(await kit.refresh(), 200)
    t.match(await kit.claims(), { name: 'Alice', groups: ['admin'] })
    t.notOk('realm_access' in await kit.claims())
    t.equal(await kit.statusOf(), 200)
    t.equal(kit.provider.count('userinfo'), 3, 'once for each login and each refresh')

    kit.provider.fault({ on: 'userinfo', times: 1, status: 503 })
    kit.provider.fault({ on: 'token', times: 1, tokenResponse: ({ id_token: _, ...answer }) => answer })
    t.equal(await kit.refresh(), 200, 'UserInfo is away: the tokens are kept')
    t.equal(await kit.statusOf(), 200)
    t.ok(kit.log.lines.some(({ msg }) => /UserInfo could not be asked after a refresh/.test(String(msg))))
    t.equal(kit.log.lines.some(({ msg }) => /no roles can be taken/.test(String(msg))), false)
  })
}

t.test('K15 a refreshed access token that proves nothing takes the roles away, without keys they stay', async (t) => {
  const kit = await start(t)
  await kit.logIn()
  const noKeys = kit.provider.fault({ on: 'jwks', status: 503 })
  kit.provider.rotateKeys()
  t.equal(await kit.refresh(), 200)
  t.equal(await kit.statusOf(), 200, 'the keys cannot be had')
  t.match(kit.log.about('FST_OIDC_PROVIDER_UNAVAILABLE').at(-1), { level: 40, msg: /no roles can be taken/ })
  noKeys()
  kit.say({ realm_access: { roles: ['admin'] }, client_id: 'shop' })
  t.equal(await kit.refresh(), 200)
  t.equal(await kit.statusOf(), 403, 'the token is of another client')
})

t.test('K15 a login goes on without roles when the access token proves nothing', async (t) => {
  const kit = await start(t)
  for (const change of [{ azp: 'shop' }, { sub: 'bob' }, { iss: 'https://x.example.com' }, { typ: 'ID' }]) {
    kit.say({ groups: ['admin'], ...change })
    const browser = client({ app: kit.app, baseUrl: BASE_URL })
    t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200, 'the login goes on')
    t.equal((await browser.fetch('/admin')).status, 403, JSON.stringify(change))
  }
  const lines = kit.log.about('FST_OIDC_TOKEN')
  t.equal(lines.length, 4)
  t.match(lines[0], { level: 40, detail: /another client/, msg: /no roles can be taken from the access token/ })
})

t.test('K15 an opaque access token gives no roles, and the log says why', async (t) => {
  const kit = await start(t, {}, { accessTokenFormat: 'opaque' })
  await kit.logIn()
  t.equal(await kit.statusOf(), 403)
  t.match(kit.log.about('FST_OIDC_TOKEN')[0], { level: 40, detail: 'it is not a JWT' })
})

t.test('K15 the log line of a 403 names the claims and their types, and the values at debug only', async (t) => {
  const options = { rolesFrom: undefined, roleClaims: ['roles', 'groups', 'text', 'none', 'urn:zitadel:roles', 'x.y'] } as never
  const user = { sub: 'alice', roles: ['secret-role'], text: 'secret-text', none: null, 'urn:zitadel:roles': { a: false } }
  for (const level of ['info', 'debug']) {
    const kit = await start(t, options, { users: [user] }, level)
    kit.app.get('/dep', { preHandler: kit.app.oidc.required({ claims: { text: 'x' } }) }, async () => 'x')
    await kit.logIn()
    t.equal(await kit.statusOf(), 403)
    t.equal((await kit.browser.fetch('/dep')).status, 403)
    const [roles, claim] = kit.log.about('FST_OIDC_FORBIDDEN')
    t.equal(roles?.['detail'], 'the user has none of the roles admin: looked at roles (array of 1), groups (absent), ' +
      'text (string), none (null), urn:zitadel:roles (object with 1 keys), x.y (absent), as "roleClaims" and ' +
      '"rolesFrom" say')
    t.equal(claim?.['detail'], 'the claim text (string) has no accepted value')
    const hasValues = kit.log.lines.some((line) => JSON.stringify(line).includes('secret-role'))
    t.equal(hasValues, level === 'debug', level)
  }
})

t.test('K15 groups that Entra ID leaves out are no silent 403', async (t) => {
  const overage = { _claim_names: { groups: 'src1' }, _claim_sources: { src1: { endpoint: 'https://graph.example' } } }
  const kit = await start(t)
  kit.say(overage)
  await kit.logIn()
  t.equal(await kit.statusOf(), 403)
  t.match(kit.log.about('FST_OIDC_FORBIDDEN')[0]?.['detail'], /the provider has left out groups \(_claim_names/)
  t.notOk('_claim_names' in await kit.claims())

  const other = await start(t, { rolesFrom: undefined, claims: ['name'] } as never)
  other.provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, ...overage }) })
  await other.logIn()
  t.equal(await other.statusOf(), 403)
  t.match(other.log.about('FST_OIDC_FORBIDDEN')[0]?.['detail'], /the provider has left out groups/)
  t.same(Object.keys(await other.claims()).sort(), ['iss', 'name', 'sub'])
})

t.test('K15 parseClaims sees the roles, also after a refresh', async (t) => {
  let refuses = false
  const parseClaims: OidcOptions['parseClaims'] = ({ iss, sub, name, realm_access: realm }) => {
    if (refuses) throw refuse('not any more')
    const { roles = [] } = (realm ?? {}) as { roles?: string[] }
    return { iss, sub, displayName: name, roles: roles.map((role) => role.toLowerCase()) }
  }
  // In the store, the ID token is kept. In cookies, it may not fit.
  const kit = await start(t, { parseClaims, store: 'memory:', session: { key: SESSION_KEY, store: true } })
  kit.say({ realm_access: { roles: ['ADMIN'] } })
  await kit.logIn()
  t.match(await kit.claims(), { displayName: 'Alice', roles: ['admin'] })
  kit.say({ realm_access: { roles: ['USER'] } })
  kit.provider.fault({ on: 'token', tokenResponse: ({ id_token: _, ...answer }) => answer })
  t.equal(await kit.refresh(), 200)
  t.match(await kit.claims(), { displayName: 'Alice', roles: ['user'] })
  kit.say({ realm_access: { roles: ['ADMIN'] } })
  t.equal(await kit.refresh(), 200)
  t.equal(await kit.statusOf(), 200)
  refuses = true
  t.equal(await kit.refresh(), 200, 'the tokens are kept')
  t.match(await kit.claims(), { displayName: 'Alice' })
  t.equal(await kit.statusOf(), 403, 'the roles are not')
  t.match(kit.log.about('FST_OIDC_CLAIMS')[0], { level: 40, detail: 'not any more' })
})

t.test('K15 parseClaims without the ID token of the login', async (t) => {
  const session = { key: SESSION_KEY, tokens: ['access_token', 'refresh_token'] as Array<'access_token' | 'refresh_token'> }
  const kit = await start(t, { session, parseClaims: (claims) => claims })
  await kit.logIn()
  kit.provider.fault({ on: 'token', tokenResponse: ({ id_token: _, ...answer }) => answer })
  kit.say({})
  t.equal(await kit.refresh(), 200)
  t.match(await kit.claims(), { name: 'Alice' })
  t.equal(await kit.statusOf(), 403)
})

t.test('K15 the tokens of the broker have the roles, and lose them', async (t) => {
  const world = await startBroker(
    t,
    { rolesFrom: ['access_token'] },
    { accessTokenFormat: 'jwt', users: [{ sub: 'alice' }] }
  )
  let roles = ['admin']
  world.provider.fault({ on: 'token', accessToken: (claims) => ({ ...claims, realm_access: { roles } }) })
  const first = await world.byDevice()
  t.same(decodeJwt(first.access_token)['roles'], ['admin'])
  t.equal((await world.api(first.access_token, '/admin')).statusCode, 200)
  roles = []
  world.provider.fault({ on: 'token', tokenResponse: ({ id_token: _, ...answer }) => answer })
  const second = (await refresh(world, first)).json()
  t.same(decodeJwt(second.access_token)['roles'], [])
  t.equal((await world.api(second.access_token, '/admin')).statusCode, 403)
})
