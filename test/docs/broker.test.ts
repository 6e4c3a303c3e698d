import { createHash } from 'node:crypto'
import t from 'tap'
import { client, startClock, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, stopClock } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { OidcOptions } from '../../index.ts'
import type { Provider, ProviderUser } from '../../lib/testing/index.ts'

const page = openPage('docs/broker.md')
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const REDIRECT_URI = 'http://127.0.0.1:1/'
const VERIFIER = 'v'.repeat(43)

const ALICE = { sub: 'alice', name: 'Alice', email: 'alice@example.com' }

async function start (t: Test, users: ProviderUser[] = [ALICE]): Promise<Provider> {
  const provider = await startProvider({ users, deviceInterval: 1 })
  t.teardown(async () => await provider.close())
  return provider
}

type Post = (path: string, form: Record<string, string>, headers?: object) => Promise<LightMyRequestResponse>

function postTo (app: FastifyInstance): Post {
  return async (path, form, headers = {}) => await app.inject({
    method: 'POST',
    url: `/auth/${path}`,
    headers: { ...FORM, ...headers },
    payload: new URLSearchParams(form).toString()
  })
}

/** The tokens of a device flow that the user has agreed to. */
async function tokensByDevice (app: FastifyInstance, provider: Provider, form: Record<string, string> = {}) {
  const post = postTo(app)
  const { device_code: code } = (await post('device', form)).json()
  provider.approveDevice()
  return (await post('token', { grant_type: DEVICE, device_code: code, ...form })).json()
}

/** The parameters that a native login sends to its redirect URI. */
async function nativeLogin (app: FastifyInstance, params: Record<string, string> = {}): Promise<URLSearchParams> {
  const challenge = createHash('sha256').update(VERIFIER).digest('base64url')
  const query = new URLSearchParams({
    client_id: 'cli', redirect_uri: REDIRECT_URI, code_challenge: challenge, code_challenge_method: 'S256', ...params
  })
  const browser = client({ app, baseUrl: BASE_URL })
  const { location: toProvider } = await browser.step(`/auth/login?${query.toString()}`)
  const { location: callback } = await browser.step(toProvider as string)
  const { location } = await browser.step(callback as string)
  return new URL(location as string).searchParams
}

function claimsOf (token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[1] as string, 'base64url').toString()) as Record<string, unknown>
}

