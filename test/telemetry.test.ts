import { readFileSync } from 'node:fs'
import { SpanKind, metrics, trace } from '@opentelemetry/api'
import {
  AggregationTemporality, DataPointType, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import t from 'tap'
import { MESSAGES } from '../lib/errors.ts'
import { sessionDigest } from '../lib/http/completed.ts'
import { measureStore } from '../lib/store/measured-store.ts'
import { createMemoryStore } from '../lib/store/memory.ts'
import { createTelemetry } from '../lib/telemetry.ts'
import { client, startClock, startProvider } from '../lib/testing/index.ts'
import { absent } from '../lib/util/absent.ts'
import { BASE_URL, SESSION_KEY, buildApp, optionsFor, registrationOf, startApp } from './support/app.ts'
import {
  DEVICE, EXCHANGE, REDIRECT_URI, clientsOf, exchange, followToNative, pkce, refresh, refusal,
  start as startBroker, startExchange
} from './support/broker.ts'
import { createGate } from './support/gate.ts'
import { openPage } from './support/pages.ts'
import { captureLog } from './support/protocol.ts'
import { until } from './support/until.ts'
import type { OidcOptions } from '../index.ts'
import type { Store } from '../types/store.ts'

/** The real SDK with its in-memory exporters. */
function startSdk () {
  const spans = new InMemorySpanExporter()
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 30 })
  const meterProvider = new MeterProvider({ readers: [reader] })
  const metrics = async () => {
    await reader.forceFlush()
    return exporter.getMetrics().at(-1)?.scopeMetrics[0]?.metrics ?? []
  }
  return {
    tracerProvider,
    meterProvider,
    /** The option `telemetry`. */
    telemetry: { tracer: tracerProvider.getTracer('test'), meter: meterProvider.getMeter('test') },
    spans: () => spans.getFinishedSpans(),
    metrics,
    async counters () {
      const counters = (await metrics()).filter(({ dataPointType }) => dataPointType === DataPointType.SUM)
      return Object.fromEntries(counters.flatMap(({ descriptor: { name, unit }, dataPoints }) =>
        dataPoints.map(({ attributes, value }) => [[name, unit, JSON.stringify(attributes)].join(' '), value])
      ))
    },
    /** Each time series of a metric: its attributes, and how often it was recorded, or its value. */
    async series (metric: string) {
      const found = (await metrics()).filter(({ descriptor: { name } }) => name === metric)
      return found.flatMap(({ dataPoints }) => dataPoints.map(({ attributes, value }) =>
        [attributes, typeof value === 'number' ? value : value.count] as const))
    }
  }
}

t.test('the token endpoint: a span, and a counter by grant', async (t) => {
  const sdk = startSdk()
  const { telemetry } = sdk
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
  const { telemetry } = sdk
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
  const requests = (await sdk.series('oidc.client.request.duration'))
    .map(([attributes, count]) => [...Object.values(attributes), count].join(' '))
  t.same(requests.filter((request) => !request.startsWith('revocation')), [ // which runs in the background
    'metadata default 1', 'token_endpoint default 1', 'jwks_uri default 1', 'userinfo_endpoint default 1',
    'token_endpoint default 400 1'
  ])
})

t.test('V38 the tenants of resolveProvider are in spans only: counters must have few attributes', async (t) => {
  const sdk = startSdk()
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const { issuer, clientId, clientSecret, ...common } = optionsFor(provider)
  const app = await buildApp(t, {
    ...common,
    telemetry: sdk.telemetry,
    resolveProvider: (_request, name) => ({ name: name ?? 'acme', ...registrationOf(provider) })
  })
  const browser = client({ app, baseUrl: BASE_URL })
  const clock = startClock()
  t.teardown(() => clock.restore())
  for (const tenant of ['acme', 'other']) {
    clock.advance(100)
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
  const requests = await sdk.series('oidc.client.request.duration')
  t.ok(requests.every(([attributes]) => Object.keys(attributes).join() === 'oidc.endpoint'))
  const ages = await sdk.series('oidc.key_set.age')
  t.same(ages.map(([attributes]) => attributes), [{}])
  t.ok((ages[0]?.[1] as number) >= 100, 'the oldest keys count')
  await app.close()
  clock.advance(100)
  t.same(await sdk.series('oidc.key_set.age'), ages, 'nothing is observed any more')
})

/** The names in a cell of a table. */
const namesIn = (cell = ''): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string)

