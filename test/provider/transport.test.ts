import { createServer } from 'node:http'
import { connect } from 'node:net'
import { Readable } from 'node:stream'
import t from 'tap'
import { Agent, ProxyAgent } from 'undici'
import { createTransport } from '../../lib/provider/transport.ts'
import { startProvider } from '../../lib/testing/index.ts'
import { optionsFor } from '../support/app.ts'
import { anotherApp, assertLoggedIn, assertRefused, attempt, untilCallback } from '../support/protocol.ts'
import { limits, listen, testFaults } from '../support/transport-faults.ts'
import { startedClock } from '../support/started.ts'
import { until } from '../support/until.ts'
import type { Socket } from 'node:net'
import type { Test } from 'tap'
import type { Dispatcher, Fetch, OidcOptions } from '../../index.ts'
import type { Provider, ProviderOptions } from '../../lib/testing/index.ts'

async function startedProvider (t: Test, options: ProviderOptions = {}): Promise<Provider> {
  const provider = await startProvider(options)
  t.teardown(async () => await provider.close())
  return provider
}

// Every call uses the transport

/** The calls of the application that reached the provider. */
function received ({ requests }: Provider): string[] {
  return requests
    .filter(({ headers }) => !String(headers['user-agent']).includes('test browser'))
    .map(({ method, path }) => `${method} ${path}`)
}

/** A login with UserInfo, a refresh, UserInfo again and a logout with a revocation. */
async function everything (t: Test, provider: Provider, options: Partial<OidcOptions>): Promise<void> {
  const { app, browser } = await anotherApp(t, provider, { offlineAccess: true, userinfo: true, ...options })
  app.get('/token', async (request) => ({ length: (await app.oidc.accessToken(request)).length }))
  provider.clearRequests()
  await browser.goto('/auth/login')
  await assertLoggedIn(t, browser)
  t.equal((await browser.fetch('/token')).status, 200)
  t.equal((await browser.fetch('/auth/userinfo')).status, 200)
  await browser.post('/auth/logout')
  await until(() => provider.count('revocation') === 1)
}

const CALLS = [
  'GET /.well-known/openid-configuration', 'POST /token', 'GET /jwks', 'GET /userinfo', 'POST /token',
  'GET /userinfo', 'POST /revoke'
]

t.test('S81 every call to the provider goes through the fetch of the options', async (t) => {
  // Tokens that are about to expire are refreshed at once
  const provider = await startedProvider(t, { accessTokenTtl: 20 })
  const calls: Array<{ url: string, init: RequestInit & { dispatcher?: unknown } }> = []
  const counting: Fetch = async (url, init) => {
    calls.push({ url, init })
    return await fetch(url, init)
  }
  await everything(t, provider, { fetch: counting })
  const made = calls.map(({ url, init }) => `${init.method ?? 'GET'} ${new URL(url).pathname}`)
  t.same(made, received(provider), 'there is no other way to the provider')
  t.same(new Set(made), new Set(CALLS))
  for (const { url, init } of calls) {
    t.equal(init.redirect, 'manual', url)
    t.type(init.signal, AbortSignal, url)
    t.notOk('dispatcher' in init, url)
    t.equal(new URL(url).search, '', 'S21 nothing confidential is in the address')
  }
})

t.test('S81 every call to the provider goes through the dispatcher of the options', async (t) => {
  const provider = await startedProvider(t, { accessTokenTtl: 20 })
  const agent = new Agent()
  t.teardown(async () => await agent.close())
  const calls: string[] = []
  const dispatcher: Dispatcher = {
    dispatch: (...[options, handler]: [Agent.DispatchOptions, never]) => {
      calls.push(`${options.method} ${options.path}`)
      return agent.dispatch(options, handler)
    }
  }
  await everything(t, provider, { dispatcher })
  t.same(calls, received(provider))
  t.same(new Set(calls), new Set(CALLS))
})