async function statusOf (app: FastifyInstance, token: string, url = '/api/status'): Promise<number> {
  return (await app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode
}

t.test('what each request to the token endpoint gets', async (t) => {
  const provider = await start(t)
  process.env['OIDC_STORE'] = 'memory:'
  const options = optionsFor(provider, { bearer: { audience: 'https://web.example.com' } })
  const app = await page.run(t, "'/devices/forget'", { context: { options } })
  const post = postTo(app)
  const token = async (form: Record<string, string>): Promise<LightMyRequestResponse> => await post('token', form)
  const status = async (text: string): Promise<number> => await statusOf(app, text)
  const device = async (): Promise<string> => {
    const { device_code: code } = (await post('device', {})).json()
    provider.approveDevice()
    return code
  }
  const byDevice = async (more: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await token({ grant_type: DEVICE, device_code: await device(), ...more })
  const refresh = async (text: string): Promise<LightMyRequestResponse> =>
    await token({ grant_type: 'refresh_token', refresh_token: text })
  const tokens = (await byDevice()).json()
  const clock = startClock()
  t.teardown(() => clock.restore())
  const asked: Record<string, () => Promise<string>> = {
    'grant_type=authorization_code': async () => {
      const code = (await nativeLogin(app)).get('code') as string
      const proof = { redirect_uri: REDIRECT_URI, code_verifier: VERIFIER, client_id: 'cli' }
      const grant = { grant_type: 'authorization_code', ...proof }
      const { access_token: text } = (await token({ ...grant, code })).json()
      const before = await status(text)
      await token({ ...grant, code })
      return `${before} ${await status(text)}`
    },
    'grant_type=refresh_token': async () => {
      const answer = (await refresh(tokens.refresh_token)).json()
      return `${answer.refresh_token !== tokens.refresh_token} ${await status(answer.access_token)}`
    },
    'the same refresh token again': async () => {
      const [one, two] = [await refresh(tokens.refresh_token), await refresh(tokens.refresh_token)]
      return String(one.json().refresh_token === two.json().refresh_token)
    },
    'the same refresh token later': async () => {
      clock.advance(31)
      return `${(await refresh(tokens.refresh_token)).json().error} ${await status(tokens.access_token)}`
    },
    [`grant_type=${DEVICE}`]: async () => {
      const { device_code: code } = (await post('device', {})).json()
      const before = (await token({ grant_type: DEVICE, device_code: code })).json().error
      return `${before} ${await status((await byDevice()).json().access_token)}`
    },
    [`grant_type=${EXCHANGE}`]: async () => {
      const subject = provider.accessToken({ sub: 'alice', overrides: { aud: 'https://web.example.com' } })
      const answer = (await token({ grant_type: EXCHANGE, subject_token: subject })).json()
      return `${await status(answer.access_token)} ${answer.refresh_token}`
    },
    'refresh-token': async () => {
      const { refresh_token: text } = (await token({ 'device-code': await device() })).json()
      return String(await status((await token({ 'refresh-token': text })).json().access_token))
    },
    another: async () => (await token({ grant_type: 'password' })).json().error,
    'a client_id': async () => (await byDevice({ client_id: 'other' })).json().error,
    any: async () => {
      const code = await device()
      const off = provider.fault({ on: 'token', status: 503 })
      const away = await token({ grant_type: DEVICE, device_code: code })
      off()
      const after = await token({ grant_type: DEVICE, device_code: code })
      return `${away.statusCode} ${away.json().error} ${away.headers['retry-after'] !== undefined} ${after.statusCode}`
    }
  }
  const answers = [
    '200 401', 'true 200', 'true', 'invalid_grant 401', 'authorization_pending 200', '200 undefined', '200',
    'unsupported_grant_type', 'invalid_client', '503 temporarily_unavailable true 200'
  ]
  const rows = [...page.rowsOf('request to `POST /auth/token`').keys()].map((cell) => cell.replaceAll('`', ''))
  t.equal(rows.length, answers.length)
  for (const [index, [start, ask]] of Object.entries(asked).entries()) {
    const row = String(rows[index])
    t.ok(row.startsWith(start), row)
    t.equal(await ask(), answers[index], row)
  }
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  t.ok(((await browser.fetch('/devices/forget', { method: 'POST' })).json() as { ended: number }).ended > 0)
})

t.test('a native login', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/devices/forget'", { context: { options: optionsFor(provider) } })
  const params = await nativeLogin(app, { state: 'mine' })
  t.match(Object.fromEntries(params), { code: /./, state: 'mine', iss: BASE_URL })
  provider.options.approve = () => false
  t.match(Object.fromEntries(await nativeLogin(app)), { error: 'access_denied', error_description: /./ })
  const faults = [{ redirect_uri: 'https://evil.example.com/' }, { code_challenge_method: 'plain' }, { client_id: 'x' }]
  for (const wrong of faults) {
    const query = new URLSearchParams({
      redirect_uri: REDIRECT_URI, code_challenge: 'x'.repeat(43), code_challenge_method: 'S256', ...wrong
    })
    const answer = await app.inject({ url: `/auth/login?${query.toString()}`, headers: { accept: 'text/html' } })
    t.match([answer.statusCode, answer.headers.location, answer.headers['content-type']], [400, undefined, /html/])
  }
  const metadata = (await app.inject('/.well-known/oauth-authorization-server')).json()
  t.match(metadata, {
    issuer: BASE_URL, authorization_endpoint: `${BASE_URL}/auth/login`, token_endpoint: `${BASE_URL}/auth/token`
  })
})

t.test('a program with a device flow', async (t) => {
  const provider = await start(t)
  const app = await buildApp(t, optionsFor(provider, {
    store: 'memory:', broker: { audience: 'https://api.example.com', nativeClients: { clientIds: ['cli'] } }
  }))
  await app.listen({ host: '127.0.0.1', port: 0 })
  let polls = 0
  provider.fault({ on: 'token', before: (provider) => { if (++polls === 2) provider.approveDevice() } })
  const written: string[] = []
  const { log } = console
  t.teardown(() => { console.log = log })
  console.log = (text: string) => written.push(text)
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  await page.run(t, 'verification_uri', {
    context: { options: optionsFor(provider) },
    change: (code) => `${code.replace(BASE_URL, url)}\nObject.assign(globalThis, { deviceTokens: tokens })\n`
  })
  console.log = log
  const { deviceTokens } = globalThis as unknown as { deviceTokens: { access_token: string } }
  t.equal(polls, 2)
  t.match(written, [/^Open http.* and enter /])
  t.equal(await statusOf(app, deviceTokens.access_token, '/me'), 200)
})

t.test('the hooks and what an access token says', async (t) => {
  stopClock(t)
  const users = [
    { ...ALICE, roles: ['admin'], department: 'sales' },
    { sub: 'bob', name: 'Bob', email: 'bob@example.com', roles: [], department: 'guests' }
  ]
  const provider = await start(t, users)
  const app = await page.run(t, 'onIssue:', { context: { options: optionsFor(provider) } })
  const { access_token: token, ...others } = await tokensByDevice(app, provider, { client_id: 'cli' })
  t.match(claimsOf(token), {
    iss: BASE_URL,
    aud: 'https://api.example.com',
    sub: 'alice',
    client_id: 'cli',
    idp: 'default',
    roles: ['admin'],
    email: 'alice@example.com',
    department: 'sales',
    grantType: DEVICE,
    is_admin: true
  })
  const { sid, jti } = claimsOf(token)
  t.ok(String(jti).startsWith(`${String(sid)}.`))
  t.match(others, {
    token_type: 'Bearer', expires_in: 900, expires: Number, refresh_token: String, refresh_expires: Number
  })
  provider.users.shift()
  t.match(await tokensByDevice(app, provider, { client_id: 'cli' }), { error: 'access_denied' })
  const { access_token: guest } = await tokensByDevice(app, provider)
  t.match(claimsOf(guest), { department: 'guests', client_id: 'web', is_admin: false })
})

t.test('how tokens end', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/devices/forget'", { context: { options: optionsFor(provider) } })
  const { broker, sessions } = app.oidc
  const ways: Record<string, (tokens: { access_token: string, refresh_token: string }) => Promise<unknown>> = {
    'by the access token': async ({ access_token: token }) => await postTo(app)('revoke', { token }),
    'by the refresh token': async ({ refresh_token: token }) => await postTo(app)('revoke', { token }),
    'by sub': async () => await broker.revoke({ sub: 'alice' }),
    'by sid': async ({ access_token: token }) => await broker.revoke({ sid: String(claimsOf(token)['sid']) }),
    'by jti': async ({ access_token: token }) => await broker.revoke({ jti: String(claimsOf(token)['jti']) }),
    'with the sessions': async () => await sessions.revoke({ sub: 'alice' }),
    'by the provider': async () => {
      const url = `${BASE_URL}/auth/backchannel-logout`
      t.equal((await provider.sendLogoutToken(url, { app, sub: 'alice' })).status, 200)
    },
    'by a refused refresh': async ({ refresh_token: token }) => {
      provider.forget()
      const answer = await postTo(app)('token', { grant_type: 'refresh_token', refresh_token: token })
      t.match(answer.json(), { error: 'invalid_grant' })
    }
  }
  for (const [way, end] of Object.entries(ways)) {
    const tokens = await tokensByDevice(app, provider)
    t.equal(await statusOf(app, tokens.access_token), 200, way)
    await end(tokens)
    t.equal(await statusOf(app, tokens.access_token), 401, way)
  }
})