/** The metrics of the documentation: the name, the unit, the attributes. */
function documentedMetrics (): Array<[name: string, unit: string, attributes: string[]]> {
  return [...openPage('docs/operations.md').rowsOf('metric')].map(([name, row]) => {
    const [unit, attributes] = row.split('|')
    return [namesIn(name)[0] as string, namesIn(unit)[0] as string, namesIn(attributes).sort()]
  })
}

t.test('each metric of the documentation is emitted with its unit and attributes, and no other one', async (t) => {
  const sdk = startSdk()
  const memory = createMemoryStore()
  let isDown = false
  const failing = async <T>(call: () => Promise<T>): Promise<T> => {
    if (isDown) throw new Error('the store is down')
    return await call()
  }
  const store: Store = {
    ...memory,
    get: async (key) => await failing(async () => await memory.get(key)),
    has: async (key) => await failing(async () => await memory.has(key))
  }
  const { app, provider, browser, token, byDevice } = await startBroker(t, {
    telemetry: sdk.telemetry,
    store,
    session: { key: SESSION_KEY, store: true }
  })
  const begun = await app.inject({ url: '/auth/login', headers: { accept: 'text/html' } })
  t.match([begun.statusCode, await sdk.series('oidc.key_set.age')], [302, []], 'no keys yet')
  t.equal((await browser.goto('/me')).status, 200)
  provider.fault({ on: 'token', status: 503, times: 1 })
  t.equal((await client({ app, baseUrl: BASE_URL }).goto('/me')).status, 503)
  t.match(await byDevice(), { access_token: String })
  t.equal((await token({ grant_type: 'refresh_token', refresh_token: 'forged' })).statusCode, 400)
  isDown = true
  t.equal((await browser.fetch('/me')).status, 503)
  isDown = false
  await browser.post('/auth/logout')
  const emitted = (await sdk.metrics()).map(({ descriptor: { name, unit }, dataPoints }) => {
    return [name, unit, [...new Set(dataPoints.flatMap(({ attributes }) => Object.keys(attributes)))].sort()]
  })
  t.same(emitted.sort(), documentedMetrics().sort())
  const buckets = (await sdk.metrics()).find(({ descriptor: { name } }) => name === 'oidc.client.request.duration')
  t.match(buckets?.dataPoints[0]?.value, { buckets: { boundaries: [0.005, 0.01] } }, 'in seconds')
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

t.test('the dashboard and the alerts name what the code emits', async (t) => {
  const metrics = new Map(documentedMetrics().flatMap(([name, unit, attributes]) => {
    const labels = attributes.map((attribute) => attribute.replaceAll('.', '_'))
    return prometheusNames(name, unit).map((text) => [text, labels] as const)
  }))
  const dashboard = JSON.parse(readFileSync('docs/grafana/dashboard.json', 'utf8')) as {
    panels: Array<{ targets: Array<{ expr: string }> }>
  }
  const alerts = readFileSync('docs/grafana/alerts.yml', 'utf8')
  const onDashboard = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  const inAlerts = [...alerts.matchAll(/expr: \|\n((?: {10,}.*\n)+)/g)].map(([, expr]) => expr as string)
  t.same([onDashboard.length, inAlerts.length], [13, alerts.split('- alert:').length - 1])
  for (const expr of [...onDashboard, ...inAlerts]) {
    const found = selectorsOf(expr)
    t.ok(found.length > 0, expr)
    for (const { metric, labels } of found) {
      const known = metrics.get(metric)
      t.ok(known, `${metric} is emitted`)
      t.same(labels.filter((label) => known?.includes(label) !== true), [], `the attributes of ${metric}`)
    }
    const grouped = [...expr.matchAll(/(?:by|on) \(([^)]*)\)/g)].flatMap(([, names]) => String(names).split(', '))
    const attributes = new Set(['le', ...found.flatMap(({ metric }) => metrics.get(metric) ?? [])])
    t.same(grouped.filter((label) => !attributes.has(label)), [], 'what it groups by')
  }
  const shown = new Set(onDashboard.flatMap((expr) => selectorsOf(expr).map(({ metric }) => metric)))
  t.same([...shown].sort(), [...metrics.keys()].sort(), 'all of them')
  const codes = new Set([...onDashboard, alerts].join().match(/FST_OIDC_\w+/g))
  t.same([...codes].filter((code) => !(code in MESSAGES)), [])
  const names = [...alerts.matchAll(/- alert: (\w+)/g)].map(([, name]) => `\`${name}\``)
  t.same([...openPage('docs/operations.md').rowsOf('alert').keys()], names)
})

/** The names at Prometheus, without `_seconds`, which not all exporters add. */
function prometheusNames (name: string, unit: string): string[] {
  const base = name.replaceAll('.', '_')
  if (unit !== 's') return [base.endsWith('_total') ? base : `${base}_total`]
  return base.endsWith('_duration') ? [`${base}_bucket`, `${base}_count`] : [base]
}

/** What an expression of PromQL selects: the metrics, and the labels that they must have. */
function selectorsOf (expr: string): Array<{ metric: string, labels: string[] }> {
  return [...expr.replaceAll('(_seconds)?', '').matchAll(/(\w+)?\{([^}]*)\}|(\w+_total)/g)]
    .map(([, before, matchers = '', bare]) => {
      const labels = [...matchers.matchAll(/(\w+)(?:=~|!=|=)"([^"]*)"/g)].map(([, label, value]) => [label, value])
      const named = labels.find(([label]) => label === '__name__')?.[1]
      return {
        metric: String(before ?? named ?? bare),
        labels: labels.map(([label]) => String(label)).filter((label) => label !== '__name__')
      }
    })
}

