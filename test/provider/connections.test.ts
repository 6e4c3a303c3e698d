import { once } from 'node:events'
import http, { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import t from 'tap'
import { Agent, EnvHttpProxyAgent, MockAgent, getGlobalDispatcher, setGlobalDispatcher } from 'undici'
import { createConnections } from '../../lib/provider/connections.ts'
import { fetchOfNode, isFetchChanged } from '../../lib/provider/global-fetch.ts'
import { createTransport } from '../../lib/provider/transport.ts'
import { client, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { anotherApp, assertLoggedIn, captureLog } from '../support/protocol.ts'
import { startedClock, startedProvider } from '../support/started.ts'
import { limits, listen, rawServer } from '../support/transport-faults.ts'
import { until } from '../support/until.ts'
import type { IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { Test } from 'tap'
import type { Dispatcher, OidcOptions } from '../../index.ts'

t.setTimeout(300_000) // where other work shares the cores

const json = { 'content-type': 'application/json' }
const patient = { ...limits, timeout: 60 }

t.test('R2 a connection is used again, and closed when the application closes', async (t) => {
  const { url, sockets } = await rawServer(t, (_request, response) => { response.end('x') })
  const connections = createConnections()
  const transport = createTransport(patient, connections)
  for (const method of ['GET', 'POST', 'GET']) await transport(url, { method, body: method === 'POST' ? 'a=b' : null })
  t.equal(sockets.size, 1)
  connections.close()
  await until(() => [...sockets].every(({ destroyed }) => destroyed))

  t.equal((await transport(url, {})).status, 200, 'what must still be said is said')
  await until(() => [...sockets].every(({ destroyed }) => destroyed))
  t.equal(sockets.size, 2, 'on a connection that is not kept')
})

t.test('R34 app.close() closes the connections to the provider', async (t) => {
  const provider = await startedProvider(t)
  const { app, browser } = await anotherApp(t, provider, { timeout: 60 })
  await browser.goto('/auth/login')
  const idle = (): number => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  t.ok(idle() > 0, 'they are open')
  await app.close()
  await until(() => idle() === 0)
})

t.test('R2 a connection that the provider closed is not used, and a POST is sent once', async (t) => {
  const seen: string[] = []
  const { url, server, sockets } = await rawServer(t, (request, response) => {
    seen.push(request.method as string)
    response.end('x')
  })
  const transport = createTransport(patient)
  await transport(url, {})
  for (const method of ['POST', 'GET']) {
    server.closeIdleConnections() // this side has not read it yet
    t.equal((await transport(url, { method })).status, 200, method)
  }
  t.same(seen, ['GET', 'POST', 'GET'])
  t.equal(sockets.size, 3)
})

t.test('R2 a connection that was idle for too long is not used, also when no timer says so', async (t) => {
  const { url, sockets } = await rawServer(t, (_request, response) => { response.end('x') })
  const transport = createTransport(patient)
  const clock = startedClock(t)
  await transport(url, {})
  clock.advance(10)
  await transport(url, { method: 'POST' })
  t.equal(sockets.size, 2)
})

t.test('R2 R3 a request whose connection breaks is not sent again', async (t) => {
  const seen: string[] = []
  const { url } = await rawServer(t, (request, response) => {
    seen.push(request.method as string)
    if (seen.length === 1) response.end('x')
    else request.socket.destroy()
  })
  const transport = createTransport(patient)
  await transport(url, {})
  await t.rejects(transport(url, { method: 'POST', body: 'code=1' }), {
    code: 'FST_OIDC_PROVIDER_UNAVAILABLE',
    detail: `${url}: ECONNRESET`
  })
  t.same(seen, ['GET', 'POST'], 'the provider may have used the code')
})

t.test('R2 R31 an answer that changes the protocol is none, and the next login works', async (t) => {
  const provider = await startedProvider(t)
  const metadata = await (await fetch(`${provider.issuer}/.well-known/openid-configuration`)).text()
  let isBroken = true
  const { url } = await rawServer(t, (_request, response) => {
    if (!isBroken) response.writeHead(200, json).end(metadata)
    else response.socket?.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')
  })
  const clock = startedClock(t)
  const { lines, server } = captureLog()
  const app = await buildApp(t, optionsFor(provider, {
    issuer: provider.issuer,
    discoveryUrl: `${url}/.well-known/openid-configuration`,
    timeout: 60
  }), server)
  const browser = client({ app, baseUrl: BASE_URL })
  t.equal((await browser.goto('/auth/login')).status, 503)
  t.match(lines(), `metadata ${url}: no answer`)
  isBroken = false
  clock.advance(2)
  t.equal((await browser.goto('/auth/login')).status, 200)
})

t.test('S81 a request arrives as fetch sends it', async (t) => {
  const requests: IncomingMessage[] = []
  const bodies: string[] = []
  const { url } = await rawServer(t, (request, response) => {
    requests.push(request)
    request.setEncoding('utf8').on('data', (text: string) => bodies.push(text))
    const headers = ['x-a', '1', 'x-a', '2', 'set-cookie', 'a', 'set-cookie', 'b']
    request.on('end', () => response.writeHead(200, headers).end('x'))
  })
  const agent = new Agent()
  t.teardown(async () => await agent.close())
  for (const dispatcher of [undefined, agent]) {
    const transport = createTransport({ ...patient, dispatcher: dispatcher as unknown as Dispatcher | undefined })
    const response = await transport(`${url}/a/b?c=d`, {
      method: 'POST',
      headers: new Headers({ Authorization: 'Basic x', accept: 'application/json' }),
      body: new URLSearchParams({ code: 'ä b' })
    })
    t.same(['x-a', 'set-cookie', 'x-b'].map((name) => response.headers.get(name)), ['1, 2', 'a, b', null])
    await transport(url, { headers: { 'user-agent': 'own' } })
  }
  t.same(bodies, ['code=%C3%A4+b', 'code=%C3%A4+b'])
  for (const { method, url, headers } of [requests[0], requests[2]] as IncomingMessage[]) {
    t.same([method, url], ['POST', '/a/b?c=d'])
    t.match(headers, {
      authorization: 'Basic x',
      accept: 'application/json',
      'accept-encoding': 'gzip, deflate, br',
      'user-agent': 'fastify-oidc',
      'content-length': '13'
    })
  }
  t.match([requests[1]?.method, requests[1]?.headers], ['GET', { 'user-agent': 'own' }])
})

t.test('S81 R4 a compressed body', async (t) => {
  const text = JSON.stringify({ text: 'x'.repeat(900) })
  const bomb = Buffer.alloc(2 ** 20)
  const encodings: Array<[encoding: string, body: Buffer, result: string | number]> = [
    ['gzip', gzipSync(text), text],
    ['X-GZIP', gzipSync(text), text],
    ['deflate', deflateSync(text), text],
    ['deflate', deflateRawSync(text), text],
    ['br', brotliCompressSync(text), text],
    ['br, gzip', gzipSync(brotliCompressSync(text)), text],
    ['gzip', Buffer.alloc(0), ''],
    ['identity', Buffer.from(text), text],
    ['utf-8', Buffer.from(text), text],
    ['gzip, gzip, gzip, gzip', Buffer.from(text), text],
    ['gzip', gzipSync(text).subarray(0, -8), text],
    ['gzip', gzipSync(bomb), 502],
    ['deflate', deflateSync(bomb), 502],
    ['br', brotliCompressSync(bomb), 502],
    ['gzip, gzip', gzipSync(gzipSync(bomb)), 502],
    ['gzip', Buffer.from('no gzip'), 503],
    ['br', Buffer.from('no brotli'), 503]
  ]
  const agent = new Agent()
  t.teardown(async () => await agent.close())
  for (const [encoding, body, result] of encodings) {
    const { url } = await rawServer(t, (_request, response) => {
      response.writeHead(200, { ...json, 'content-encoding': encoding }).end(body)
    })
    for (const dispatcher of [undefined, agent]) {
      const transport = createTransport({ ...patient, dispatcher: dispatcher as unknown as Dispatcher | undefined })
      const call = transport(url, {}).then(async (response) => await response.text(), (error) => error.statusCode)
      t.equal(await call, result, `${encoding}, ${body.length} bytes`)
    }
  }
})

t.test('S81 the second connection resumes the TLS session of the first', async (t) => {
  const certificate = testCertificate()
  const resumed: boolean[] = []
  const server = createTlsServer(certificate, ({ socket }, response) => {
    resumed.push((socket as TLSSocket).isSessionReused())
    response.writeHead(200, { connection: 'close' }).end('x')
  })
  const url = (await listen(t, server)).replace('http:', 'https:')
  const connections = createConnections()
  for (let calls = 0; calls < 2; calls++) {
    const message = await connections.request(url, { ca: certificate.cert } as object, undefined)
    message.resume()
    await once(message, 'end')
  }
  t.same(resumed, [false, true])
})

// The global fetch

function withGlobal (t: Test, name: string | symbol, value: unknown): void {
  const original = (globalThis as Record<string | symbol, unknown>)[name]
  t.teardown(() => { (globalThis as Record<string | symbol, unknown>)[name] = original })
  Object.assign(globalThis, { [name]: value })
}

t.test('S81 a global fetch of the application is used, and the log says so at the start', async (t) => {
  const provider = await startedProvider(t)
  const before = captureLog()
  await buildApp(t, optionsFor(provider), before.server)
  t.notMatch(before.lines(), 'global fetch')
  const calls: string[] = []
  const { fetch: original } = globalThis
  withGlobal(t, 'fetch', async (...[url, init]: Parameters<typeof fetch>) => {
    calls.push(String(url))
    return await original(url, init)
  })
  const agent = new Agent()
  t.teardown(async () => await agent.close())
  const cases: Array<[options: Partial<OidcOptions>, isUsed: boolean]> = [
    [{}, true],
    [{ dispatcher: agent as unknown as Dispatcher }, true],
    [{ fetch: original }, false]
  ]
  for (const [options, isUsed] of cases) {
    const after = captureLog()
    const app = await buildApp(t, optionsFor(provider, { ...options, timeout: 60 }), after.server)
    t.equal(after.lines().includes('calls to the provider go through the global fetch'), isUsed)
    calls.length = 0
    t.equal((await app.inject('/auth/login')).statusCode, 302)
    t.equal(calls.length, isUsed ? 1 : 0)
  }
})

t.test('S81 Bun, Deno and tools that were loaded first keep their fetch', async (t) => {
  // The plugin looks at `fetch` when it is loaded.
  const isChangedWhenLoaded = (): boolean => isFetchChanged(undefined, fetchOfNode())
  t.equal(isChangedWhenLoaded(), false)
  for (const other of [fetch.bind(undefined), async () => new Response('x')]) {
    withGlobal(t, 'fetch', other)
    t.equal(isChangedWhenLoaded(), true)
  }
})

t.test('S81 a global dispatcher of the application is used', async (t) => {
  const provider = await startedProvider(t)
  const initial = getGlobalDispatcher()
  t.teardown(() => setGlobalDispatcher(initial))
  const plain = new Agent()
  const mock = new MockAgent()
  const changed: Array<[what: string, dispatcher: Agent, isChanged: boolean]> = [
    ['what undici sets itself', plain, false],
    ['with options', new Agent({ connect: { ca: 'x' } }), true],
    ['with an interceptor', plain.compose((dispatch) => dispatch.bind(plain)) as Agent, true],
    ['without options', Object.assign(Object.create(Agent.prototype) as Agent), true],
    ['a mock', mock as unknown as Agent, true],
    ['proxies of the environment', new EnvHttpProxyAgent() as unknown as Agent, true]
  ]
  for (const [what, dispatcher, isChanged] of changed) {
    setGlobalDispatcher(dispatcher)
    t.equal(isFetchChanged(undefined), isChanged, what)
    t.equal(isFetchChanged(undefined), isChanged, `${what}, asked again`)
    t.equal(isFetchChanged(plain as unknown as Dispatcher), false, `${what}, beside the option dispatcher`)
  }
  // undici 8 sets its dispatcher, and wraps it for older versions
  class Dispatcher1Wrapper { dispatch (): void {} }
  setGlobalDispatcher(new Dispatcher1Wrapper() as unknown as Agent)
  t.equal(isFetchChanged(undefined), false)

  let calls = 0
  setGlobalDispatcher(plain.compose((dispatch) => (options, handler) => {
    calls++
    return dispatch(options, handler)
  }))
  const { browser } = await anotherApp(t, provider, { timeout: 60 })
  await browser.goto('/auth/login')
  await assertLoggedIn(t, browser)
  t.equal(calls, 3)
})

t.test('S81 the proxies that Node.js itself uses', async (t) => {
  const options = (http.globalAgent as unknown as { options: Record<string, unknown> }).options
  t.teardown(() => {
    delete options['proxyEnv']
    setGlobalDispatcher(new Agent())
  })
  options['proxyEnv'] = { HTTP_PROXY: 'http://127.0.0.1:1' }
  setGlobalDispatcher(new EnvHttpProxyAgent())
  t.equal(isFetchChanged(undefined), false, 'Node.js sets this dispatcher, and its agents do the same')
  const proxied: string[] = []
  const proxy = createServer((request, response) => {
    proxied.push(request.url as string)
    response.end('x')
  })
  options['proxyEnv'] = { HTTP_PROXY: await listen(t, proxy) }
  const call = createTransport({ ...patient, timeout: 5 })('http://provider.invalid/path', {})
  const status = await call.then((response) => response.status, (error) => error.statusCode)
  // Node.js 20 does not know `proxyEnv`.
  t.same([status, proxied.length], proxied.length === 1 ? [200, 1] : [503, 0])
  t.ok(proxied.length === 1 || process.version.startsWith('v20.'))
})