t.test('another service asks about a token', async (t) => {
  const provider = await start(t)
  const secret = 'a secret of the reports service, 32 bytes'
  process.env['REPORTS_SECRET'] = secret
  const app = await page.run(t, 'resourceServers:', { context: { options: optionsFor(provider) } })
  const { access_token: token } = await tokensByDevice(app, provider)
  const credentials = Buffer.from(`reports:${encodeURIComponent(secret)}`).toString('base64')
  const basic = { authorization: `Basic ${credentials}` }
  const introspect = async (headers: object, form: Record<string, string> = {}): Promise<LightMyRequestResponse> =>
    await postTo(app)('introspect', { token, ...form }, headers)
  t.match((await introspect(basic)).json(), { active: true, sub: 'alice', token_type: 'Bearer' })
  const byForm = await introspect({}, { client_id: 'reports', client_secret: secret })
  t.match(byForm.json(), { active: true })
  t.match([(await introspect({})).statusCode, (await introspect({})).json()], [401, { error: 'invalid_client' }])
  await postTo(app)('revoke', { token })
  t.same((await introspect(basic)).json(), { active: false })
  const { keys } = (await app.inject('/auth/.well-known/jwks.json')).json()
  t.match(keys, [{ kty: 'EC', alg: 'ES256', kid: /./, d: undefined }])
})

