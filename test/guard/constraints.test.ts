import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { rolesOf } from '../../lib/provider/claims.ts'
import { client, faults, sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, logIn, optionsFor, startApp, stopClock } from '../support/app.ts'
import { start, tokenOf } from '../support/bearer.ts'
import type { Test } from 'tap'
import type { GuardOptions, OidcOptions } from '../../index.ts'

/** Returns a function: it logs in a user with these claims and returns the status of the guarded route. */
async function guardWith (
  t: Test,
  options: GuardOptions,
  plugin: Partial<OidcOptions> = {}
): Promise<(claims: object) => Promise<number>> {
  const { app, provider } = await startApp(t, plugin)
  app.get('/guarded', { preHandler: app.oidc.required(options) }, async () => 'passed')
  app.get('/guarded-optional', { preHandler: app.oidc.optional(options) }, async () => 'passed')
  return async (claims) => {
    const browser = client({ app, baseUrl: BASE_URL })
    provider.options.approve = () => ({ sub: 'alice', ...claims })
    await browser.goto('/auth/login')
    const [one, other] = [await browser.fetch('/guarded'), await browser.fetch('/guarded-optional')]
    t.equal(other.status, one.status, 'required and optional apply the same constraints to a user')
    if (one.status !== 200) {
      t.match(one.json(), { code: 'FST_OIDC_FORBIDDEN', message: 'Your account does not have access to this.' })
    }
    return one.status
  }
}

t.test('a constraint compares a claim, which it finds by its path', async (t) => {
  const claims = {
    department: { name: 'sales', floors: [2, 3], head: true, nested: { deep: { er: 'x' } } },
    level: 3,
    vip: true,
    none: null,
    tags: ['red', 'blue'],
    teams: [{ name: 'a' }],
    'https://example.com/roles': ['admin'],
    'https://example.com/plan': { name: 'gold' },
    'a.b': 'flat',
    a: { b: 'nested', c: 'only nested' },
    empty: '',
    email_verified: 'true'
  }
  const cases: Array<[status: number, claims: GuardOptions['claims']]> = [
    [200, { sub: 'alice' }],
    [200, {}],
    [200, { 'department.name': 'sales' }],
    [200, { 'department.name': ['finance', 'sales'] }],
    [200, { 'department.nested.deep.er': 'x', level: 3 }],
    [200, { 'department.floors': 3 }],
    [200, { 'department.head': true, vip: [true] }],
    [200, { tags: ['green', 'blue'] }],
    [200, { 'https://example.com/roles': 'admin' }],
    [200, { 'a.b': 'flat' }],
    [200, { 'a.c': 'only nested' }],
    [200, { empty: '' }],
    [200, { 'tags.0': 'red' }],
    [403, { sub: 'Alice' }],
    [403, { sub: ['bob', 'alice '] }],
    [403, { 'department.name': 'sale' }],
    [403, { 'department.name': 'finance', sub: 'alice' }],
    [403, { 'department.floors': '3' }],
    [403, { level: '3' }],
    [403, { level: 3.5 }],
    [403, { vip: 'true' }],
    [403, { vip: 1 }],
    [403, { email_verified: true }],
    [403, { 'a.b': 'nested' }],
    [403, { department: 'sales' }],
    [403, { none: '' }],
    [403, { none: false }],
    [403, { missing: false }],
    [403, { missing: 'undefined' }],
    [403, { 'missing.deeper': 'x' }],
    [403, { 'sub.length': 5 }],
    [403, { 'teams.name': 'a' }],
    [403, { 'https://example.com/plan.name': 'gold' }],
    [403, { constructor: 'Object' }],
    [403, { 'constructor.name': 'Object' }],
    [403, { 'toString.name': 'toString' }],
    [403, { '__proto__.x': 'x' }],
    [403, { 'tags.__proto__.length': 0 }],
    [403, { 'department.constructor.name': 'Object' }],
    [403, { '': 'alice' }],
    [403, { '.': 'alice' }],
    [403, { '.sub': 'alice' }],
    [403, { 'sub.': 'alice' }]
  ]
  const { app, provider } = await startApp(t, {}, { users: [{ sub: 'alice', ...claims }] })
  for (const [index, [, constraint]] of cases.entries()) {
    app.get(`/claims/${index}`, { preHandler: app.oidc.required({ claims: constraint ?? {} }) }, async () => 'passed')
  }
  const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
  for (const [index, [status, constraint]] of cases.entries()) {
    t.equal(
      (await app.inject({ url: `/claims/${index}`, headers: { cookie } })).statusCode,
      status,
      JSON.stringify(constraint)
    )
  }
})

