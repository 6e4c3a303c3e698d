import t from 'tap'
import { adviseRoles, findRoles } from '../../lib/doctor/roles.ts'
import { shownClaims } from '../../lib/doctor/shown-claims.ts'
import type { Sources } from '../../lib/doctor/roles.ts'

const KNOWN = ['roles', 'groups', 'realm_access.roles', 'resource_access.{clientId}.roles']

t.test('K15 where the roles are, and what to set', async (t) => {
  const cases: Array<[sources: Sources, paths: string[], options: Record<string, unknown> | undefined]> = [
    [[['id_token', { roles: ['admin'], sub: 'a' }]], ['roles'], undefined],
    [[['id_token', { role: 'admin' }]], ['role'], { roleClaims: ['role'] }],
    [[['id_token', { 'cognito:groups': ['a'] }]], ['cognito:groups'], { roleClaims: ['cognito:groups'] }],
    [[['id_token', { 'https://example.com/roles': ['a'] }]], ['https://example.com/roles'], { roleClaims: ['https://example.com/roles'] }],
    [
      [['id_token', { 'urn:zitadel:iam:org:project:roles': { admin: { 1: 'x' }, old: false } }]],
      ['urn:zitadel:iam:org:project:roles'], { roleClaims: ['urn:zitadel:iam:org:project:roles'] }
    ],
    [[['id_token', { sub: 'a' }], ['userinfo', { groups: ['a'] }]], ['groups'], { rolesFrom: ['userinfo'] }],
    [[['id_token', { groups: ['a'] }], ['userinfo', { groups: ['a'] }]], ['groups', 'groups'], undefined],
    [
      [['id_token', { groups: ['a'] }], ['access_token', { app: { deep: { roles: ['b'] } } }]], ['groups', 'app.deep.roles'],
      { rolesFrom: ['id_token', 'access_token'], roleClaims: ['groups', 'app.deep.roles'] }
    ],
    [[['id_token', { resource_access: { other: { roles: ['a'] } } }]], [], undefined],
    [[['id_token', { resource_access: { web: { roles: ['a'] } } }]], ['resource_access.{clientId}.roles'], undefined],
    [[['id_token', { a: { b: { c: { d: { roles: ['x'] } } } } }]], [], undefined],
    [[['id_token', { roles: [], groups: {}, entitlements: 7, parole: ['x'] }]], [], undefined]
  ]
  for (const [sources, paths, options] of cases) {
    const found = findRoles(sources, 'web')
    t.same(found.map(({ path }) => path), paths, JSON.stringify(sources))
    const { code, options: advised } = adviseRoles(found, KNOWN)
    t.same([code, advised], [paths.length === 0 ? 'no_roles' : 'roles', options])
  }
  t.equal(findRoles([['id_token', { roles: new Array(1000).fill('a') }]], 'web')[0]?.roles.length, 50)
})

t.test('claims are shown within limits', async (t) => {
  let deep: object = {}
  for (let level = 0; level < 1000; level++) deep = { deep }
  const shown = shownClaims({
    deep, long: 'x'.repeat(5000), many: new Array(1000).fill(1), none: null, on: true, client_secret: 'x', token_use: 'access'
  }, [])
  t.ok(JSON.stringify(shown).length < 3000)
  t.match(JSON.stringify(shown['deep']), '…')
  t.match(shown, { none: null, on: true, client_secret: '[not shown]', token_use: 'access' })
})
