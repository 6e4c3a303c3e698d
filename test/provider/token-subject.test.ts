import fc from 'fast-check'
import t from 'tap'
import { OidcError } from '../../lib/errors.ts'
import { subjectOf } from '../../lib/provider/token-subject.ts'
import { EXCHANGE, PROVIDER_API, start as startBroker } from '../support/broker.ts'
import { startApp } from '../support/app.ts'
import { API, addRoutes, start } from '../support/bearer.ts'
import type { JWTPayload } from 'jose'
import type { Test } from 'tap'

type Claims = Record<string, unknown>

/** The status of a route for users, of one for clients, and of one for both. */
type Statuses = [user: number, client: number, both: number]

const USER: Statuses = [200, 403, 200]
const CLIENT: Statuses = [403, 200, 200]
const NEITHER: Statuses = [403, 403, 403]

/** What the provider issues for a client that logs itself in. */
const SPRING = { sub: 'svc', aud: 'svc', scope: ['read'], client_id: undefined, auth_time: undefined }
const KEYCLOAK = {
  sub: '6cd55704',
  typ: 'Bearer',
  azp: 'svc',
  client_id: 'svc',
  clientAddress: '10.0.0.1',
  preferred_username: 'service-account-svc',
  auth_time: undefined
}
const ENTRA = { client_id: undefined, scope: undefined, sub: 'b0', oid: 'b0', appid: 'svc', appidacr: '1' }

async function startApi (t: Test, clients: string[] = []): Promise<(claims: Claims) => Promise<Statuses>> {
  const { sendToken } = await start(t, { audience: [API, 'svc', 'app'], strictType: false, clients })
  return async (overrides) => {
    const status = async (url: string): Promise<number> =>
      (await sendToken({ overrides, header: { typ: 'JWT' } }, url)).statusCode
    return [await status('/api'), await status('/jobs'), await status('/both')]
  }
}

t.test('K8 S72 a token of a client is not of a user, and what a user can choose does not make a client', async (t) => {
  const statuses = await startApi(t)
  const neither: Record<string, Claims> = {
    'Spring Authorization Server': SPRING,
    'Spring Authorization Server, with several audiences': { ...SPRING, aud: ['x', 'svc'] },
    'sub is client_id': { sub: 'svc', client_id: 'svc' },
    'sub is azp': { sub: 'svc', client_id: 'other', azp: 'svc' },
    'sub is cid': { sub: 'svc', client_id: undefined, cid: 'svc' },
    'sub is the client of this application': { sub: 'web', client_id: 'other' },
    'Auth0 without gty': { sub: 'svc@clients', client_id: undefined, azp: 'svc' },
    'a service account at Keycloak': { preferred_username: 'service-account-svc', client_id: 'svc' },
    'a service account in upper case': { preferred_username: 'Service-Account-x' },
    'Microsoft Entra ID without a sign': { ...ENTRA, appidacr: '0' },
    'no sub': { sub: undefined },
    'no grant at all': { sub: 'svc', client_id: 'svc', gty: [] },
    'something else than the name of a grant': { sub: 'svc', client_id: 'svc', gty: [['client-credentials']] },
    'no sub, and a username': { sub: undefined, username: 'alice', gty: 'client-credentials' }
  }
  for (const [name, claims] of Object.entries(neither)) t.same(await statuses(claims), NEITHER, name)
})