t.test('V32 the identity of a user is compared byte by byte', async (t) => {
  const { app, provider } = await startApp(t)
  app.get(
    '/only-her',
    { preHandler: app.oidc.required({ claims: { iss: provider.issuer, sub: 'zoë' } }) },
    async () => 'passed'
  )
  app.get('/verified', { preHandler: app.oidc.required({ claims: { email_verified: true } }) }, async () => 'passed')
  for (const [status, sub] of [
    [200, 'zoë'],
    [403, 'zoe\u0308'],
    [403, 'ZOË'],
    [403, 'zoë '],
    [403, 'zoe'],
    [403, 'zoë\u200b']
  ] as const) {
    const browser = await logIn({ app, provider }, sub)
    const { claims } = (await browser.goto('/me')).json()
    t.same([claims.iss, claims.sub], [provider.issuer, sub], 'the claims are unchanged')
    t.equal((await browser.goto('/only-her')).status, status, JSON.stringify(sub))
  }
  for (const [status, email_verified] of [
    [200, true],
    [403, 'true'],
    [403, 1],
    [403, false],
    [403, undefined]
  ] as const) {
    provider.options.approve = () => ({ sub: 'x', ...(email_verified !== undefined && { email_verified }) })
    const browser = client({ app, baseUrl: BASE_URL })
    await browser.goto('/auth/login')
    t.equal((await browser.goto('/verified')).status, status, `email_verified ${JSON.stringify(email_verified)}`)
  }
})

t.test('requiredClaims apply to every guard, in addition to its own constraints', async (t) => {
  const plugin = { requiredClaims: { tenant: ['one', 'two'], active: true } }
  const none = await guardWith(t, {}, plugin)
  t.equal(await none({ tenant: 'one', active: true }), 200)
  t.equal(await none({ tenant: 'three', active: true }), 403)
  t.equal(await none({ tenant: 'one' }), 403)
  const one = await guardWith(t, { claims: { tenant: ['one', 'three'] } }, plugin)
  t.equal(await one({ tenant: 'one', active: true }), 200)
  t.equal(await one({ tenant: 'two', active: true }), 403)
  t.equal(await one({ tenant: 'three', active: true }), 403, 'a guard can only add constraints')
})

t.test('a scope constraint compares the granted scopes', async (t) => {
  const { app, provider } = await startApp(t, { scope: 'openid email reports:read' })
  const cases: Array<[number, GuardOptions['scopes']]> = [
    [200, 'openid'],
    [200, 'reports:read'],
    [200, ['openid', 'email']],
    [200, ' openid  email '],
    [403, 'reports:write'],
    [403, 'openid reports:write'],
    [403, ['openid', 'profile']],
    [403, 'reports'],
    [403, 'Openid'],
    [403, ['openid email']]
  ]
  for (const [index, [, scopes]] of cases.entries()) {
    app.get(`/scopes/${index}`, { preHandler: app.oidc.required({ scopes: scopes ?? '' }) }, async () => 'passed')
  }
  const browser = await logIn({ app, provider }, 'alice')
  for (const [index, [status, scopes]] of cases.entries()) {
    t.equal((await browser.fetch(`/scopes/${index}`)).status, status, JSON.stringify(scopes))
  }
  provider.fault({
    on: 'token',
    tokenResponse: (answer) => {
      answer.scope = 'openid'
    }
  })
  t.equal(
    (await (await logIn({ app, provider }, 'alice')).fetch('/scopes/1')).status,
    403,
    'the granted scopes count, not the requested ones'
  )
})

t.test('roles come from the claims in which providers send them', async (t) => {
  const passes: Array<[boolean, object]> = [
    [true, { roles: ['user', 'admin'] }],
    [true, { roles: 'admin' }],
    [true, { groups: ['admin'] }],
    [true, { realm_access: { roles: ['admin'] } }],
    [true, { resource_access: { web: { roles: ['admin'] } } }],
    [true, { roles: ['owner'] }],
    [false, {}],
    [false, { roles: [] }],
    [false, { roles: ['administrator', 'Admin', 'admin ', 'super-admin'] }],
    [false, { roles: 'user admin' }],
    [true, { roles: { admin: true } }], // K15: the keys of an object
    [false, { roles: { admin: false, owner: null } }],
    [false, { roles: [['admin', ['admin']], { admin: 'admin' }, 1, null] }],
    [false, { role: 'admin', realm_access: ['admin'], resource_access: 'admin', groups: null }],
    [
      false,
      {
        realm_access: { role: ['admin'] },
        resource_access: { admin: { groups: ['admin'] }, x: null, roles: ['admin'] }
      }
    ],
    [false, { resource_access: { account: { roles: ['admin'] }, webshop: { roles: ['owner'] } } }],
    [false, { resource_access: [['admin']] }]
  ]
  const status = await guardWith(t, { roles: ['admin', 'owner'] })
  for (const [passed, claims] of passes) t.equal(await status(claims), passed ? 200 : 403, JSON.stringify(claims))
  const spaced = await guardWith(t, { roles: 'a b' })
  t.same(
    [await spaced({ roles: ['a b'] }), await spaced({ roles: ['a', 'b'] })],
    [200, 403],
    'a role can contain a space'
  )
  t.same(
    rolesOf(
      {
        iss: 'i',
        sub: 's',
        roles: ['a'],
        groups: 'b',
        realm_access: { roles: ['c'] },
        resource_access: { web: { roles: ['d'] }, other: { roles: ['e'] } }
      },
      ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles'],
      'web'
    ),
    ['a', 'b', 'c', 'd']
  )
})