t.test('S81 a proxy', async (t) => {
  const provider = await startedProvider(t)
  const tunnels: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer()
  server.on('connect', (request, socket: Socket) => {
    tunnels.push(request.url as string)
    const [host, port] = (request.url as string).split(':')
    const upstream = connect(Number(port), host as string, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      upstream.pipe(socket).pipe(upstream)
    })
    for (const end of [socket, upstream]) {
      sockets.add(end)
      end.on('error', () => {})
    }
  })
  const proxy = new ProxyAgent({ uri: await listen(t, server), proxyTunnel: true })
  t.teardown(async () => {
    await proxy.close()
    for (const socket of sockets) socket.destroy()
  })
  const { browser } = await attempt(t, provider, [], { dispatcher: proxy })
  await assertLoggedIn(t, browser)
  t.ok(tunnels.length > 0)
  t.same([...new Set(tunnels)], [new URL(provider.issuer).host])
})

testFaults({})

// The transport by itself

t.test('S81 the limit is exact, and a response within it arrives whole', async (t) => {
  for (const [size, fits] of [
    [0, true],
    [1, true],
    [1023, true],
    [1024, true],
    [1025, false],
    [4096, false]
  ] as const) {
    for (const parts of [1, 3]) {
      const body = 'ä'.repeat(size).slice(0, size).replaceAll('ä', 'a')
      const stream = new Blob(
        Array.from({ length: parts }, (_, index) =>
          body.slice(Math.floor((index * size) / parts), Math.floor(((index + 1) * size) / parts))
        )
      ).stream()
      const transport = createTransport({
        ...limits,
        fetch: async () => new Response(stream, { status: 201, headers: { 'content-type': 'text/x' } })
      })
      const call = transport('https://op.example/', {})
      if (!fits) {
        await t.rejects(call, { code: 'FST_OIDC_PROVIDER_RESPONSE' }, `${size} bytes`)
        continue
      }
      const response = await call
      t.same(
        [response.status, response.headers.get('content-type'), await response.text()],
        [201, 'text/x', body],
        `${size} bytes`
      )
    }
  }
})

t.test('S81 a fetch whose body is a stream of Node.js', async (t) => {
  const answer = { status: 200, headers: new Headers(), body: Readable.from([Buffer.from('a'), Buffer.from('bc')]) }
  const response = await createTransport({ ...limits, fetch: async () => answer as unknown as Response })(
    'https://op.example/',
    {}
  )
  t.equal(await response.text(), 'abc')
})