t.test('K8 a sign that no user can choose makes a client', async (t) => {
  const statuses = await startApi(t)
  const clients: Record<string, Claims> = {
    Auth0: { gty: 'client-credentials', sub: 'svc@clients', azp: 'svc', client_id: undefined },
    FusionAuth: { gty: ['client_credentials'] },
    ForgeRock: { grant_type: 'client_credentials', sub: 'svc', aud: 'svc', client_id: undefined },
    'Microsoft Entra ID': { ...ENTRA, idtyp: 'app' },
    'Microsoft Entra ID v1 without idtyp': ENTRA,
    'Microsoft Entra ID v2 without idtyp': { ...ENTRA, appid: undefined, appidacr: undefined, azp: 'svc', azpacr: '2' },
    WSO2: { aut: 'APPLICATION', azp: 'svc', client_id: 'svc', sub: 'admin', auth_time: undefined },
    Keycloak: KEYCLOAK,
    'Keycloak without the scope profile': { ...KEYCLOAK, preferred_username: undefined },
    'Keycloak without clientAddress': { ...KEYCLOAK, clientAddress: undefined },
    'Keycloak with at+jwt and no typ': { ...KEYCLOAK, typ: undefined, clientAddress: undefined },
    'Keycloak, by the address': { ...KEYCLOAK, typ: undefined, preferred_username: undefined },
    'no sub': { sub: undefined, gty: 'client-credentials', client_id: 'svc' }
  }
  for (const [name, claims] of Object.entries(clients)) t.same(await statuses(claims), CLIENT, name)

  const users: Record<string, Claims> = {
    'a login at Auth0': { gty: 'password' },
    'several grants': { gty: ['authorization_code', 'client_credentials'] },
    'a login at Microsoft Entra ID': { ...ENTRA, idtyp: 'user', sub: 'b1', scp: 'read' },
    'a login at Azure AD B2C': { ...ENTRA, scp: 'read' },
    'a login at WSO2': { aut: 'APPLICATION_USER', azp: 'svc', client_id: 'svc', auth_time: undefined },
    'a provider with azp and client_id': { azp: 'svc', client_id: 'svc', auth_time: undefined },
    'a login at Keycloak with a mapper for client_id': { ...KEYCLOAK, preferred_username: 'alice', auth_time: 5 },
    'azp and client_id differ': { ...KEYCLOAK, preferred_username: 'alice', azp: 'other' }
  }
  for (const [name, claims] of Object.entries(users)) t.same(await statuses(claims), USER, name)
  t.same(await statuses({ ...KEYCLOAK, auth_time: 5 }), NEITHER, 'a user who is called as a service account')
})

t.test('K8 "bearer.clients" names the clients that act for themselves', async (t) => {
  const statuses = await startApi(t, ['svc'])
  const clients: Claims[] = [
    SPRING,
    { sub: 'svc', client_id: 'svc' },
    { sub: undefined, client_id: undefined, appid: 'svc' },
    { sub: undefined, client_id: 'svc', username: '' },
    { sub: 'svc@clients', client_id: undefined, azp: 'svc' },
    { sub: 'a0', client_id: undefined, azp: 'svc', preferred_username: 'service-account-svc' }
  ]
  for (const claims of clients) t.same(await statuses(claims), CLIENT, JSON.stringify(claims))

  const neither: Claims[] = [
    { ...SPRING, aud: 'app' },
    { ...SPRING, aud: API },
    { sub: 'svc', client_id: 'app' },
    { sub: 'app', client_id: 'app' },
    { sub: undefined, client_id: 'svc', username: 'alice' },
    { sub: undefined, client_id: 'app' },
    { client_id: 'svc', preferred_username: 'service-account-svc2' }
  ]
  for (const claims of neither) t.same(await statuses(claims), NEITHER, JSON.stringify(claims))
  t.same(await statuses({ sub: 'alice', client_id: 'svc' }), USER, 'a user who logged in with the client stays a user')
})

t.test('K8 an introspection response is of a user or a client by the same rules', async (t) => {
  for (const clients of [[], ['svc']]) {
    const { app, provider } = await startApp(t, { bearer: { audience: API, introspection: true, clients } })
    addRoutes(app)
    let body: Claims = {}
    provider.fault({
      on: 'introspection',
      answer: (given) => { given.body = JSON.stringify({ active: true, aud: API, ...body }) }
    })
    let count = 0
    const statuses = async (claims: Claims): Promise<Statuses> => {
      body = claims
      const status = async (url: string): Promise<number> =>
        (await app.inject({ url, headers: { authorization: `Bearer opaque${count++}` } })).statusCode
      return [await status('/api'), await status('/jobs'), await status('/both')]
    }
    const isListed = clients.length > 0
    t.same(await statuses({ client_id: 'svc' }), isListed ? CLIENT : NEITHER, 'no sub')
    t.same(await statuses({ client_id: 'svc', username: 'alice' }), NEITHER, 'a user at Django OAuth Toolkit')
    t.same(await statuses({ sub: 'alice', client_id: 'svc', username: 'alice' }), USER)
    t.same(await statuses({ sub: 'svc', client_id: 'svc' }), isListed ? CLIENT : NEITHER, 'Ory Hydra')
    const keycloak = { sub: 'a0', client_id: 'svc', azp: 'svc', typ: 'Bearer' }
    t.same(await statuses({ ...keycloak, username: 'alice' }), USER, 'every response of Keycloak has client_id')
    const account = { ...keycloak, username: 'service-account-svc' }
    t.same(await statuses(account), isListed ? CLIENT : NEITHER, 'a service account at Keycloak')
  }
})

