import t from 'tap'
import { printReport } from '../../lib/doctor/print.ts'
import type { Report } from '../../lib/doctor/report.ts'

const REPORT: Report = {
  version: 1,
  issuer: 'https://id.example.com',
  usable: false,
  metadata: null,
  keys: null,
  client: null,
  login: null,
  findings: [],
  options: {},
  snippet: 'await app.register(oidc)\n',
  register: {
    redirectUri: 'https://app.example.com/auth/callback',
    postLogoutRedirectUri: 'https://app.example.com/auth/logged-out',
    backchannelLogoutUri: 'https://app.example.com/auth/backchannel-logout',
    frontchannelLogoutUri: 'https://app.example.com/auth/frontchannel-logout'
  }
}

/** The lines below a title. */
function sectionOf (text: string, title: string): string[] | undefined {
  return text.split('\n\n').map((section) => section.split('\n')).find(([first]) => first === title)?.slice(1)
}

t.test('a report without anything known has no empty sections', async (t) => {
  const text = printReport(REPORT)
  for (const title of ['Metadata', 'Keys', 'Findings', 'Roles']) t.equal(sectionOf(text, title), undefined, title)
  t.match(text, /^fastify-oidc doctor: https:\/\/id\.example\.com\n/)
  t.match(text, /\nNot usable: see the errors above\.$/)
})

t.test('what a provider does not say is shown as such', async (t) => {
  const text = printReport({
    ...REPORT,
    metadata: {
      url: 'https://id.example.com/.well-known/openid-configuration',
      endpoints: { token_endpoint: 'https://id.example.com/token', userinfo_endpoint: null },
      supports: { scopes_supported: ['openid', 'email'], claims_supported: [], iss: true, logout: false, acr: null }
    },
    keys: [{ kid: null, kty: 'RSA', alg: null, use: 'sig' }],
    client: {
      clientId: 'web',
      attempts: [
        { clientAuth: 'client_secret_basic', basicEncoding: 'raw', result: 'accepted', detail: 'invalid_grant' },
        { clientAuth: 'none', result: 'refused', detail: 'invalid_client' }
      ]
    }
  })
  t.same(sectionOf(text, 'Metadata'), [
    '  from https://id.example.com/.well-known/openid-configuration',
    '  token_endpoint     https://id.example.com/token',
    '  userinfo_endpoint  none',
    '  scopes_supported   openid email',
    '  claims_supported   none',
    '  iss                yes',
    '  logout             no',
    '  acr                not said'
  ])
  t.same(sectionOf(text, 'Keys'), ['  kid  kty  alg  use', '  -    RSA  -    sig'])
  t.same(sectionOf(text, 'Client web'), [
    '  client_secret_basic (raw)  accepted  invalid_grant',
    '  none                       refused   invalid_client'
  ])
})

t.test('a login without UserInfo, JWT and roles', async (t) => {
  const text = printReport({
    ...REPORT,
    login: {
      idToken: { sub: 'alice' },
      userinfo: null,
      accessToken: null,
      roles: [],
      promptNone: { anonymous: 'login_required', loggedIn: 'a login' },
      maxAge: 'asked again'
    }
  })
  t.same(sectionOf(text, 'Claims of the ID token'), ['  sub  "alice"'])
  t.same(sectionOf(text, 'Claims of UserInfo'), ['  none'])
  t.same(sectionOf(text, 'Claims of the access token'), ['  it is not a JWT'])
  t.equal(sectionOf(text, 'Roles'), undefined)
})

t.test('a login with all sources of claims', async (t) => {
  const text = printReport({
    ...REPORT,
    login: {
      idToken: { sub: 'alice' },
      userinfo: { sub: 'alice', name: 'Alice' },
      accessToken: { sub: 'alice', roles: ['admin', 'staff'] },
      roles: [{ source: 'access_token', path: 'roles', roles: ['admin', 'staff'] }],
      promptNone: { anonymous: 'login_required', loggedIn: 'a login' },
      maxAge: 'asked again'
    }
  })
  t.same(sectionOf(text, 'Claims of UserInfo'), ['  sub   "alice"', '  name  "Alice"'])
  t.same(sectionOf(text, 'Claims of the access token'), ['  sub    "alice"', '  roles  ["admin","staff"]'])
  t.same(sectionOf(text, 'Roles'), ['  access_token  roles  admin, staff'])
})
