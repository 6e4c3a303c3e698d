import t from 'tap'
import { options as glewlwyd } from '../../interop/glewlwyd/options.ts'
import { options as keycloak } from '../../interop/keycloak/options.ts'
import { options as lemonldapNg } from '../../interop/lemonldap-ng/options.ts'
import { options as oidcProvider } from '../../interop/oidc-provider/options.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { Test } from 'tap'
import type { Provider } from '../../lib/testing/index.ts'

const page = openPage('docs/providers.md')

async function start (t: Test) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice', email: 'alice@example.com' }] })
  t.teardown(async () => await provider.close())
  return provider
}

function clientOf ({ clients }: Provider) {
  return { clientId: 'web', clientSecret: clients[0]?.client_secret as string }
}

/** Puts the providers of a test, which have no certificates, in place of those of a block. */
function withProviders (issuers: Record<string, string> = {}): (code: string) => string {
  return (code) => Object.entries(issuers)
    .reduce((text, [issuer, test]) => text.replace(`'${issuer}'`, `'${test}'`), code)
    .replace('session: { key }', 'session: { key }, allowInsecureLoopback: true')
}

t.test('several providers', async (t) => {
  const [google, corp] = [await start(t), await start(t)]
  const app = await page.run(t, "'/intranet'", {
    context: { key: SESSION_KEY, clients: { google: clientOf(google), corp: clientOf(corp) } },
    change: withProviders({
      'https://accounts.google.com': google.issuer,
      'https://id.example.com/realms/corp': corp.issuer
    })
  })
  const browser = client({ app, baseUrl: BASE_URL })
  t.match((await browser.goto('/auth/login')).text(), /Google.*Employees/)
  await browser.goto('/auth/google/login')
  t.equal((await browser.fetch('/intranet')).status, 401)
  t.equal((await browser.goto('/intranet')).text(), 'Only employees see this.')
})

t.test('tenants', async (t) => {
  const acme = await start(t)
  const find = async (name: string) => name === 'acme' ? { issuer: acme.issuer, ...clientOf(acme) } : null
  const context = { key: SESSION_KEY, tenants: { find } }
  const app = await page.run(t, 'resolveProvider', { context, change: withProviders() })
  const browser = client({ app, baseUrl: BASE_URL })
  t.match((await browser.goto('/t/acme/home')).json(), { sub: 'alice', iss: acme.issuer })
  t.equal((await browser.goto('/t/other/home')).status, 404)
})

t.test('a member that the metadata lacks', async (t) => {
  const corp = await start(t)
  const app = await page.run(t, 'introspection_endpoint', {
    context: { key: SESSION_KEY, clients: { google: clientOf(corp), corp: clientOf(corp) } },
    change: withProviders({
      'https://id.example.com': corp.issuer,
      'https://id.example.com/oauth2/introspect': `${corp.issuer}/introspect`
    })
  })
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/auth/login')).status, 404, 'the login ends at the start page')
  t.equal(corp.count('token'), 1)
})

t.test('the settings are those that npm run interop runs', async (t) => {
  const rows = [...page.rowsOf('provider that was run')].map(([name, text]) => [name.toLowerCase(), text] as const)
  const run = { glewlwyd, keycloak, 'lemonldap-ng': lemonldapNg, 'oidc-provider': oidcProvider }
  for (const [name, options] of Object.entries(run)) {
    const row = rows.find(([heading]) => heading.replace('::', '-').startsWith(name))?.[1] ?? ''
    for (const [option, value] of Object.entries({ ...options, ...options.bearer })) {
      const isPlain = typeof value === 'boolean' || option === 'clientAuth' || option === 'basicEncoding'
      const text = isPlain ? `${option}: ${typeof value === 'boolean' ? value : `'${value}'`}` : option
      t.ok(row.includes(text), `${name}: ${text}`)
    }
  }
})

t.test('K15 roles in the access token', async (t) => {
  const corp = await start(t)
  corp.options.accessTokenFormat = 'jwt'
  let roles = ['admin']
  corp.fault({ on: 'token', accessToken: (claims) => ({ ...claims, realm_access: { roles } }) })
  const app = await page.run(t, "rolesFrom: ['access_token']", {
    context: { key: SESSION_KEY, clients: { google: clientOf(corp), corp: clientOf(corp) } },
    change: withProviders({ 'https://id.example.com/realms/corp': corp.issuer })
  })
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/admin')).text(), 'Only administrators see this.')
  roles = ['user']
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/admin')).status, 403)
})

t.test('K15 the organization of a role at Zitadel', async (t) => {
  const corp = await start(t)
  const app = await page.run(t, 'urn:zitadel:iam:org:project:roles', {
    context: { key: SESSION_KEY, clients: { google: clientOf(corp), corp: clientOf(corp) } },
    change: withProviders({ 'https://corp.zitadel.cloud': corp.issuer })
  })
  for (const [status, roles] of [
    [200, { admin: { '123456789012345678': 'corp.zitadel.cloud' } }],
    [403, { admin: { '223456789012345678': 'other.zitadel.cloud' } }],
    [403, { user: { '123456789012345678': 'corp.zitadel.cloud' } }],
    [403, undefined]
  ] as const) {
    corp.options.approve = () => ({ sub: 'alice', 'urn:zitadel:iam:org:project:roles': roles })
    t.equal((await client({ app, baseUrl: BASE_URL }).goto('/admin')).status, status)
  }
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
