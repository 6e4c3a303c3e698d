import t from 'tap'
import { logIn, startApp } from '../support/app.ts'
import { assertRefused, attempt, captureLog } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import type { OidcOptions } from '../../index.ts'
import type { Fault } from '../../lib/testing/index.ts'

t.setTimeout(120_000) // where other work shares the cores

const JSON_TYPE = { 'content-type': 'application/json' }
const answering = (status: number, body: unknown, headers: Record<string, string> = JSON_TYPE): Fault =>
  ({ on: 'token', status, headers, body: typeof body === 'string' ? body : JSON.stringify(body) })

interface Entry {
  level: number
  code?: string
  detail?: string
}

/** The log entry of the error, after a login with the fault. */
async function entryOf (fault: Fault, options: Partial<OidcOptions> = {}): Promise<Entry> {
  const closing: Array<() => unknown> = []
  const { server, lines } = captureLog()
  const { app, provider } = await startApp({ teardown: (handler) => closing.push(handler) }, options, {}, server)
  provider.fault(fault)
  await logIn({ app, provider }, 'alice').catch(String)
  for (const close of closing) await close()
  const entries = lines().trim().split('\n').map((line) => JSON.parse(line) as Entry)
  return entries.find(({ code }) => code?.startsWith('FST_OIDC_')) as Entry
}

t.test('K12 a wrong client secret is an error that names the options, however the provider says it', async (t) => {
  const cases: Array<[what: string, fault: Fault, said: RegExp]> = [
    ['RFC 6749', answering(400, { error: 'invalid_client' }), /400 application\/json: .* 400 invalid_client: /],
    ['with 401', answering(401, { error: 'invalid_client' }), /401 application\/json: .* 401 invalid_client: /],
    ['Keycloak', answering(401, { error: 'unauthorized_client' }), /answered 401 unauthorized_client: /],
    ['Glewlwyd', answering(403, { error: 'unauthorized_client' }), /answered 403 unauthorized_client: /],
    ['Glewlwyd without a body', answering(403, '', {}), /token endpoint: 403 text\/plain, without an error code: /],
    ['403 with an empty object', answering(403, {}), /token endpoint: 403 application\/json, without an error code: /],
    ['Auth0', answering(401, { error: 'access_denied' }), /answered 401 access_denied: /],
    ['Spring Boot', answering(401, { status: 401, error: 'Unauthorized' }), /answered 401 Unauthorized: /],
    ['401 without a body', answering(401, '', {}), /token endpoint: 401 text\/plain, without an error code: /],
    ['401 with text', answering(401, 'no', { 'content-type': 'text/plain' }), /token endpoint: 401 text\/plain, without an error code: /],
    ['200', answering(200, { error: 'incorrect_client_credentials' }), /400 incorrect_client_credentials: /],
    ['a code of its own', answering(400, { error: 'bad_client_secret' }), /400 bad_client_secret: /]
  ]
  for (const [what, fault, said] of cases) {
    const entry = await entryOf(fault)
    t.match(entry, { level: 50, code: 'FST_OIDC_CLIENT_AUTHENTICATION', detail: said }, what)
    t.match(entry.detail, /^token endpoint: .*check "clientId" and "clientSecret", and that client_secret_basic \("clientAuth"\)/, what)
  }
  t.match(
    (await entryOf(answering(401, { error: 'unauthorized_client' }), { clientAuth: 'client_secret_post' })).detail,
    /client_secret_post \("clientAuth"\) is the method/
  )
})

t.test('K12 what is not about the client stays what it is', async (t) => {
  const text = { 'content-type': 'text/plain' }
  const cases: Array<[what: string, fault: Fault, status: number, code: string]> = [
    ['a grant', answering(400, { error: 'invalid_grant' }), 400, 'FST_OIDC_CODE'],
    ['a grant with 401', answering(401, { error: 'invalid_grant' }), 400, 'FST_OIDC_CODE'],
    ['access_denied', answering(400, { error: 'access_denied' }), 400, 'FST_OIDC_CODE'],
    ['a scope with 401', answering(401, { error: 'invalid_scope' }), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['text with 403', answering(403, 'no', text), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['nothing with 400', answering(400, '', {}), 502, 'FST_OIDC_PROVIDER_RESPONSE'],
    ['404', answering(404, '', {}), 502, 'FST_OIDC_PROVIDER_RESPONSE']
  ]
  const provider = await startedProvider(t)
  for (const [what, fault, status, code] of cases) {
    await t.test(what, async (t) => await assertRefused(t, await attempt(t, provider, fault), status, code))
  }
})

t.test('K12 the log says what the token endpoint answered, and which option to change', async (t) => {
  const cases: Array<[what: string, fault: Fault, level: number, detail: RegExp]> = [
    [
      'a scope', answering(400, { error: 'invalid_scope' }), 50,
      /^token endpoint: 400 application\/json: .* 400 invalid_scope: "scope" has a scope that the provider does not grant/
    ],
    ['an API', answering(400, { error: 'invalid_target' }), 50, /400 invalid_target: "resource" or "audience"/],
    ['a grant type', answering(400, { error: 'unsupported_grant_type' }), 50, /unsupported_grant_type: switch on the grant/],
    ['the grant', answering(400, { error: 'unauthorized_client' }), 50, /switch on the grant authorization_code .* check "clientId"/],
    ['a page', answering(400, '<p>', { 'content-type': 'text/html' }), 50, /^token endpoint: 400 text\/html: a page/],
    ['no JSON', answering(200, 'x', { 'content-type': 'text/plain' }), 50, /^token endpoint: 200 text\/plain, not JSON/],
    ['a code', answering(400, { error: 'invalid_grant' }), 30, /^token endpoint: 400 application\/json: .* 400 invalid_grant$/],
    ['an error of several lines', answering(400, { error: 'a\r\nb\u202e' }), 50, /answered 400 a\?\?b\?$/]
  ]
  for (const [what, fault, level, detail] of cases) t.match(await entryOf(fault), { level, detail }, what)
})

t.test('K12 the level tells who can mend it', async (t) => {
  const refused = (error: string): Fault => ({
    on: 'authorize',
    authorizationResponse: (params) => {
      params.delete('code')
      params.set('error', error)
    }
  })
  const cases: Array<[error: string, level: number, detail: RegExp]> = [
    ['invalid_scope', 50, /^error invalid_scope: ; "scope" has a scope/],
    ['unauthorized_client', 50, /switch on the authorization code flow/],
    ['invalid_request', 50, /"authorizationParams"/],
    ['server_error', 40, /^error server_error: $/],
    ['access_denied', 30, /^error access_denied: $/],
    ['login_required', 30, /login_required/],
    ['toString', 30, /toString/]
  ]
  for (const [error, level, detail] of cases) {
    t.match(await entryOf(refused(error)), { level, code: 'FST_OIDC_PROVIDER_REFUSED', detail }, error)
  }
})

t.test('K12 a prefetch writes no line at the level error', async (t) => {
  const { server, lines } = captureLog()
  const { app } = await startApp(t, {}, {}, server)
  const headers = { accept: 'text/html', 'sec-purpose': 'prefetch' }
  for (const url of ['/me', '/auth/login', '/auth/callback?code=1&state=2']) {
    t.equal((await app.inject({ url, headers })).statusCode, 503, url)
  }
  const levels = lines().trim().split('\n').map((line) => (JSON.parse(line) as Entry).level)
  t.ok(levels.length > 3)
  t.same(levels.filter((level) => level > 40), [])
})
