import t from 'tap'
import { startProvider } from '../../lib/testing/index.ts'
import { startOidcProvider } from '../support/oidc-provider.ts'
import { diagnose, doctor, problemsOf } from '../support/doctor.ts'
import type { Fault, Provider, ProviderClient, ProviderOptions } from '../../lib/testing/index.ts'
import type { Test } from 'tap'

const SECRET = 'a secret: with+odd/characters'
const ENV = { WEB_SECRET: SECRET }

async function start (t: Test, web: Partial<ProviderClient> = {}, options: ProviderOptions = {}): Promise<Provider> {
  const provider = await startProvider({ clients: [{ client_id: 'web', client_secret: SECRET, ...web }], ...options })
  t.teardown(async () => await provider.close())
  return provider
}

function argsFor ({ issuer }: { issuer: string }, ...more: string[]): string[] {
  return [issuer, '--client-id', 'web', '--client-secret-env', 'WEB_SECRET', ...more]
}

t.test('a client that authenticates by the default method', async (t) => {
  const provider = await start(t)
  const { status, stdout, stderr, report } = await diagnose(argsFor(provider), ENV)
  t.equal(status, 0)
  t.same(problemsOf(report), [])
  t.match(report.client, {
    clientId: 'web',
    attempts: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt'].map((clientAuth) =>
      ({ clientAuth, result: 'accepted', detail: 'the provider refused the code, and not the client' }))
  })
  t.match(report.options, { clientId: 'web', clientAuth: undefined })
  t.ok(report.snippet.includes("\n  clientId: 'web',\n  clientSecret: process.env.WEB_SECRET ?? '',\n"))
  t.notMatch(stdout + stderr, SECRET)
  const requests = provider.requests.filter(({ endpoint }) => endpoint === 'token')
  t.equal(requests.length, 3, 'one request for each method, and none with another encoding')
  for (const { body } of requests) {
    t.match(body, { grant_type: 'authorization_code', redirect_uri: 'https://app.example.com/auth/callback' })
    t.match(body['code'], /^fastify-oidc-doctor-[0-9a-f]{32}$/)
  }
})

t.test('K9 another method, or another encoding, is what to set', async (t) => {
  const provider = await start(t, { token_endpoint_auth_method: 'client_secret_post' })
  const { status, report } = await diagnose(argsFor(provider), ENV)
  t.equal(status, 0)
  t.same(problemsOf(report), ['warning client_auth'])
  t.equal(report.options['clientAuth'], 'client_secret_post')
  t.same(report.client?.attempts.map(({ result }) => result), ['refused', 'accepted', 'refused'])
  t.match(await doctor(argsFor(provider), ENV), {
    stdout: /\nClient web\n {2}client_secret_basic +refused +token endpoint: 401 .*\n {2}client_secret_post +accepted/
  })

  // A server that never decodes.
  const secret = 'odd/secret!'
  const raw = await start(t, {}, { metadata: { token_endpoint_auth_methods_supported: ['client_secret_basic'] } })
  raw.fault({
    on: 'token',
    before ({ clients: [web] }, { headers }) {
      const sent = Buffer.from(String(headers['authorization']).slice(6), 'base64').toString()
      Object.assign(web ?? {}, { client_secret: sent === `web:${secret}` ? secret : 'another' })
    }
  })
  const encoded = await diagnose(argsFor(raw), { WEB_SECRET: secret })
  t.same(encoded.report.client?.attempts.map(({ basicEncoding, result }) => [basicEncoding, result]), [
    [undefined, 'refused'], ['raw', 'accepted']
  ])
  t.equal(encoded.report.options['basicEncoding'], 'raw')
  t.match((await doctor(argsFor(raw), { WEB_SECRET: secret })).stdout, /\n {2}client_secret_basic \(raw\) +accepted/)
})

t.test('K12 a wrong secret, in each shape in which providers say so', async (t) => {
  const provider = await start(t, { client_secret: 'another' })
  const shapes: Array<[fault: Partial<Fault>, message: RegExp]> = [
    [{}, /401 invalid_client: check "clientId" and "clientSecret"/],
    [{ status: 401, headers: { 'www-authenticate': 'Basic' }, body: '' }, /401/],
    [{ status: 401, body: '{"error":"unauthorized_client"}', headers: { 'content-type': 'application/json' } }, /unauthorized_client/],
    [{ status: 403, body: '{"error":"unauthorized_client"}', headers: { 'content-type': 'application/json' } }, /unauthorized_client/],
    [{ status: 400, body: '{"error":"invalid_client"}', headers: { 'content-type': 'application/json' } }, /400 invalid_client/],
    [{ status: 403, body: '' }, /403/]
  ]
  for (const [shape, message] of shapes) {
    provider.clearFaults()
    if (Object.keys(shape).length > 0) provider.fault({ on: 'token', ...shape })
    const { status, stdout, report } = await diagnose(argsFor(provider), ENV)
    t.equal(status, 1)
    t.same(problemsOf(report), ['error client_refused'], String(message))
    t.match(report.findings.find(({ code }) => code === 'client_refused'), {
      message, nextStep: /^Check the identifier and the secret of the client/
    })
    t.notMatch(stdout, SECRET)
  }
})

