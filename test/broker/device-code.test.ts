import { decodeJwt } from 'jose'
import t from 'tap'
import { refuse } from '../../index.ts'
import { createDeviceCodes } from '../../lib/broker/device-codes.ts'
import { parseOptions } from '../../lib/options/settings.ts'
import { createSealer } from '../../lib/sealer.ts'
import { sha256 } from '../../lib/util/crypto.ts'
import { optionsFor, startApp, stopClock } from '../support/app.ts'
import { AUDIENCE, DEVICE, clientsOf, refusal, start } from '../support/broker.ts'
import { captureLog } from '../support/protocol.ts'
import type { LightMyRequestResponse } from 'fastify'
import type { Fault } from '../../lib/testing/index.ts'

t.test('S79 the device flow passes on the answers of the provider', async (t) => {
  const { provider, post, token, app } = await start(t, {
    telemetry: false,
    onClaims: (claims, { appState, redirectTo }) => {
      if (claims.sub === 'mallory') throw refuse('not here')
      redirectTo('/welcome') // for browsers
      t.equal(appState, undefined)
    }
  })
  const device = await post('device', {})
  t.match(device.json(), {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: 600,
    interval: 1
  })
  t.equal(device.headers['cache-control'], 'no-store')
  const { device_code: deviceCode } = device.json()
  t.notMatch(
    provider.requests.map(({ body }) => body),
    [{ device_code: deviceCode }]
  )
  const poll = async (form: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({ grant_type: DEVICE, device_code: deviceCode, ...form })
  const pending = await poll()
  t.match([pending.statusCode, pending.json()], [400, { error: 'authorization_pending' }])
  for (const error of ['slow_down', 'expired_token', 'access_denied', 'invalid_grant']) {
    const off = provider.fault(refusal(error))
    t.match([(await poll()).statusCode, (await poll()).json().error], [400, error])
    off()
  }
  const off = provider.fault(refusal('invalid_client', 401))
  t.match(
    [(await poll()).statusCode, (await poll()).json().error],
    [503, 'temporarily_unavailable'],
    'K9 wrong credentials of this application are not an error of the client'
  )
  off()
  provider.denyDevice()
  t.match((await poll()).json(), { error: 'access_denied' })

  const count = provider.count('token')
  for (const forged of ['x', deviceCode.slice(0, -3), `${deviceCode}a`]) {
    t.match((await token({ grant_type: DEVICE, device_code: forged })).json(), { error: 'invalid_grant' })
  }
  t.match((await poll({ client_id: 'cli' })).json(), { error: 'invalid_grant' }, 'of another client')
  t.equal(provider.count('token'), count, 'the provider gets no request')

  const second = (await post('device', { client_id: 'cli' })).json()
  provider.approveDevice(undefined, 'mallory')
  t.match(
    (await token({ grant_type: DEVICE, device_code: second.device_code, client_id: 'cli' })).json(),
    { error: 'access_denied' },
    'onClaims can refuse a device login'
  )
  const third = (await post('device', { client_id: 'cli' })).json()
  provider.approveDevice(undefined, 'bob')
  t.equal(
    decodeJwt(
      (await token({ grant_type: DEVICE, device_code: third.device_code, client_id: 'cli' })).json().access_token
    )['client_id'],
    'cli'
  )

  const fourth = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  provider.fault({ on: 'token', idToken: (claims) => ({ ...claims, aud: 'other' }) })
  t.match(
    (await token({ grant_type: DEVICE, device_code: fourth.device_code })).json(),
    { error: 'invalid_request' },
    'S21 the ID token is verified'
  )
  t.equal((await app.inject({ method: 'GET', url: '/auth/device' })).statusCode, 405)

  provider.clearFaults()
  const fifth = (await post('device', {})).json()
  provider.approveDevice(undefined, 'bob')
  provider.fault({ on: 'token', tokenResponse: (answer) => ({ ...answer, scope: undefined }) })
  t.equal(
    (await token({ grant_type: DEVICE, device_code: fifth.device_code })).json().scope,
    'openid profile email',
    'a response without scope grants the requested scope'
  )
})

t.test('S79 the device flow needs its endpoint, a safe verification_uri and an ID token', async (t) => {
  const { post } = await start(t, {}, { metadata: { device_authorization_endpoint: undefined } })
  const none = await post('device', {})
  t.match([none.statusCode, none.json()], [503, { error: 'temporarily_unavailable', detail: /does not support the device flow/ }])
  const other = await start(t)
  other.provider.fault({
    on: 'device',
    answer: (given) => {
      given.body = JSON.stringify({ ...JSON.parse(String(given.body)), verification_uri: 'javascript:alert(1)' })
    }
  })
  t.equal((await other.post('device', {})).statusCode, 502)
  const { provider, post: postTo, token } = await start(t)
  const { device_code: deviceCode } = (await postTo('device', {})).json()
  provider.approveDevice()
  provider.fault({
    on: 'token',
    answer: (given) => {
      given.body = JSON.stringify({ ...JSON.parse(String(given.body)), id_token: undefined })
    }
  })
  t.match(
    (await token({ grant_type: DEVICE, device_code: deviceCode })).json(),
    { error: 'invalid_grant' },
    'without an ID token there is no user'
  )
})

t.test('S79 a device code expires', async (t) => {
  const clock = stopClock(t)
  const { post, token } = await start(t)
  const { device_code: deviceCode } = (await post('device', {})).json()
  clock.advance(601)
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { error: 'expired_token' })
})

