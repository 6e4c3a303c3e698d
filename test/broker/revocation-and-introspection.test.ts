import { randomBytes } from 'node:crypto'
import t from 'tap'
import { createMemoryStore } from '../../lib/store/memory.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor } from '../support/app.ts'
import { AUDIENCE, clientsOf, revokedAt, start } from '../support/broker.ts'
import { faultyStore } from '../support/modes.ts'
import { until } from '../support/until.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { Tokens } from '../support/broker.ts'

t.test('RFC 7009 and RFC 7662: clients revoke tokens, and resource servers introspect them', async (t) => {
  const secret = 'a secret of a resource server: +%é'
  const { post, byDevice, api, token } = await start(t, { broker: { resourceServers: { reports: secret } } })
  const basic = { authorization: `Basic ${Buffer.from(`reports:${encodeURIComponent(secret)}`).toString('base64')}` }
  const one = await byDevice()
  const introspect = async (
    value: string,
    headers: Record<string, string> = basic,
    more: Record<string, string> = {}
  ): Promise<LightMyRequestResponse> => await post('introspect', { token: value, ...more }, headers)
  t.match((await introspect(one.access_token)).json(), {
    active: true,
    token_type: 'Bearer',
    sub: 'alice',
    iss: BASE_URL
  })
  t.match((await introspect(one.access_token, {}, { client_id: 'reports', client_secret: secret })).json(), {
    active: true
  })
  for (const other of [one.refresh_token, 'x', '']) t.same((await introspect(other)).json(), { active: false })
  const strangers: Array<Record<string, string>> = [
    {},
    { authorization: 'Basic x' },
    { authorization: 'Basic !' },
    { authorization: `Basic ${Buffer.from('reports:wrong').toString('base64')}` },
    { authorization: `Basic ${Buffer.from('reports:%').toString('base64')}` },
    { authorization: `Basic ${Buffer.from('constructor:x').toString('base64')}` }
  ]
  for (const headers of strangers) {
    t.match(
      [
        (await introspect(one.access_token, headers)).statusCode,
        (await introspect(one.access_token, headers)).json().error
      ],
      [401, 'invalid_client'],
      JSON.stringify(headers)
    )
  }
  t.match((await post('introspect', {}, basic)).json(), { error: 'invalid_request' })

  for (const kind of ['access_token', 'refresh_token'] as const) {
    const tokens = await byDevice()
    const revoked = await post('revoke', { token: tokens[kind] })
    t.same([revoked.statusCode, revoked.json()], [200, {}])
    t.equal((await api(tokens.access_token)).statusCode, 401)
    t.same((await introspect(tokens.access_token)).json(), { active: false })
    t.match((await token({ grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).json(), {
      error: 'invalid_grant'
    })
    t.equal((await post('revoke', { token: tokens[kind] })).statusCode, 200, 'a second revocation succeeds')
  }
  t.equal((await post('revoke', { token: 'nonsense' })).statusCode, 200)
  const used = await byDevice()
  const next = (await token({ grant_type: 'refresh_token', refresh_token: used.refresh_token })).json() as Tokens
  await token({ grant_type: 'refresh_token', refresh_token: next.refresh_token })
  t.equal((await post('revoke', { token: used.refresh_token })).statusCode, 200)
  t.equal((await api(next.access_token)).statusCode, 401, 'a used refresh token can be revoked as well')
  t.match((await post('revoke', {})).json(), { error: 'invalid_request' })
  t.equal((await api(one.access_token)).statusCode, 200, 'the other grants stay')
  t.equal(
    (await (await start(t)).post('introspect', {})).statusCode,
    404,
    'without resource servers there is no introspection'
  )
})

t.test('RFC 6749, section 5.2: an unknown client receives a challenge', async (t) => {
  const { post } = await start(t, { broker: { resourceServers: { api: 'x'.repeat(32) } } })
  const answer = await post(
    'introspect',
    { token: 'x' },
    { authorization: `Basic ${Buffer.from('api:wrong').toString('base64')}` }
  )
  t.match(
    [answer.statusCode, answer.headers['www-authenticate'], answer.json()],
    [401, /^Basic realm=/, { error: 'invalid_client' }]
  )
})

t.test('S61 R18 a revocation that cannot read the grant can be sent again', async (t) => {
  const { store, fault } = faultyStore()
  const world = await start(t, { store })
  const { access_token: token } = await world.byDevice()
  fault.verbs = new Set(['get'])
  t.equal((await world.post('revoke', { token })).statusCode, 503)
  fault.verbs = null
  t.equal((await world.post('revoke', { token })).statusCode, 200)
  await until(() => revokedAt(world).length > 0)
  t.equal(revokedAt(world).length, 1)
})

t.test('a revocation ends a grant that no session key opens any more', async (t) => {
  const [provider, store] = [await startProvider({ deviceInterval: 1 }), createMemoryStore()]
  t.teardown(async () => await provider.close())
  const withKeys = async (...key: string[]): Promise<ReturnType<typeof clientsOf>> =>
    clientsOf(
      await buildApp(t, { ...optionsFor(provider), store, session: { key }, broker: { audience: AUDIENCE } }),
      provider
    )
  const newKey = randomBytes(32).toString('base64')
  const { access_token: token } = await (await withKeys(SESSION_KEY)).byDevice()
  t.equal(
    (await (await withKeys(newKey, SESSION_KEY)).app.inject('/auth/.well-known/jwks.json')).statusCode,
    200,
    'the new session key encrypts the signing keys'
  )
  const { api, post } = await withKeys(newKey)
  t.equal((await api(token)).statusCode, 200)
  t.equal((await post('revoke', { token })).statusCode, 200)
  t.equal((await api(token)).statusCode, 401)
})