t.test('answers that tell nothing about the client', async (t) => {
  const provider = await start(t)
  const cases: Array<[fault: Partial<Fault>, problem: string, result: string]> = [
    [{ status: 400, body: '{"error":"invalid_request"}' }, 'warning client_unclear', 'unclear'],
    [{ status: 400, body: '{"error":"login_required"}' }, '', 'accepted'],
    [{ status: 503 }, 'error client_failed', 'failed'],
    [{ body: '{"access_token":"x","token_type":"bearer"}' }, 'error client_failed', 'failed']
  ]
  for (const [fault, problem, result] of cases) {
    provider.clearFaults()
    provider.fault({ on: 'token', headers: { 'content-type': 'application/json' }, ...fault })
    const { report } = await diagnose(argsFor(provider), ENV)
    t.same(problemsOf(report), [problem].filter(Boolean))
    t.equal(report.client?.attempts[0]?.result, result)
  }
})

t.test('K9 only methods that the provider offers get the secret', async (t) => {
  const provider = await start(t)
  const tried = async (methods: unknown): Promise<Array<string | undefined> | undefined> => {
    provider.options.metadata = { token_endpoint_auth_methods_supported: methods }
    provider.clearRequests()
    const { report } = await diagnose(argsFor(provider), ENV)
    t.equal(provider.count('token'), report.client?.attempts.length)
    return report.client?.attempts.map(({ clientAuth }) => clientAuth)
  }
  t.same(await tried(undefined), ['client_secret_basic'])
  t.same(await tried(['private_key_jwt', 'client_secret_jwt']), ['client_secret_jwt'])
  t.same(await tried(['private_key_jwt', 'none']), [])
  const { status, report } = await diagnose(argsFor(provider), ENV)
  t.equal(status, 1)
  t.match(report.findings.at(-1), { code: 'client_methods', nextStep: /^With private_key_jwt, set "clientKey"/ })
})

t.test('an identifier with a colon is never sent raw', async (t) => {
  const provider = await start(t, { client_id: 'urn:web', client_secret: 'another' })
  const args = [provider.issuer, '--client-id', 'urn:web', '--client-secret-env', 'WEB_SECRET']
  const { report } = await diagnose(args, ENV)
  t.ok(report.client?.attempts.every(({ basicEncoding }) => basicEncoding === undefined))
})

t.test('a public client has no secret', async (t) => {
  const provider = await startProvider({ clients: [{ client_id: 'spa' }, { client_id: 'web', client_secret: SECRET }] })
  t.teardown(async () => await provider.close())
  const spa = await diagnose([provider.issuer, '--client-id', 'spa'])
  t.equal(spa.status, 0)
  t.match(spa.report.client?.attempts, [{ clientAuth: 'none', result: 'accepted' }])
  t.notMatch(spa.report.snippet, 'clientSecret')
  const web = await diagnose([provider.issuer, '--client-id', 'web'])
  t.equal(web.status, 1)
  t.match(web.report.findings.at(-1), { code: 'client_refused', nextStep: /--client-secret-env$/ })
})

t.test('S51 a provider with another issuer gets no secret', async (t) => {
  const provider = await start(t, {}, { metadata: { issuer: 'https://another.example' } })
  const { status, report } = await diagnose(argsFor(provider), ENV)
  t.equal(status, 1)
  t.equal(report.client, null)
  t.equal(provider.count('token'), 0)
})

t.test('oidc-provider tells a right secret from a wrong one', async (t) => {
  const provider = await startOidcProvider({ redirectUris: ['https://app.example.com/auth/callback'] })
  t.teardown(async () => await provider.close())
  const right = await diagnose(argsFor(provider), { WEB_SECRET: provider.clientSecret })
  t.equal(right.status, 0)
  t.match(right.report.client?.attempts, [{ clientAuth: 'client_secret_basic', result: 'accepted' }])
  const wrong = await diagnose(argsFor(provider), ENV)
  t.equal(wrong.status, 1)
  t.same(problemsOf(wrong.report), ['error client_refused'])
})
