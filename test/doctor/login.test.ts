import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'
import { client, faults, startProvider } from '../../lib/testing/index.ts'
import { diagnose, doctor, problemsOf } from '../support/doctor.ts'
import { freePort } from '../support/free-port.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import type { Report } from '../../lib/doctor/report.ts'
import type { Fault, Page, Provider, ProviderOptions } from '../../lib/testing/index.ts'
import type { Output } from '../support/doctor.ts'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

t.setTimeout(240_000)
// Each test waits for a browser or a clock most of the time: they run at once.
t.jobs = 4

const SECRET = 'the secret of the client'
const ALICE = { sub: 'alice', name: 'Alice' }

async function start (t: Test, options: ProviderOptions = {}): Promise<Provider> {
  const provider = await startProvider({ clients: [{ client_id: 'web', client_secret: SECRET }], users: [ALICE], ...options })
  t.teardown(async () => await provider.close())
  return provider
}

interface LoginOutput extends Output {
  report: Report
  page: Page
  baseUrl: string
}

/** Runs the doctor with a login, by the browser of the test kit. */
async function logIn (
  { issuer, clientSecret = SECRET }: { issuer: string, clientSecret?: string },
  { args = [], port, open = async (url: string, baseUrl: string) => await client({ baseUrl }).goto(url) }: {
    args?: string[]
    port?: number
    open?: (url: string, baseUrl: string) => Promise<Page>
  } = {}
): Promise<LoginOutput> {
  const ownPort = String(port ?? await freePort())
  const baseUrl = `http://127.0.0.1:${ownPort}`
  let opened: Promise<Page> | undefined
  const output = await diagnose([
    issuer, '--client-id', 'web', '--client-secret-env', 'WEB_SECRET', '--login', '--port', ownPort, ...args
  ], { WEB_SECRET: clientSecret }, (text) => {
    const url = /log in: (\S+)/.exec(text)?.[1]
    if (url !== undefined) opened = open(url, baseUrl)
  })
  return { ...output, page: await opened as Page, baseUrl }
}

t.test('a login shows the claims of each token, and what the provider does', { buffered: true }, async (t) => {
  const provider = await start(t, {
    accessTokenFormat: 'jwt', claimsInIdToken: false, users: [{ ...ALICE, groups: ['staff'] }]
  })
  const { status, page, report, stdout, stderr, baseUrl } = await logIn(provider)
  t.equal(page.status, 200)
  t.match(page.text(), 'The terminal shows the report.')
  t.equal(status, 0)
  t.match(report.login, {
    idToken: { iss: provider.issuer, sub: 'alice', aud: 'web', name: undefined },
    userinfo: { sub: 'alice', name: 'Alice' },
    accessToken: { sub: 'alice', client_id: 'web' },
    promptNone: { anonymous: 'login_required', loggedIn: 'logged the user in' },
    maxAge: 'asked the user again'
  })
  t.same(report.register.redirectUri, `${baseUrl}/auth/callback`)
  t.notOk('allowInsecureLoopback' in report.options, 'http is for development here, without an option')
  t.match(stderr, `Open this address in a browser, and log in: ${baseUrl}/doctor\n`)
  t.match(stderr, `The redirect URI ${baseUrl}/auth/callback must be registered.`)
  for (const secret of [SECRET, /eyJ/]) t.notMatch(stdout + stderr, secret)
  const authorizations = provider.requests.filter(({ endpoint }) => endpoint === 'authorize').map(({ query }) => query)
  t.same(authorizations.map(({ prompt, max_age: maxAge }) => [prompt, maxAge]), [
    ['none', undefined], [undefined, undefined], ['none', undefined], [undefined, '1']
  ])
})

