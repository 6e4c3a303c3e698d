import fc from 'fast-check'
import t from 'tap'
import { leftOutRoles, mergeClaims, withoutRoles } from '../../lib/provider/claim-sources.ts'
import { rolesOf } from '../../lib/provider/claims.ts'
import type { Answers, SourcedClaims, SourceRules } from '../../lib/provider/claim-sources.ts'
import type { ClaimSource } from '../../index.ts'

const ROLE_CLAIMS = ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles', 'https://a.example/roles']
const USER = { iss: 'https://id.example.com', sub: 'alice' }
const NOTHING: SourcedClaims = { claims: USER }

function rulesWith (
  rolesFrom: ClaimSource[] | undefined,
  userinfo = false,
  isKept: SourceRules['isKept'] = () => true
): SourceRules {
  return { provider: { rolesFrom, userinfo, clientId: 'my.app' }, roleClaims: ROLE_CLAIMS, isKept }
}

/** The claims after each of these answers. */
function after (rules: SourceRules, ...answers: Answers[]): SourcedClaims {
  return answers.reduce((before, answer) => mergeClaims(freeze(before), answer, rules), NOTHING)
}

/** As claims from the cache of cookies are. */
function freeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) for (const inner of Object.values(Object.freeze(value))) freeze(inner)
  return value
}

const all = rulesWith(['id_token', 'userinfo', 'access_token'])

t.test('K15 only the paths of roleClaims are taken from the access token', async (t) => {
  const { claims, sources } = after(all, {
    id_token: { ...USER, name: 'Alice', realm_access: { verify_caller: true } },
    access_token: {
      iss: 'https://else.example.com',
      sub: 'eve',
      name: 'Eve',
      email: 'eve@example.com',
      scope: 'openid',
      realm_access: { roles: ['admin'], other: 1 },
      resource_access: { 'my.app': { roles: ['editor'], more: 2 }, account: { roles: ['manage'] } },
      'https://a.example/roles': ['namespaced'],
      'https://a.example/plan': 'gold'
    }
  })
  t.same(claims, {
    ...USER,
    name: 'Alice',
    realm_access: { verify_caller: true, roles: ['admin'] },
    resource_access: { 'my.app': { roles: ['editor'] } },
    'https://a.example/roles': ['namespaced']
  })
  t.same(rolesOf(claims, ROLE_CLAIMS, 'my.app'), ['admin', 'editor', 'namespaced'])
  t.same(sources, {
    access_token: [['realm_access', 'roles'], ['resource_access', 'my.app', 'roles'], 'https://a.example/roles']
  })
})

t.test('K15 the first source of the list that has a claim counts, and others have no roles', async (t) => {
  const answers = {
    id_token: { roles: ['id'], groups: ['g'], name: 'A' },
    userinfo: { roles: ['ui'], name: 'B' },
    access_token: { roles: ['at'] }
  }
  const rolesFor = (rolesFrom?: ClaimSource[], userinfo = true): string[] =>
    rolesOf(after(rulesWith(rolesFrom, userinfo), answers).claims, ['roles', 'groups'], 'x')
  t.same(rolesFor(['id_token', 'userinfo', 'access_token']), ['id', 'g'])
  t.same(rolesFor(['access_token', 'id_token']), ['at', 'g'])
  t.same(rolesFor(['userinfo', 'access_token']), ['ui'])
  t.same(rolesFor(['access_token']), ['at'], 'the roles of the ID token do not count')
  t.same(rolesFor(undefined), ['id', 'g'], 'by default those of the ID token and UserInfo')
  t.same(rolesFor(undefined, false), ['id', 'g'])
  const byName = (rules: SourceRules): unknown => after(rules, answers).claims['name']
  t.same([byName(rulesWith(['userinfo'], true)), byName(rulesWith(['userinfo']))], ['A', 'A'])
  t.notOk('name' in after(rulesWith(['userinfo']), { userinfo: { name: 'B', roles: ['x'] } }).claims,
    'without the option userinfo only its roles are taken')
  t.same(after(rulesWith(undefined, false), { userinfo: { name: 'B', roles: ['x'] } }).claims, USER)
})