t.test('K8 the log says why a token is of neither a user nor a client', async (t) => {
  const lines: string[] = []
  const { app, provider } = await startApp(t, { bearer: { audience: API } }, {}, {
    logger: { level: 'info', stream: { write: (line: string) => { lines.push(line) } } }
  })
  addRoutes(app)
  const send = async (url: string, overrides: Claims): Promise<string> => {
    lines.length = 0
    const token = provider.accessToken({ sub: 'alice', overrides: { aud: API, ...overrides } })
    await app.inject({ url, headers: { authorization: `Bearer ${token}` } })
    return lines.find((line) => line.includes('FST_OIDC_FORBIDDEN')) ?? ''
  }
  t.match(await send('/api', { sub: 'svc', client_id: 'svc' }), /neither a user nor a client.*bearer\.clients/)
  t.match(await send('/api', { gty: 'client-credentials' }), /is of a client, not of a user.*accept/)
  t.match(await send('/jobs', {}), /is of a user, not of a client.*bearer\.clients/)
})

t.test('K8 the token exchange and the UserInfo route decide by the same rules', async (t) => {
  const { app, provider, token } = await startBroker(t, { bearer: { audience: PROVIDER_API } })
  const subject = (overrides: Claims): string =>
    provider.accessToken({ sub: 'alice', overrides: { aud: PROVIDER_API, ...overrides } })
  const exchange = async (overrides: Claims): Promise<Claims> =>
    (await token({ grant_type: EXCHANGE, subject_token: subject(overrides) })).json()
  const userinfo = async (overrides: Claims): Promise<number> => {
    const headers = { authorization: `Bearer ${subject(overrides)}` }
    return (await app.inject({ url: '/auth/userinfo', headers })).statusCode
  }
  for (const overrides of [
    { gty: 'client-credentials' },
    { sub: 'svc', aud: ['svc', PROVIDER_API] },
    { sub: 'svc', client_id: 'svc' },
    { sub: 'web', client_id: 'svc' },
    { preferred_username: 'service-account-svc' }
  ]) {
    t.match(await exchange(overrides), { error: 'invalid_grant', error_description: /not of a user/ })
    t.equal(await userinfo(overrides), 403)
  }
  t.match(await exchange({}), { access_token: String })
  t.equal(await userinfo({}), 200)
})

t.test('K8 a user of the broker stays a user, whatever the name of the client', async (t) => {
  const { byDevice, app } = await startBroker(t)
  app.get('/jobs', { preHandler: app.oidc.required({ accept: ['client'] }) }, async () => 'in')
  const { access_token: token } = await byDevice('web')
  const status = async (url: string): Promise<number> =>
    (await app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode
  t.same([await status('/api'), await status('/jobs')], [200, 403])
})

t.test('K8 no choice of names by a user makes a client', (t) => {
  const name = fc.constantFrom('svc', 'web', 'svc@clients', 'service-account-svc', 'alice', API)
  const claims = fc.record({
    sub: name,
    preferred_username: name,
    username: name,
    name,
    client_id: fc.constantFrom('svc', 'web', 'app'),
    azp: fc.constantFrom('svc', 'web', 'app'),
    aud: fc.constantFrom('svc', API, ['svc', API]),
    auth_time: fc.constant(5)
  }, { requiredKeys: ['auth_time'] })
  fc.assert(fc.property(claims, fc.boolean(), (claims, isIntrospected) => {
    try {
      return subjectOf(claims as JWTPayload, { clients: [], knownClients: ['web'], isIntrospected }) === 'user' &&
        claims.sub !== undefined && claims.sub !== claims.client_id && ![claims.aud].flat().includes(claims.sub)
    } catch (error) {
      return error instanceof OidcError && error.code === 'FST_OIDC_FORBIDDEN'
    }
  }))
  t.end()
})