t.test('applications that trust each other', async (t) => {
  const provider = await start(t)
  const others = await Promise.all(['other', 'python'].map(async (name) => {
    const app = await buildApp(t, optionsFor(provider, {
      baseUrl: 'http://localhost',
      store: 'memory:',
      broker: { audience: 'https://api.example.com', issuer: `https://${name}.example.com` }
    }))
    await app.listen({ host: '127.0.0.1', port: 0 })
    return { app, url: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/auth/.well-known/jwks.json` }
  }))
  const [other, python] = others as [typeof others[0], typeof others[0]]
  // The addresses of the keys, as the applications of this test have them.
  const hosts = new Map([
    ['https://other.example.com/auth/.well-known/jwks.json', other.url],
    ['https://python.example.com/jwks.json', python.url]
  ])
  const options: OidcOptions = optionsFor(provider, {
    fetch: async (url, init) => await fetch(hosts.get(url) ?? url, init)
  })
  const app = await page.run(t, "'https://other.example.com',", { context: { options } })
  for (const [peer, iss] of [[other, 'https://other.example.com'], [python, 'https://python.example.com']] as const) {
    const { access_token: token } = await tokensByDevice(peer.app, provider)
    const answer = await app.inject({ url: '/api/status', headers: { authorization: `Bearer ${token}` } })
    t.same(answer.json(), { sub: 'alice', iss })
  }
})

t.test('K16 beside instances of py-oidc-auth', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "prefix: '/auth/v2'", { context: { options: optionsFor(provider) } })
  const { keys } = (await app.inject('/auth/v2/.well-known/jwks.json')).json<{ keys: Array<Record<string, string>> }>()
  t.same(keys.map(({ alg, kty }) => [alg, kty]), [['RS256', 'RSA']])
})

t.test('new signing keys', async (t) => {
  const provider = await start(t, [{ ...ALICE, roles: ['admin'] }])
  const app = await page.run(t, "'/admin/rotate-keys'", { context: { options: optionsFor(provider) } })
  const browser = client({ app, baseUrl: BASE_URL })
  await browser.goto('/auth/login')
  const kids = async (): Promise<string[]> => {
    const { keys } = (await app.inject('/auth/.well-known/jwks.json')).json<{ keys: Array<{ kid: string }> }>()
    return keys.map(({ kid }) => kid)
  }
  const kidOf = async (): Promise<string> => {
    const { access_token: token } = await tokensByDevice(app, provider)
    return JSON.parse(Buffer.from(token.split('.')[0], 'base64url').toString()).kid as string
  }
  const [first] = await kids()
  t.match((await browser.fetch('/admin/rotate-keys', { method: 'POST' })).text(), /ten minutes/)
  const [, second] = await kids()
  t.ok(second)
  t.equal(await kidOf(), first)
  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(601)
  t.equal(await kidOf(), second)
})

t.test('without a broker', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "routes: { token: 'token'", { context: { options: optionsFor(provider) } })
  const tokens = await tokensByDevice(app, provider)
  t.equal(tokens.access_token.split('.').length, 1, 'the provider\'s own token')
  const own = await postTo(app)('token', {
    grant_type: 'authorization_code', code: 'x', code_verifier: VERIFIER, redirect_uri: `${BASE_URL}/auth/callback`
  })
  t.match(own.json(), { error: 'invalid_grant' })
  const without = await postTo(app)('token', {
    grant_type: 'authorization_code', code: 'x', redirect_uri: REDIRECT_URI
  })
  t.match(without.json(), { error: 'invalid_request' })
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