t.test('K15 a source that answers replaces all of its own, and one that was not asked stays', async (t) => {
  const rules = rulesWith(['id_token', 'userinfo', 'access_token'], true)
  const login: Answers = {
    id_token: { ...USER, department: 'sales', roles: ['reader'], acr: '1' },
    userinfo: { sub: 'alice', name: 'Alice', nickname: 'Al', groups: ['staff'] },
    access_token: { realm_access: { roles: ['admin', 'editor'] } }
  }
  const claimsAfter = (...answers: Answers[]): object => after(rules, login, ...answers).claims
  const whole = {
    ...USER,
    department: 'sales',
    roles: ['reader'],
    acr: '1',
    name: 'Alice',
    nickname: 'Al',
    groups: ['staff'],
    realm_access: { roles: ['admin', 'editor'] }
  }
  t.same(claimsAfter(), whole)
  t.same(claimsAfter({}), whole, 'nothing was asked')
  t.same(claimsAfter({ access_token: { realm_access: { roles: ['editor'] } } }),
    { ...whole, realm_access: { roles: ['editor'] } }, 'a removed role goes')
  const { realm_access: _, ...noRealm } = whole
  t.same(claimsAfter({ access_token: {} }), noRealm, 'all of them')
  t.same(claimsAfter({ access_token: {} }, {}), noRealm, 'and does not come back')
  t.same(claimsAfter({ id_token: USER }),
    { ...USER, name: 'Alice', nickname: 'Al', groups: ['staff'], realm_access: { roles: ['admin', 'editor'] } },
    'a short ID token erases no name of UserInfo, and its own roles and departments go')
  t.same(claimsAfter({ userinfo: { name: 'Alice B' } }),
    { ...USER, department: 'sales', roles: ['reader'], acr: '1', name: 'Alice B', realm_access: { roles: ['admin', 'editor'] } })
  t.same(claimsAfter({ id_token: USER }, { userinfo: {} }, { access_token: {} }), USER, 'one after the other')
  t.same(after(rules, login, { id_token: USER, userinfo: {}, access_token: {} }), { claims: USER })
})

t.test('K15 a role that two sources had goes with the one that answers', async (t) => {
  for (const lists of [['id_token', 'access_token'], ['access_token', 'id_token']] as ClaimSource[][]) {
    const rules = rulesWith(lists)
    const login = { id_token: { roles: ['admin'] }, access_token: { roles: ['admin'] } }
    t.same(after(rules, login, { access_token: { roles: [] } }).claims['roles'], [], 'the newer answer counts')
    t.notOk('roles' in after(rules, login, { access_token: {} }).claims, 'also when it lacks the claim')
  }
  const overlap = rulesWith(['access_token'], true)
  const login = { userinfo: { realm_access: { x: 1 } }, access_token: { realm_access: { roles: ['admin'] } } }
  t.same(after(overlap, login, { access_token: {} }).claims['realm_access'], { x: 1 })
  t.same(after(overlap, login, { id_token: {}, access_token: {} }).claims['realm_access'], { x: 1 })
  t.same(after(overlap, login, { id_token: {} }).claims['realm_access'], { x: 1, roles: ['admin'] })
})

t.test('K15 a short ID token keeps the standard claims of the login, whole scopes at a time', async (t) => {
  const login = {
    id_token: {
      name: 'Alice', nickname: 'Al', email: 'a@example.com', email_verified: true, phone_number: '1', address: { a: 1 }, roles: ['admin']
    }
  }
  const rules = rulesWith(['id_token'])
  t.same(after(rules, login, { id_token: {} }).claims, {
    ...USER, name: 'Alice', nickname: 'Al', email: 'a@example.com', email_verified: true, phone_number: '1', address: { a: 1 }
  })
  t.same(after(rules, login, { id_token: { email: 'b@example.com' } }).claims, {
    ...USER, name: 'Alice', nickname: 'Al', email: 'b@example.com', phone_number: '1', address: { a: 1 }
  }, 'a new address does not count as verified')
  t.notOk('nickname' in after(rules, login, { id_token: { name: 'Alice B' } }).claims)
})

