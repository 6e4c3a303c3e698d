import { SpanKind, metrics, trace } from '@opentelemetry/api'
import {
  AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import t from 'tap'
import { createTelemetry } from '../lib/telemetry.ts'
import { client, startProvider } from '../lib/testing/index.ts'
import { absent } from '../lib/util/absent.ts'
import { BASE_URL, buildApp, optionsFor, registrationOf, startApp } from './support/app.ts'
import type { OidcOptions } from '../index.ts'

/** The real SDK with its in-memory exporters. */
function startSdk () {
  const spans = new InMemorySpanExporter()
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 30 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  return {
    tracerProvider,
    meterProvider,
    spans: () => spans.getFinishedSpans(),
    async counters () {
      await reader.forceFlush()
      const metrics = exporter.getMetrics().at(-1)?.scopeMetrics[0]?.metrics ?? []
      return Object.fromEntries(metrics.flatMap(({ descriptor: { name, unit }, dataPoints }) =>
        dataPoints.map(({ attributes, value }) => [[name, unit, JSON.stringify(attributes)].join(' '), value])
      ))
    }
  }
}

t.test('the token endpoint: a span, and a counter by grant', async (t) => {
  const sdk = startSdk()
  const telemetry = { tracer: sdk.tracerProvider.getTracer('test'), meter: sdk.meterProvider.getMeter('test') }
  const { app, provider } = await startApp(
    t,
    { telemetry, store: 'memory:', broker: { audience: 'https://api.example.com' } },
    { deviceInterval: 1 }
  )
  const grantType = 'urn:ietf:params:oauth:grant-type:device_code'
  const post = async (path: string, form: Record<string, string>) =>
    (
      await app.inject({
        method: 'POST',
        url: `/auth/${path}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        payload: new URLSearchParams(form).toString()
      })
    ).json()
  const { device_code: code } = await post('device', {})
  provider.approveDevice()
  t.match(await post('token', { grant_type: grantType, device_code: code }), { access_token: String })
  await post('token', { grant_type: 'refresh_token', refresh_token: 'forged' })
  await post('token', { grant_type: `made up ${'x'.repeat(100)}` })
  t.same(sdk.spans().map(({ name, attributes }) => [name, attributes]), [
    ['oidc.token_exchange', { 'oidc.provider': 'default' }],
    ['oidc.grant', { 'oidc.grant_type': grantType }],
    ['oidc.grant', { 'oidc.grant_type': 'refresh_token', 'error.type': 'FST_OIDC_GRANT' }]
  ])
  t.same(await sdk.counters(), {
    'oauth_token_exchange_requests_total {request} {"outcome":"success","oidc.provider":"default"}': 1,
    'oidc.logins {login} {"oidc.provider":"default"}': 1,
    [`oidc.grants {grant} {"oidc.grant_type":"${grantType}"}`]: 1,
    'oidc.grants {grant} {"oidc.grant_type":"refresh_token","error.type":"FST_OIDC_GRANT"}': 1,
    'oidc.refusals {refusal} {"error.type":"FST_OIDC_GRANT"}': 2
  })
})

t.test('a login, a refusal, a logout: spans and counters', async (t) => {
  const sdk = startSdk()
  const telemetry = { tracer: sdk.tracerProvider.getTracer('test'), meter: sdk.meterProvider.getMeter('test') }
  const { app, browser, provider } = await startApp(t, {
    telemetry,
    scope: 'openid profile email offline_access',
    onClaims: async (_claims, { userinfo }) => { await userinfo() }
  })
  const second = client({ app, baseUrl: BASE_URL })

  await browser.goto('/me')
  await app.inject('/me')
  await browser.post('/auth/logout')
  provider.fault({
    on: 'token',
    status: 400,
    body: JSON.stringify({ error: 'invalid_grant' }),
    headers: { 'content-type': 'application/json' },
    times: 1
  })
  t.equal((await second.goto('/me')).status, 400)

  const names = sdk
    .spans()
    .map(({ name, status, attributes }) => [name, status.message, attributes['error.type']].filter(Boolean).join(' '))
  t.same(names, [
    'oidc.login', 'oidc.token_exchange', 'oidc.userinfo', 'oidc.callback', 'oidc.logout',
    'oidc.login', 'oidc.token_exchange FST_OIDC_CODE FST_OIDC_CODE', 'oidc.callback FST_OIDC_CODE FST_OIDC_CODE'
  ])
  const spans = sdk.spans()
  t.ok(spans.every(({ attributes }) => attributes['oidc.provider'] === 'default'), 'each names the provider')
  t.same([...new Set(spans.filter(({ kind }) => kind === SpanKind.CLIENT).map(({ name }) => name))], [
    'oidc.token_exchange', 'oidc.userinfo'
  ])
  const exchange = 'oauth_token_exchange_requests_total {request} '
  t.same(await sdk.counters(), {
    [`${exchange}{"outcome":"success","oidc.provider":"default"}`]: 1,
    [`${exchange}{"outcome":"failure","oidc.provider":"default","error.type":"FST_OIDC_CODE"}`]: 1,
    'oidc.logins {login} {"oidc.provider":"default"}': 1,
    'oidc.refusals {refusal} {"error.type":"FST_OIDC_LOGIN_REQUIRED"}': 1,
    'oidc.refusals {refusal} {"error.type":"FST_OIDC_CODE"}': 1,
    'oidc.session.ended {session} {"oidc.session.end_reason":"logout","oidc.provider":"default"}': 1
  })
})

t.test('V38 the tenants of resolveProvider are in spans only: counters must have few attributes', async (t) => {
  const sdk = startSdk()
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { issuer, clientId, clientSecret, ...common } = optionsFor(provider)
  const app = await buildApp(t, {
    ...common,
    telemetry: { tracer: sdk.tracerProvider.getTracer('test'), meter: sdk.meterProvider.getMeter('test') },
    resolveProvider: (_request, name) => ({ name: name ?? 'acme', ...registrationOf(provider) })
  })
  const browser = client({ app, baseUrl: BASE_URL })
  for (const tenant of ['acme', 'other']) {
    t.equal((await browser.goto(`/auth/${tenant}/login?return_to=/me`)).status, 200, tenant)
  }
  t.same(sdk.spans().map(({ attributes }) => attributes['oidc.provider']), [
    'acme', 'acme', 'acme', 'other', 'other', 'other'
  ])
  t.same(await sdk.counters(), {
    'oauth_token_exchange_requests_total {request} {"outcome":"success"}': 2,
    'oidc.logins {login} {}': 2,
    'oidc.session.ended {session} {"oidc.session.end_reason":"login"}': 1
  })
})

t.test('V38 spans contain no personal data and no secret', async (t) => {
  const sdk = startSdk()
  const { browser, provider } = await startApp(t, { telemetry: { tracer: sdk.tracerProvider.getTracer('test') } })
  await browser.goto('/me?secret=in-the-address')
  await browser.post('/auth/logout')
  const written = JSON.stringify(
    sdk.spans().map(({ name, attributes, events, status }) => ({ name, attributes, events, status }))
  )
  for (const secret of ['alice', 'in-the-address', provider.issuer, 'code=', 'state=']) t.notMatch(written, secret)
  t.equal(sdk.spans().length, 4)
})

t.test('the plugin finds the global tracer and meter', async (t) => {
  const sdk = startSdk()
  trace.setGlobalTracerProvider(sdk.tracerProvider)
  metrics.setGlobalMeterProvider(sdk.meterProvider)
  t.teardown(() => { trace.disable(); metrics.disable() })
  const { browser } = await startApp(t)
  await browser.goto('/me')
  t.same(sdk.spans().map(({ name }) => name), ['oidc.login', 'oidc.token_exchange', 'oidc.callback'])
  t.same(await sdk.counters(), {
    'oauth_token_exchange_requests_total {request} {"outcome":"success","oidc.provider":"default"}': 1,
    'oidc.logins {login} {"oidc.provider":"default"}': 1
  })
})

t.test('telemetry: false measures nothing, and neither does a missing package; the login works', async (t) => {
  const sdk = startSdk()
  trace.setGlobalTracerProvider(sdk.tracerProvider)
  t.teardown(() => trace.disable())
  const { browser } = await startApp(t, {
    telemetry: false,
    onClaims: async (_claims, { userinfo }) => {
      await userinfo()
    }
  })
  t.equal((await browser.goto('/me')).status, 200)
  await browser.post('/auth/logout')
  t.equal((await browser.goto('/auth/callback?state=x')).status, 400)
  t.same(sdk.spans(), [])

  const without = await createTelemetry(
    { telemetry: undefined, resolveProvider: undefined },
    async () => await import('no-such-package' as string).catch(absent)
  )
  t.equal(await without.span('x', {}, async () => 7), 7)
  t.equal(await without.exchangeTokens('x', async () => 8), 8)
  t.equal(await without.grant('x', async () => 9), 9)
})

t.test('an unexpected error has its own code in telemetry', async (t) => {
  const sdk = startSdk()
  const settings = { telemetry: { tracer: sdk.tracerProvider.getTracer('test') }, resolveProvider: undefined }
  const telemetry = await createTelemetry(settings)
  await t.rejects(
    telemetry.span('work', {}, async () => {
      throw new Error('secret text')
    }),
    { message: 'secret text' }
  )
  t.match(sdk.spans()[0], {
    name: 'work',
    status: { message: 'FST_OIDC_UNEXPECTED' },
    attributes: { 'error.type': 'FST_OIDC_UNEXPECTED' },
    events: []
  })
})

t.test('V38 R37 no secret in any log line of a full cycle, at the level trace', async (t) => {
  const lines: string[] = []
  const options: Partial<OidcOptions> = {
    scope: 'openid profile email offline_access',
    clientSecret: 'web-secret-of-this-test-0123456789',
    onClaims: async (_claims, { userinfo, tokens }) => {
      secrets.push(...Object.values(tokens).filter((value) => typeof value === 'string' && value.length > 20))
      await userinfo()
    }
  }
  const secrets: string[] = ['web-secret-of-this-test-0123456789']
  const { app, browser, provider } = await startApp(
    t,
    options,
    { clients: [{ client_id: 'web', client_secret: 'web-secret-of-this-test-0123456789' }] },
    {
      logger: { level: 'trace', stream: { write: (line: string) => lines.push(line) } }
    }
  )
  const page = await browser.goto('/me')
  t.equal(page.status, 200)
  for (const hop of page.history) {
    const { searchParams } = new URL(hop.url)
    secrets.push(
      ...['code', 'state', 'nonce', 'code_challenge'].map((name) => searchParams.get(name) ?? '').filter(Boolean)
    )
  }
  secrets.push(...browser.cookies.list().map(({ value }) => value).filter((value) => value.length > 20))
  await browser.goto('/auth/userinfo')
  await browser.clone().goto(page.history.find(({ url }) => url.includes('code='))?.url as string)

  for (const fault of [
    {
      status: 400,
      body: '{"error":"invalid_grant","error_description":"leaky-description"}',
      headers: { 'content-type': 'application/json' }
    },
    { status: 500, body: 'leaky-body' },
    { body: '[1]' },
    { idToken: (claims: Record<string, unknown>) => ({ ...claims, nonce: 'wrong' }) }
  ]) {
    provider.fault({ on: 'token', times: 1, ...fault })
    const refused = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.ok(refused.status >= 400)
    secrets.push(new URL(refused.url).searchParams.get('code') as string)
  }
  await app.inject(
    `/auth/callback?state=x&error=access_denied&error_description=${encodeURIComponent('line\nbreak'.repeat(300))}`
  )
  await browser.post('/auth/logout')

  secrets.push(...provider.requests.map(({ body }) => body['code_verifier'] ?? '').filter(Boolean))
  const log = lines.join('')
  t.ok(secrets.length > 20)
  for (const secret of secrets) t.notOk(log.includes(secret), `the log holds ${secret.slice(0, 60)}`)
  for (const leak of ['leaky', 'alice@example.com']) t.notOk(log.includes(leak), leak)
  t.ok(lines.every((line) => line.length < 3000 && !line.slice(0, -1).includes('\n')))
  t.match(log, /"code":"FST_OIDC_CODE"/)
})