t.test('an acr constraint starts a login that requests this acr', async (t) => {
  const { app, provider } = await startApp(t)
  app.get('/gold', { preHandler: app.oidc.required({ acr: ['gold', 'platinum'] }) }, async ({ oidcSession }) => ({
    acr: oidcSession?.acr
  }))
  const browser = await logIn({ app, provider }, 'alice')
  const before = browser.cookies.header('/')
  t.match((await browser.fetch('/gold')), { status: 401 })
  t.equal((await browser.fetch('/gold')).json().code, 'FST_OIDC_AUTHENTICATION_TOO_OLD')
  const asked = await browser.step('/gold')
  t.equal(new URL(asked.location as string).searchParams.get('acr_values'), 'gold platinum')
  const page = await browser.goto('/gold')
  t.same([page.status, page.url, page.json()], [200, `${BASE_URL}/gold`, { acr: 'gold' }])
  t.equal((await app.inject({ url: '/me', headers: { cookie: before } })).statusCode, 401, 'the weaker session ended')

  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: '1' }) })
  const other = await logIn({ app, provider }, 'bob')
  provider.clearRequests()
  const refused = await other.goto('/gold')
  t.match(
    [refused.status, refused.text()],
    [403, /FST_OIDC_ID_TOKEN/],
    'a provider that does not reach the acr causes an error, not a redirect loop'
  )
  t.equal(provider.count('authorize'), 1)
  t.equal((await other.fetch('/me')).status, 200, 'the session is unchanged')
  provider.clearFaults()
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, acr: ['gold'] }) })
  t.equal((await (await logIn({ app, provider }, 'eve')).fetch('/gold')).status, 401, 'a list is not a valid acr')
})

t.test('S29 maxAge starts a new login when the last one is too old', async (t) => {
  const clock = stopClock(t)
  const { app, provider } = await startApp(t)
  for (const maxAge of [0, 10, 300]) {
    app.get(`/recent/${maxAge}`, { preHandler: app.oidc.required({ maxAge }) }, async () => ({ maxAge }))
  }
  const browser = await logIn({ app, provider }, 'alice')
  const { session: { authTime } } = (await browser.goto('/me')).json()
  clock.advance(330)
  t.equal(
    (await browser.fetch('/recent/300')).status,
    200,
    'the clock tolerance is that of the ID token check'
  )
  clock.advance(1)
  t.equal((await browser.fetch('/me')).status, 200)
  const script = await browser.fetch('/recent/300')
  t.match(
    [script.status, script.json()],
    [401, { code: 'FST_OIDC_AUTHENTICATION_TOO_OLD', login: `${BASE_URL}/auth/login` }]
  )
  const page = await browser.goto('/recent/300')
  t.match([page.status, page.url], [200, `${BASE_URL}/recent/300`])
  t.equal(new URL(page.history[1]?.url as string).searchParams.get('max_age'), '300')
  t.ok((await browser.goto('/me')).json().session.authTime > authTime)

  clock.advance(31)
  t.equal((await browser.fetch('/recent/0')).status, 401)
  t.equal((await browser.goto('/recent/0')).status, 200, 'maxAge 0 passes immediately after a login')

  // The clock of the provider is slow: each login is already too old, but within the tolerance.
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, auth_time: Number(claims.auth_time) - 25 }) })
  const slow = client({ app, baseUrl: BASE_URL })
  const arrived = await slow.goto('/recent/10')
  t.match([arrived.status, arrived.history.length], [200, 4], 'the redirects end: page, provider, callback, page')
})

t.test('S29 maxAge refuses a login without auth_time', async (t) => {
  const { app, provider, browser } = await startApp(t)
  app.get('/recent', { preHandler: app.oidc.required({ maxAge: 3600 }) }, async () => 'passed')
  provider.fault(faults['auth-time-missing'])
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  t.equal((await browser.fetch('/recent')).status, 401, 'a login without auth_time is not recent')
  provider.clearRequests()
  const page = await browser.goto('/recent')
  t.match([page.status, page.text()], [403, /FST_OIDC_ID_TOKEN/])
  t.equal(provider.count('authorize'), 2, 'there is no redirect loop: once more with prompt=login (K14)')
})