t.test('the login at oidc-provider', { buffered: true }, async (t) => {
  const port = await freePort()
  const provider = await startOidcProvider({ autoLogin: 'alice', redirectUris: [`http://127.0.0.1:${port}/auth/callback`] })
  t.teardown(async () => await provider.close())
  const { status, report } = await logIn(provider, { port })
  t.equal(status, 0)
  t.match(report.login, {
    idToken: { sub: 'alice' },
    userinfo: { name: 'Alice Example', roles: ['admin'] },
    accessToken: null,
    roles: [{ source: 'id_token', path: 'roles', roles: ['admin'] }, { source: 'userinfo', path: 'roles' }],
    promptNone: { anonymous: 'login_required', loggedIn: 'logged the user in' }
  })
})

t.test('K15 roles in the access token only, as at Keycloak', { buffered: true }, async (t) => {
  const provider = await start(t, { accessTokenFormat: 'jwt' })
  provider.fault({
    on: 'token',
    accessToken: (claims) => {
      claims['realm_access'] = { roles: ['admin'] }
      claims['resource_access'] = { web: { roles: ['editor'] }, account: { roles: ['view-profile'] } }
    }
  })
  const { status, report } = await logIn(provider)
  t.equal(status, 0)
  t.same(report.login?.roles, [
    { source: 'access_token', path: 'realm_access.roles', roles: ['admin'] },
    { source: 'access_token', path: 'resource_access.{clientId}.roles', roles: ['editor'] }
  ])
  t.same(report.options['rolesFrom'], ['access_token'])
  t.notOk('roleClaims' in report.options)
  t.ok(report.snippet.includes("\n  rolesFrom: ['access_token']\n"))
  t.same(problemsOf(report), ['warning roles'])
})

t.test('tokens and secrets among the claims are not shown', { buffered: true }, async (t) => {
  const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl'
  const provider = await start(t, {
    users: [{ ...ALICE, note: `it is ${SECRET}`, _claim_names: { groups: 'src1' }, _claim_sources: { src1: { endpoint: 'https://x', access_token: 'opaque' } }, photo: jwt }]
  })
  provider.fault({ on: 'token', idToken: (claims) => Object.assign(claims, { ...provider.users[0] }) })
  const { stdout, report } = await logIn(provider)
  t.match(report.login?.idToken, {
    note: '[not shown]', photo: '[not shown]', _claim_sources: { src1: { endpoint: 'https://x', access_token: '[not shown]' } }
  })
  t.notMatch(stdout, jwt)
  t.notMatch(stdout, SECRET)
  t.ok(report.findings.some(({ code }) => code === 'claims_left_out'))
})

t.test('K14 a provider that ignores what it is asked', { buffered: true }, async (t) => {
  const provider = await start(t)
  // As of a user who logged in before, and never again.
  provider.fault({ on: 'token', idToken: (claims) => { claims['auth_time'] = Number(claims['iat']) - 25 } })
  const old = await logIn(provider)
  t.equal(old.status, 0)
  t.equal(old.report.login?.maxAge, 'ignored')
  t.same(problemsOf(old.report), ['warning max_age_ignored'])

  // As of a user who has to log in each time.
  provider.clearFaults()
  provider.fault({ on: 'token', idToken: (claims) => { claims['auth_time'] = Number(claims['iat']) + 20 } })
  const asking = await logIn(provider)
  t.match(asking.report.login, { promptNone: { loggedIn: 'asked the user' }, maxAge: 'asked the user again' })
  t.same(problemsOf(asking.report), ['warning prompt_none'])

  provider.clearFaults()
  provider.fault(
    { on: 'token', idToken: (claims) => { delete claims['auth_time'] } },
    {
      on: 'authorize',
      when: ({ query }) => query['prompt'] === 'none',
      authorizationResponse: (params) => {
        params.delete('code')
        params.set('error', 'interaction_required')
      }
    }
  )
  const without = await logIn(provider)
  t.equal(without.status, 0)
  t.match(without.report.login, {
    promptNone: { anonymous: 'interaction_required', loggedIn: /interaction_required/ }, maxAge: /^auth_time is missing/
  })
  t.same(problemsOf(without.report), ['warning max_age_failed'])
  t.match(without.report.findings.at(-1)?.nextStep, /set "authTime" to optional/)

  provider.clearFaults()
  provider.fault({ on: 'token', idToken: (claims) => { claims['auth_time'] = { at: 1 } }, when: ({ body }) => body['code'] !== undefined })
  t.match((await logIn(provider)).report.findings.at(-1), { code: 'login_failed' })
})