t.test('a call to the store that takes longer than the plugin waits is one failure', async (t) => {
  const sdk = startSdk()
  const { setTimeout: wait } = globalThis
  const sooner = (callback: () => void, delay: number, ...given: []): unknown => wait(callback, delay / 400, ...given)
  globalThis.setTimeout = sooner as typeof setTimeout
  t.teardown(() => { globalThis.setTimeout = wait })
  const { storeCall } = await createTelemetry({ telemetry: sdk.telemetry, resolveProvider: undefined })
  const gate = createGate()
  const call = storeCall?.('get', gate.pass)
  const series = async () => await sdk.series('oidc.store.operation.duration')
  const failure = { 'oidc.store.operation': 'get', 'error.type': 'FST_OIDC_STORE_UNAVAILABLE' }
  await until(async () => (await series()).length > 0)
  gate.open()
  await call
  t.same(await series(), [[failure, 1]])
})

t.test('a measured store is in everything else the store itself', async (t) => {
  const sdk = startSdk()
  const { storeCall } = await createTelemetry({ telemetry: sdk.telemetry, resolveProvider: undefined })
  class Own {
    readonly #entries = new Map([['key', 'value']])
    readonly name = 'own'
    get = async (key: string): Promise<string> => this.#entries.get(key) as string
    async purge (): Promise<number> { return this.#entries.size }
    async take (): Promise<string> { throw new Error(`${this.#entries.size} entry`) }
  }
  const own = new Own()
  t.equal(measureStore(own as unknown as Store, undefined), own)
  const measured = measureStore(own as unknown as Store, storeCall)
  t.equal((measured as unknown as Own).name, 'own')
  t.same([await measured.get('key'), await measured.purge()], ['value', 1])
  await t.rejects(measured.take('key'), { message: '1 entry' })
  t.same(await sdk.series('oidc.store.operation.duration'), [
    [{ 'oidc.store.operation': 'get' }, 1],
    [{ 'oidc.store.operation': 'take', 'error.type': 'FST_OIDC_STORE_UNAVAILABLE' }, 1]
  ])
})

t.test('an endpoint without a known name is _OTHER: a provider can publish any name', async (t) => {
  const sdk = startSdk()
  const { requestsTo } = await createTelemetry({ telemetry: sdk.telemetry, resolveProvider: undefined })
  for (const endpoint of ['made_up_endpoint', undefined, 'jwks_uri']) {
    await requestsTo?.()(endpoint, async () => new Response())
  }
  t.same(await sdk.series('oidc.client.request.duration'), [
    [{ 'oidc.endpoint': '_OTHER' }, 2], [{ 'oidc.endpoint': 'jwks_uri' }, 1]
  ])
})

t.test('nothing is measured without a meter of an SDK, or by one that only counts', async (t) => {
  let count = 0
  const meter = { createCounter: () => ({ add: () => { count += 1 } }) }
  for (const telemetry of [undefined, { meter }]) {
    const { storeCall, requestsTo, watchKeys } = await createTelemetry({ telemetry, resolveProvider: undefined })
    t.same([storeCall, requestsTo], [undefined, undefined])
    watchKeys({ providers: () => [], signing: () => undefined })()
  }
  const { browser } = await startApp(t, { telemetry: { meter } })
  t.equal((await browser.goto('/me')).status, 200)
  t.equal(count, 2, 'the token request and the login')
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

interface Entry {
  level: number
  act?: string
  session?: string
  [field: string]: unknown
}

/** Captures the log. `next` returns the new lines of the plugin, from the level info on. */
function captureActs () {
  const { lines, server } = captureLog()
  const OTHERS = /^(?:incoming request|register these redirect URIs)/
  let seen = 0
  const next = (): Entry[] => {
    const entries = lines().slice(seen).trim().split('\n').filter(Boolean).map((line) => JSON.parse(line) as Entry)
    seen = lines().length
    return entries
      .filter(({ level, msg, res }) => level >= 30 && res === undefined && !OTHERS.test(String(msg)))
      .map(({ time: _time, pid: _pid, hostname: _hostname, reqId: _reqId, level, ...entry }) => ({ level, ...entry }))
  }
  return { server, next, lines }
}

function line (act: string, facts: object): object {
  return { level: 30, act, provider: 'default', ...facts, msg: `${act} completed` }
}

for (const inStore of [false, true]) {
  t.test(`one line for each login, refresh and logout, sessions in ${inStore ? 'the store' : 'cookies'}`, async (t) => {
    const log = captureActs()
    const { app, provider, browser } = await startApp(t, {
      scope: 'openid profile email offline_access',
      session: { key: SESSION_KEY, sameSite: 'none', ...(inStore && { store: true }) },
      ...(inStore && { store: 'memory:' })
    }, {}, log.server)
    app.get('/token', async (request) => await app.oidc.accessToken(request, { refresh: true }))
    app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
    log.next()

    const enter = async (): Promise<{ digest: string, sid: string, id: string }> => {
      t.equal((await browser.goto('/me?private=query')).status, 200)
      const { session } = (await browser.fetch('/me')).json() as { session: { id: string, sid: string } }
      const digest = sessionDigest(session.id)
      t.same(log.next(), [line('login', { session: digest })])
      return { digest, ...session }
    }

    const first = await enter()
    t.match(first.digest, /^[\w-]{12}$/)
    const answers = await Promise.all([1, 2, 3].map(async () => await browser.fetch('/token')))
    t.same(answers.map(({ status }) => status), [200, 200, 200])
    t.same(log.next(), [line('refresh', { session: first.digest })], 'one for all requests that share it')

    t.equal((await app.inject('/me')).statusCode, 401)
    t.equal((await browser.fetch('/admin')).status, 403)
    const old = browser.cookies.header(BASE_URL)
    t.match(log.next(), [
      { level: 30, code: 'FST_OIDC_LOGIN_REQUIRED', session: undefined },
      { level: 30, code: 'FST_OIDC_FORBIDDEN', session: first.digest }
    ], 'a refusal of a session names it')
    await browser.post('/auth/logout?return_to=/')
    t.same(log.next(), [line('logout', { session: first.digest, reason: 'logout' })])
    t.equal((await app.inject({ url: '/me', headers: { cookie: old } })).statusCode, 401)
    t.match(log.next(), [{ code: 'FST_OIDC_LOGIN_REQUIRED', session: first.digest }], 'also one that has ended')
    await browser.post('/auth/logout')
    t.same(log.next(), [], 'no session has ended')

    const second = await enter()
    provider.fault({ ...refusal('invalid_grant'), times: 1 })
    t.equal((await browser.fetch('/token')).status, 401)
    t.match(log.next(), [
      { level: 30, code: 'FST_OIDC_LOGIN_REQUIRED', session: second.digest, msg: /could not be refreshed/ }
    ])

    const third = await enter()
    const query = new URLSearchParams({ iss: provider.issuer, sid: third.sid }).toString()
    await browser.step(`/auth/frontchannel-logout?${query}`, { from: provider.issuer, dest: 'iframe' })
    t.same(log.next(), [line('logout', { session: third.digest, reason: 'frontchannel' })])

    const fourth = await enter()
    await app.oidc.sessions.revoke({ id: fourth.id })
    t.match(log.next(), [{
      ...line('logout', { session: fourth.digest, reason: 'revoked', sessions: Number(inStore) }),
      provider: inStore ? 'default' : undefined
    }])

    const fifth = await enter()
    const known = inStore ? { session: fifth.digest, sessions: 1 } : { sessions: 0 }
    const { status } = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, { app, sid: fifth.sid })
    t.equal(status, 200)
    t.same(log.next(), [line('logout', { ...known, reason: 'backchannel' })])
    await app.oidc.sessions.revoke({ sub: 'alice' })
    t.match(log.next(), [{ act: 'logout', session: undefined, reason: 'revoked', sessions: 0 }])

    for (const secret of ['alice', 'return_to', 'code=', 'state=', first.id, fifth.sid]) {
      t.notOk(log.lines().includes(secret), secret)
    }
    t.same(log.lines().match(/auth\/[\w-]+\?/g), null, 'no query of the routes of the plugin')
  })
}

t.test('one line for each grant', async (t) => {
  const log = captureActs()
  const world = await startBroker(t, { broker: { refreshTokenTtl: 3600 } }, { deviceInterval: 1 }, log.server)
  const { browser, byDevice, token } = world
  log.next()
  const tokens = await byDevice()
  const [issued, ...others] = log.next()
  t.same([issued, others], [line('grant', { grantType: DEVICE, session: issued?.session }), []])
  t.match(issued?.session, /^[\w-]{12}$/)

  const renewed = (await refresh(world, tokens)).json() as typeof tokens
  const again = line('grant', { grantType: 'refresh_token', session: issued?.session })
  t.same(log.next(), [again])
  t.equal((await refresh(world, tokens)).statusCode, 200, 'the response may have been lost')
  t.same(log.next(), [again])
  const clock = startClock()
  t.teardown(() => clock.restore())
  clock.advance(300)
  t.equal((await refresh(world, renewed)).statusCode, 200)
  t.equal((await refresh(world, tokens)).statusCode, 400)
  t.match(log.next(), [
    again,
    { level: 40, session: issued?.session, msg: /a refresh token was used again/ },
    { level: 30, code: 'FST_OIDC_GRANT' }
  ])

  const { verifier, challenge } = pkce()
  const native = { client_id: 'cli', redirect_uri: REDIRECT_URI }
  const target = await followToNative(browser, {
    ...native, response_type: 'code', code_challenge: challenge, code_challenge_method: 'S256', state: 'state-of-native'
  })
  t.same(log.next(), [line('login', {})], 'a native application has no session')
  const code = target.searchParams.get('code') as string
  const answer = await token({ ...native, grant_type: 'authorization_code', code, code_verifier: verifier })
  t.equal(answer.statusCode, 200)
  const [redeemed] = log.next()
  t.match(redeemed, line('grant', { grantType: 'authorization_code', session: /^[\w-]{12}$/ }))
  t.not(redeemed?.session, issued?.session)
  const { access_token: accessToken } = answer.json() as typeof tokens
  for (const secret of ['alice', 'state-of-native', accessToken, tokens.refresh_token, verifier]) {
    t.notOk(log.lines().includes(secret), secret)
  }
})

t.test('one line for each token exchange, and for each grant that is passed on', async (t) => {
  const log = captureActs()
  const world = await startExchange(t, {}, log.server)
  log.next()
  t.equal((await exchange(world, world.subject())).statusCode, 200)
  t.match(log.next(), [line('grant', { grantType: EXCHANGE, session: /^[\w-]{12}$/ })])

  const passing = captureActs()
  const routes = { token: 'token', device: 'device' }
  const { app, provider } = await startApp(t, { routes }, { deviceInterval: 1 }, passing.server)
  passing.next()
  const { byDevice } = clientsOf(app, provider)
  t.match(await byDevice(), { access_token: String })
  t.same(passing.next(), [line('grant', { grantType: DEVICE })])
})