t.test('S81 every status is returned, except redirects, 429 and 5xx', async (t) => {
  for (const status of [200, 201, 204, 400, 401, 403, 404, 410, 418, 300, 301, 304, 307, 399, 429, 500, 502, 599]) {
    let cancelled = false
    const body = status === 204 || status === 304 ? null : new ReadableStream({ cancel: () => { cancelled = true } })
    const fetching: Fetch = async () => status < 300 || (status >= 400 && status !== 429 && status < 500)
      ? new Response(status === 204 ? null : 'x', { status })
      : new Response(body, { status })
    const call = createTransport({ ...limits, fetch: fetching })('https://op.example/path?secret', {})
    if (status >= 300 && status < 400) {
      await t.rejects(
        call,
        { code: 'FST_OIDC_PROVIDER_RESPONSE', detail: 'https://op.example: redirects are not followed' },
        String(status)
      )
    } else if (status === 429 || status >= 500) {
      await t.rejects(
        call,
        { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', detail: `https://op.example: status ${status}`, retryAfter: 5 },
        String(status)
      )
    } else t.equal((await call).status, status)
    if (body !== null && (status >= 500 || status === 429 || (status >= 300 && status < 400))) {
      t.ok(cancelled, `${status}: its body is not read`)
    }
  }
})

t.test('S81 an opaque redirect is refused as well', async (t) => {
  const hidden = Object.defineProperty(new Response(null), 'type', { value: 'opaqueredirect' })
  await t.rejects(createTransport({ ...limits, fetch: async () => hidden })('https://op.example/', {}), {
    code: 'FST_OIDC_PROVIDER_RESPONSE'
  })
})

t.test('S81 a body that cannot be cancelled does no harm', async (t) => {
  const stubborn = new Response(
    new ReadableStream({
      cancel: async () => {
        throw new Error('no')
      }
    }),
    { status: 500 }
  )
  await t.rejects(createTransport({ ...limits, fetch: async () => stubborn })('https://op.example/', {}), {
    code: 'FST_OIDC_PROVIDER_UNAVAILABLE'
  })
})

t.test('R2 R31 a fetch that ignores the signal does not keep other logins waiting', async (t) => {
  const never = new Promise<never>(() => {})
  const endless = async (): Promise<Response> => new Response(new ReadableStream({ pull: async () => await never }))
  const provider = await startedProvider(t)
  for (const broken of [async () => await never, endless]) {
    const transport = createTransport({ ...limits, timeout: 0.1, fetch: broken })
    await t.rejects(transport('https://op.example/', {}), {
      code: 'FST_OIDC_PROVIDER_UNAVAILABLE',
      detail: 'https://op.example: timeout after 0.1 s'
    })

    let isBroken = true
    const clock = startedClock(t)
    const fetching: Fetch = async (url, init) => await (isBroken ? broken() : fetch(url, init))
    const { browser } = await anotherApp(t, provider, { timeout: 2, fetch: fetching })
    t.equal((await browser.goto('/auth/login')).status, 503)
    isBroken = false
    clock.advance(2)
    t.equal((await browser.goto('/auth/login')).status, 200, 'the next login does not wait for it')
  }
})

t.test('S80 every error of a fetch becomes one OidcError, whose text is safe', async (t) => {
  for (const thrown of [
    new TypeError('fetch failed: 10.0.0.1'),
    'text',
    undefined,
    new DOMException('x', 'TimeoutError')
  ]) {
    const call = createTransport({
      ...limits,
      fetch: async () => {
        throw thrown
      }
    })('https://op.example/path?secret', {})
    await t.rejects(call, {
      name: 'OidcError',
      code: 'FST_OIDC_PROVIDER_UNAVAILABLE',
      detail: 'https://op.example: no answer',
      message: 'The identity provider does not answer at the moment.'
    })
    await call.catch((error: Error) => t.equal(error.cause, thrown, 'the original is its cause'))
  }
  const provider = await startedProvider(t)
  const tried = await attempt(t, provider, [], { fetch: async () => { throw new TypeError('fetch failed: 10.0.0.1') } })
  await assertRefused(t, tried, 503, 'FST_OIDC_PROVIDER_UNAVAILABLE')
  t.notMatch(tried.page.text(), '10.0.0.1')
})

t.test('S81 method, headers and body are passed on; redirect and signal are not', async (t) => {
  const agent = new Agent()
  t.teardown(async () => await agent.close())
  const seen: Array<[string, RequestInit & { dispatcher?: unknown }]> = []
  const fetching: Fetch = async (url, init) => { seen.push([url, init]); return new Response('x') }
  const signal = AbortSignal.abort()
  for (const dispatcher of [undefined, agent as unknown as Dispatcher]) {
    await createTransport({ ...limits, fetch: fetching, dispatcher })('https://op.example/', {
      method: 'POST',
      body: 'b',
      headers: { a: 'b' },
      redirect: 'follow',
      signal
    })
  }
  t.match(seen, [
    ['https://op.example/', { method: 'POST', body: 'b', headers: { a: 'b' }, redirect: 'manual' }],
    ['https://op.example/', { redirect: 'manual', dispatcher: agent }]
  ])
  t.ok(seen.every(([, init]) => init.signal !== signal && init.signal?.aborted === false))
})

t.test('S81 without the option fetch, each call uses the global fetch of that moment', async (t) => {
  const provider = await startedProvider(t)
  const { browser } = await anotherApp(t, provider)
  const { fetch: original } = globalThis
  t.teardown(() => { globalThis.fetch = original })
  let calls = 0
  globalThis.fetch = async (...args) => { calls++; return await original(...args) }
  await browser.goto('/auth/login')
  t.equal(calls, 3)
  t.equal(provider.count('metadata') + provider.count('token') + provider.count('jwks'), 3)
  t.ok(optionsFor(provider).issuer)
  await untilCallback(browser)
})