t.test('a check function decides for sessions and tokens, and roleClaims name the claims', async (t) => {
  const { app, send, provider } = await start(
    t,
    {},
    { roleClaims: ['permissions', 'https://example.com/roles', 'resource_access.{clientId}.roles'], hookTimeout: 0.05 }
  )
  const seen: unknown[] = []
  app.get(
    '/own/:sub',
    {
      preHandler: app.oidc.required({
        check: async ({ sub }, { params }) => {
          seen.push(sub)
          return sub === (params as { sub: string }).sub
        }
      })
    },
    async () => 'own'
  )
  app.get('/truthy', { preHandler: app.oidc.optional({ check: (() => 'yes') as never }) }, async () => 'x')
  app.get(
    '/failing',
    {
      preHandler: app.oidc.required({
        check: () => {
          throw new Error('the check fails')
        }
      })
    },
    async () => 'x'
  )
  const never = async (): Promise<boolean> => await new Promise(() => {})
  app.get('/never', { preHandler: app.oidc.required({ check: never }) }, async () => 'x')
  app.get('/roles', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  const token = `Bearer ${tokenOf(provider)}`
  t.same([(await send(token, '/own/alice')).statusCode, (await send(token, '/own/bob')).statusCode], [200, 403])
  t.same(
    [
      (await send(undefined, '/own/alice', { cookie: sessionCookie(app) })).statusCode,
      (await send(undefined, '/own/bob', { cookie: sessionCookie(app) })).statusCode
    ],
    [200, 403],
    'the check applies to sessions as well'
  )
  t.equal((await send(undefined, '/own/alice')).statusCode, 401)
  t.same(seen, ['alice', 'alice', 'alice', 'alice'], 'check is not called without a user')
  t.same(
    [(await send(undefined, '/truthy')).statusCode, (await send(token, '/truthy')).statusCode],
    [200, 403],
    'only true passes, not a truthy value'
  )
  t.equal((await send(token, '/failing')).statusCode, 500)
  const late = await send(token, '/never')
  t.match([late.statusCode, late.headers['retry-after'], late.json()], [503, '5', { code: 'FST_OIDC_UNEXPECTED' }], 'R2')
  t.notMatch(late.body, 'hookTimeout')
  const roles = async (overrides: Record<string, unknown>): Promise<number> =>
    (await send(`Bearer ${tokenOf(provider, { overrides })}`, '/roles')).statusCode
  t.same(
    await Promise.all(
      [
        { permissions: ['admin'] },
        { 'https://example.com/roles': 'admin' },
        { resource_access: { web: { roles: ['admin'] } } },
        { resource_access: { other: { roles: ['admin'] } } },
        { roles: ['admin'] }
      ].map(roles)
    ),
    [200, 200, 200, 403, 403]
  )
  t.equal(await roles(JSON.parse('{"__proto__":{"permissions":["admin"]}}')), 403, 'R19')
})

t.test('a guard refuses misspelled and empty constraints', async (t) => {
  const { app, provider } = await startApp(t)
  const wrong: unknown[] = [
    { role: 'admin' },
    { scope: 'x' },
    { claim: {} },
    { maxage: 1 },
    { accepts: ['session'] },
    'admin',
    ['admin'],
    null,
    { scopes: '' },
    { scopes: ' ' },
    { scopes: [] },
    { scopes: [''] },
    { scopes: [1] },
    { scopes: null },
    { scopes: { a: 1 } },
    { roles: '' },
    { roles: [] },
    { roles: ['admin', ''] },
    { roles: [['admin']] },
    { roles: true },
    { acr: '' },
    { acr: [] },
    { acr: 2 },
    { claims: { a: [] } },
    { claims: { a: null } },
    { claims: { a: undefined } },
    { claims: { a: {} } },
    { claims: { a: [['x']] } },
    { claims: [] },
    { claims: 'a' },
    { claims: null },
    { maxAge: -1 },
    { maxAge: 1.5 },
    { maxAge: NaN },
    { maxAge: Infinity },
    { maxAge: '60' },
    { maxAge: null }
  ]
  for (const options of wrong) {
    for (const guard of [app.oidc.required, app.oidc.optional]) {
      t.throws(
        () => guard(options as GuardOptions),
        { code: 'FST_OIDC_OPTION', message: /"/ },
        JSON.stringify(options)
      )
    }
  }
  for (const requiredClaims of [{ a: [] }, { a: {} }, [], 'a', null] as never[]) {
    await t.rejects(async () => await Fastify().register(oidc, optionsFor(provider, { requiredClaims })), {
      code: 'FST_OIDC_OPTION'
    })
  }
  t.doesNotThrow(() =>
    app.oidc.required({ maxAge: 0, scopes: 'openid', roles: 'a', acr: 'b', claims: { c: [1, 'x', false] } })
  )
})