t.test('onClaims can answer a device login itself', async (t) => {
  const { post, token, provider } = await start(t, {
    onClaims: (_claims, { reply }) => {
      reply.code(403).send({ error: 'access_denied', why: 'suspended' })
    }
  })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  t.match((await token({ grant_type: DEVICE, device_code: deviceCode })).json(), { why: 'suspended' })
})

/** The device endpoint of the provider answers with this error. */
function deviceRefusal (error: string, status = 400): Fault {
  return { on: 'device', answer: (given) => { Object.assign(given, { status, body: JSON.stringify({ error }) }) } }
}

t.test('K3 what the provider refuses at the device endpoint reaches the program', async (t) => {
  const { provider, post } = await start(t)
  for (const error of ['invalid_scope', 'invalid_request']) {
    for (const status of [400, 401, 200]) {
      const off = provider.fault(deviceRefusal(error, status))
      const answer = await post('device', {})
      t.match([answer.statusCode, answer.json()], [400, { error }], `${error} with ${status}`)
      off()
    }
  }
})

t.test('K3 an error about our own client is 503, and the log names the grant to switch on', async (t) => {
  for (const error of ['unauthorized_client', 'invalid_client']) {
    const { server, lines } = captureLog()
    const { app, provider } = await startApp(t, {
      store: 'memory:', broker: { audience: AUDIENCE }
    }, {}, server)
    provider.fault(deviceRefusal(error))
    const answer = await clientsOf(app, provider).post('device', {})
    t.match([answer.statusCode, answer.json()], [503, { error: 'temporarily_unavailable' }], error)
    t.match(lines(), new RegExp(`400 ${error}: .*the grant urn:ietf:params:oauth:grant-type:device_code`))
  }
})

t.test('K3 the device flow carries PKCE', async (t) => {
  const { provider, post, token } = await start(t, {}, { requirePkce: true })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  const tokens = (await token({ grant_type: DEVICE, device_code: deviceCode })).json()
  t.type(tokens.access_token, 'string')
  const [device, exchange] = ['device', 'token'].map((on) => provider.requests.find(({ endpoint }) => endpoint === on))
  t.equal(device?.body['code_challenge_method'], 'S256')
  t.equal(device?.body['code_challenge'], sha256(exchange?.body['code_verifier'] as string))
  t.match(exchange?.body['code_verifier'], /^[\w-]{43}$/)
  t.notMatch(deviceCode, exchange?.body['code_verifier'])

  provider.fault({ on: 'token', before: (_provider, { body }) => { body['code_verifier'] = 'another' } })
  const second = (await post('device', {})).json()
  provider.approveDevice()
  const refused = await token({ grant_type: DEVICE, device_code: second.device_code })
  t.match([refused.statusCode, refused.json()], [400, { error: 'invalid_grant' }], 'the provider checks it')
})

t.test('K3 members of the device response that are null count as absent', async (t) => {
  const { provider, post } = await start(t)
  const change = (members: object): Fault => ({
    on: 'device',
    answer: (given) => { given.body = JSON.stringify({ ...JSON.parse(String(given.body)), ...members }) }
  })
  provider.fault(change({ interval: null, verification_uri_complete: null }))
  const answer = await post('device', {})
  t.match([answer.statusCode, answer.json()], [200, { interval: 5, verification_uri: String }])
  t.notOk('verification_uri_complete' in answer.json())
  provider.clearFaults()
  for (const members of [{ verification_uri: null }, { device_code: null }, { verification_uri: 'http://op.example' }]) {
    const off = provider.fault(change(members))
    t.equal((await post('device', {})).statusCode, 502, JSON.stringify(members))
    off()
  }
  provider.fault({ on: 'device', answer: (given) => { given.body = '[]' } })
  t.equal((await post('device', {})).statusCode, 502)
})

t.test('K3 a device code that an earlier version sealed has no PKCE', async (t) => {
  const { app, provider, token } = await start(t)
  const codes = createDeviceCodes(await createSealer(app, parseOptions({
    ...optionsFor(provider), store: 'memory:', broker: { audience: AUDIENCE }
  })))
  const device_code = codes.seal({
    provider: 'default', deviceCode: 'old', clientId: undefined, expiresAt: Math.floor(Date.now() / 1000) + 60
  })
  t.match((await token({ grant_type: DEVICE, device_code })).json(), { error: 'invalid_grant' })
  const sent = provider.requests.find(({ endpoint }) => endpoint === 'token')?.body
  t.match(sent, { device_code: 'old' })
  t.notOk('code_verifier' in (sent ?? {}))
})

t.test('K3 a program whose token UserInfo refuses must log in again', async (t) => {
  const { provider, post, token } = await start(t, { userinfo: true })
  const { device_code: deviceCode } = (await post('device', {})).json()
  provider.approveDevice()
  provider.fault({ on: 'userinfo', status: 401, body: '{}' })
  const answer = await token({ grant_type: DEVICE, device_code: deviceCode })
  t.match([answer.statusCode, answer.json()], [400, { error: 'invalid_grant' }])
})