t.test('K15 a session of an earlier version does not say where its claims come from', async (t) => {
  const old = { claims: { ...USER, name: 'Alice', groups: ['staff'], roles: ['admin'] } }
  const withUserinfo = rulesWith(['id_token', 'userinfo'], true)
  t.same(mergeClaims(old, { id_token: { roles: [] } }, withUserinfo).claims, { ...old.claims, roles: [] })
  t.same(mergeClaims(old, { userinfo: { name: 'B' } }, withUserinfo).claims, { ...USER, name: 'B' })
  t.same(mergeClaims(old, { id_token: { roles: [] } }, rulesWith(['id_token'])).claims, { ...USER, name: 'Alice', roles: [] })
  t.same(mergeClaims(old, { access_token: { groups: ['b'] } }, rulesWith(['access_token'])).claims,
    { ...old.claims, groups: ['b'] })
})

t.test('K15 the option claims says what is kept, except for roles', async (t) => {
  const rules = rulesWith(['id_token', 'access_token'], false, (name) => name === 'name')
  const { claims } = after(rules, {
    id_token: { name: 'Alice', email: 'a', roles: ['a'] }, access_token: { groups: ['b'], name: 'Eve' }
  })
  t.same(claims, { ...USER, name: 'Alice', roles: ['a'], groups: ['b'] })
})

t.test('K15 claims that the provider has left out are remembered, by the names of role claims only', async (t) => {
  const overage = { _claim_names: { groups: 'src1', photo: 'src2' }, _claim_sources: { src1: { endpoint: 'https://x' } } }
  t.same(leftOutRoles(overage, ROLE_CLAIMS), ['groups'])
  for (const odd of [null, 'groups', ['groups'], 5, undefined]) t.same(leftOutRoles({ _claim_names: odd }, ROLE_CLAIMS), [])
  const rules = rulesWith(['access_token'])
  const login = after(rules, { id_token: {}, access_token: overage })
  t.same(login, { claims: USER, sources: { left_out: ['groups'] } }, 'no other claim of the access token')
  t.same(mergeClaims(login, { access_token: {} }, rules).sources, { left_out: ['groups'] })
  t.same(mergeClaims(login, { id_token: {}, access_token: {} }, rules).sources, undefined)
})

t.test('K15 R19 names of Object.prototype, and values of any shape', async (t) => {
  const hostile = JSON.parse('{"__proto__":{"roles":["admin"]},"constructor":1,"roles":{"__proto__":true,"admin":false}}') as object
  const { claims } = after(all, { id_token: hostile, access_token: hostile })
  t.notOk('admin' in {})
  t.same(rolesOf(claims, ROLE_CLAIMS, 'x'), ['__proto__'])
  t.same(Object.getPrototypeOf(claims), Object.prototype)
  t.same(withoutRoles({ ...USER, realm_access: ['x'], resource_access: { 'my.app': 'text' } }, all),
    { ...USER, realm_access: ['x'], resource_access: { 'my.app': 'text' } })
  const json = fc.dictionary(fc.constantFrom('roles', 'groups', 'realm_access', 'name', 'email', '__proto__', 'x'), fc.jsonValue())
  const sources = fc.option(fc.shuffledSubarray<ClaimSource>(['id_token', 'userinfo', 'access_token'], { minLength: 1 }))
  const answers = fc.record({ id_token: json, userinfo: json, access_token: json }, { requiredKeys: [] })
  fc.assert(fc.property(sources, fc.boolean(), fc.array(answers, { maxLength: 4 }), (rolesFrom, userinfo, list) => {
    const rules = rulesWith(rolesFrom ?? undefined, userinfo)
    const result = after(rules, ...list)
    const gone = mergeClaims(result, { id_token: {}, userinfo: {}, access_token: {} }, rules)
    const described = new Set(['iss', 'sub', 'name', 'email'])
    return result.claims.sub === 'alice' && Object.keys(gone.claims).every((name) => described.has(name))
  }))
})