/** Nobody logs in. */
async function notOpened (): Promise<Page> {
  return undefined as unknown as Page
}

t.test('K14 what the provider answers to prompt=none without a login', { buffered: true }, async (t) => {
  const provider = await start(t)
  const cases: Array<[fault: Partial<Fault>, problems: string[]]> = [
    [{ status: 200, body: 'log in here' }, ['warning prompt_none']],
    [{ redirect: 'https://id.example.com/login' }, ['warning prompt_none']],
    [{ status: 400 }, ['warning authorization_refused']],
    [{ reset: true }, []],
    [{ authorizationResponse: (params) => { params.delete('state') } }, ['warning prompt_none']],
    [{ authorizationResponse: (params) => { params.delete('iss') } }, ['warning prompt_none']],
    [{ authorizationResponse: (params) => { params.delete('error') } }, ['warning prompt_none']]
  ]
  for (const [fault, problems] of cases) {
    provider.clearFaults()
    provider.fault({ on: 'authorize', ...fault })
    const { status, report } = await logIn(provider, { args: ['--wait', '1'], open: notOpened })
    t.equal(status, 1)
    t.same(problemsOf(report), [...problems, 'error login_timeout'], Object.keys(fault).join())
    t.equal(report.login, null)
  }
  provider.clearFaults()
  provider.options.metadata = { authorization_response_iss_parameter_supported: false }
  provider.fault({ on: 'authorize', authorizationResponse: (params) => { params.delete('iss') } })
  const { report } = await logIn(provider, { args: ['--wait', '1'], open: notOpened })
  t.same(problemsOf(report), ['error login_timeout'])
})

t.test('K12 a login that fails says why', { buffered: true }, async (t) => {
  const provider = await start(t)
  provider.fault(faults['invalid-iss'])
  const forged = await logIn(provider)
  t.equal(forged.status, 1)
  t.match(forged.report.findings.at(-1), {
    level: 'error', code: 'login_failed', message: /^FST_OIDC_ID_TOKEN: .*iss was/, nextStep: /docs\/errors\.md/
  })
  t.equal(forged.report.login, null)
  t.equal(forged.page.status, 200)

  // The provider goes away in the meantime.
  provider.clearFaults()
  const away = await logIn(provider, {
    async open (url, baseUrl) {
      provider.fault(faults['metadata-503'])
      return await client({ baseUrl }).goto(url)
    }
  })
  t.match(away.report.findings.at(-1), { code: 'login_failed', message: /^FST_OIDC_PROVIDER_UNAVAILABLE: .*status 503/ })

  provider.clearFaults()
  const lost = await logIn(provider, {
    args: ['--wait', '5'],
    open: async (_url, baseUrl) => await client({ baseUrl }).goto('/auth/callback?code=x&state=y')
  })
  t.equal(lost.page.status, 400)
  t.match(lost.report.findings.at(-1), { code: 'login_timeout', message: /the last error: FST_OIDC_STATE/ })
})

t.test('UserInfo and the access token are of no use where they are wrong', { buffered: true }, async (t) => {
  const provider = await start(t, { accessTokenFormat: 'jwt' })
  provider.fault(faults['userinfo-500'], { on: 'token', accessToken: (claims) => { claims['sub'] = 'bob' } })
  const wrong = await logIn(provider)
  t.equal(wrong.status, 0)
  t.match(wrong.report.login, { userinfo: null, accessToken: { sub: 'bob' } })
  t.ok(wrong.report.findings.some(({ code, message }) => code === 'access_token_not_used' && /not that of the ID token/.test(message)))
  t.same(problemsOf(wrong.report), ['warning userinfo_failed'])

  provider.clearFaults()
  provider.options.metadata = { userinfo_endpoint: undefined }
  provider.options.accessTokenFormat = 'opaque'
  const port = String(await freePort())
  let opened: Promise<Page> | undefined
  const { status, stdout } = await doctor([
    provider.issuer, '--client-id', 'web', '--client-secret-env', 'S', '--login', '--base-url', `http://localhost:${port}/app`
  ], { S: SECRET }, (text) => {
    const url = /log in: (\S+)/.exec(text)?.[1]
    if (url !== undefined) opened = client({ baseUrl: `http://localhost:${port}` }).goto(url)
  })
  t.equal((await opened)?.status, 200)
  t.equal(status, 0)
  t.match(stdout, /\nClaims of the ID token\n {2}/)
  t.match(stdout, /\n {2}sub +"alice"\n/)
  t.match(stdout, '\nClaims of UserInfo\n  none\n\nClaims of the access token\n  it is not a JWT\n')
  t.match(stdout, /\n {2}max_age +asked the user again\n/)
})

t.test('a login where the doctor cannot listen, or the options do not go together', { buffered: true }, async (t) => {
  const provider = await start(t)
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as AddressInfo
  const busy = await logIn(provider, { port })
  t.equal(busy.status, 1)
  t.match(busy.report.findings.at(-1), { code: 'login_not_served', message: /EADDRINUSE/, nextStep: /^Choose another port/ })

  provider.options.metadata = { response_modes_supported: ['form_post'] }
  const form = await logIn(provider)
  t.match(form.report.findings.at(-1), { code: 'login_not_served', message: /form_post needs an https/, nextStep: /^Give a --base-url with https/ })
  provider.options.metadata = {}

  // Another program may have port 80.
  const standard = await diagnose([provider.issuer, '--client-id', 'web', '--client-secret-env', 'S', '--login', '--wait', '1', '--base-url', 'http://127.0.0.1'], { S: SECRET })
  t.match(standard.report.findings.at(-1)?.code, /^login_(?:timeout|not_served)$/)
})

t.test('with https, a proxy passes the browser on to --port', { buffered: true }, async (t) => {
  const provider = await start(t)
  const { page, report } = await logIn(provider, {
    args: ['--base-url', 'https://app.example.com', '--wait', '5'],
    open: async (_url, baseUrl) => await client({ baseUrl }).step('/doctor')
  })
  t.equal(report.register.redirectUri, 'https://app.example.com/auth/callback')
  t.equal(new URL(page.location as string).searchParams.get('redirect_uri'), 'https://app.example.com/auth/callback')
})

t.test('a browser that goes away leaves the rest out, and one that stays too long changes nothing', { buffered: true }, async (t) => {
  const provider = await start(t)
  let visits = 0
  const gone = await logIn(provider, {
    args: ['--wait', '15'],
    open: async (url, baseUrl) => await client({ baseUrl }).goto(url, { until: ({ pathname }) => pathname === '/doctor' && ++visits === 1 })
  })
  t.equal(gone.status, 0)
  t.match(gone.report.login, { idToken: { sub: 'alice' }, promptNone: { loggedIn: 'not reached' }, maxAge: 'not reached' })

  visits = 0
  const late = await logIn(provider, {
    async open (url, baseUrl) {
      const browser = client({ baseUrl })
      await browser.goto(url, { until: ({ pathname }) => pathname === '/doctor' && ++visits === 3 })
      await browser.goto('/auth/callback?code=a&code=b')
      await browser.goto('/auth/login?return_to=/elsewhere')
      return await browser.goto(url)
    }
  })
  t.equal(late.page.status, 200)
  t.match(late.report.login, { promptNone: { loggedIn: 'logged the user in' }, maxAge: 'asked the user again' })
})
