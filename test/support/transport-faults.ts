import { once } from 'node:events'
import { createServer } from 'node:http'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { createTransport } from '../../lib/provider/transport.ts'
import { faults } from '../../lib/testing/index.ts'
import { BASE_URL } from './app.ts'
import {
  SESSION_COOKIE, anotherApp, assertAnonymous, assertLoggedIn, assertRefused, attempt
} from './protocol.ts'
import { startedProvider } from './started.ts'
import { until } from './until.ts'
import type { RequestListener, Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Test } from 'tap'
import type { TransportSettings } from '../../lib/options/transport.ts'
import type { Endpoint, Fault, FaultName, Provider } from '../../lib/testing/index.ts'
import type { OidcOptions } from '../../index.ts'

/** Listens on the loopback interface until the end of the test. */
export async function listen (t: Test, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => { server.close(resolve) })
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Settings of a transport that calls by Node.js itself. */
export const limits = { fetch: undefined, dispatcher: undefined, timeout: 5, maxResponseBytes: 1024 }

const ENDPOINTS = ['metadata', 'jwks', 'token', 'userinfo'] as const

async function tryEach (
  t: Test,
  provider: Provider,
  what: string,
  status: number,
  code: string,
  options: Partial<OidcOptions> = {}
): Promise<void> {
  for (const endpoint of ENDPOINTS) {
    await t.test(`${endpoint}-${what}`, async (t) => await tryOne(t, provider, endpoint, what, status, code, options))
  }
}

async function tryOne (
  t: Test,
  provider: Provider,
  endpoint: typeof ENDPOINTS[number],
  what: string,
  status: number,
  code: string,
  options: Partial<OidcOptions>
): Promise<void> {
  const fault = `${endpoint}-${what}`
  const tried = await attempt(t, provider, faults[fault as FaultName], { userinfo: true, ...options })
  await assertRefused(t, tried, status, code, endpoint === 'userinfo' ? 1 : 0)
  t.equal(provider.count(endpoint), 1, `${fault}: one attempt`)
  t.equal(provider.count('attacker'), 0)
}

/** A pushed request that hangs, stalls or drips: the login does not begin, and the browser goes nowhere. */
async function tryPush (t: Test, fault: Omit<Fault, 'on'>, options: Partial<OidcOptions>): Promise<void> {
  const provider = await startedProvider(t)
  provider.fault({ on: 'par', ...fault })
  const { browser } = await anotherApp(t, provider, { pushedAuthorizationRequests: true, ...options })
  const page = await browser.goto('/me')
  t.equal(page.status, 503, JSON.stringify(fault))
  t.match(page.text(), 'FST_OIDC_PROVIDER_UNAVAILABLE')
  t.equal(provider.count('par'), 1, 'one attempt')
  t.equal(provider.count('authorize'), 0)
}

/** A server of plain HTTP, and its connections. */
export async function rawServer (
  t: Test,
  listener: RequestListener
): Promise<{ url: string; server: Server; sockets: Set<Socket> }> {
  const sockets = new Set<Socket>()
  const server = createServer(listener).on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  return { url: await listen(t, server), server, sockets }
}

/** The options that choose a way to call a provider. */
export type Way = Partial<Pick<TransportSettings, 'fetch' | 'dispatcher'>>

/** The faults of the network, by one of the three ways to call a provider. */
export function testFaults (chosen: Way): void {
  t.setTimeout(600_000) // where other work shares the cores

  // Long, so that no call fails where other work shares the cores.
  const way = { ...chosen, timeout: 60 } as Pick<OidcOptions, 'fetch' | 'dispatcher'> & { timeout: number }

  t.test('S81 R2 a response that does not come, or does not end, is a timeout', async (t) => {
    // All at once, so that the calls before the faulty one have time, also where other work shares the cores.
    const cases = ['hang', 'stall', 'drip'].flatMap((what) => ENDPOINTS.map((endpoint) => ({ what, endpoint })))
    const pushes: Array<Omit<Fault, 'on'>> = [{ hang: true }, { stall: true }, { drip: 400 }]
    await Promise.all([
      ...cases.map(async ({ what, endpoint }) => {
        const own = await startedProvider(t)
        await tryOne(t, own, endpoint, what, 503, 'FST_OIDC_PROVIDER_UNAVAILABLE', { ...way, timeout: 15 })
      }),
      ...pushes.map(async (fault) => await tryPush(t, fault, { ...way, timeout: 15 }))
    ])
    const provider = await startedProvider(t)
    const slow = await attempt(
      t,
      provider,
      ENDPOINTS.map((on): Fault => ({ on, delay: 50 })),
      { ...way, userinfo: true }
    )
    await assertLoggedIn(t, slow.browser)
  })

  t.test('R2 R3 a connection that breaks', async (t) => {
    const provider = await startedProvider(t)
    for (const what of ['reset', 'cut', 'lost']) await tryEach(t, provider, what, 503, 'FST_OIDC_PROVIDER_UNAVAILABLE', way)
  })

  t.test('R3 an error of the provider means that it is unavailable', async (t) => {
    const provider = await startedProvider(t)
    for (const what of ['429', '500', '502', '503']) {
      await tryEach(t, provider, what, 503, 'FST_OIDC_PROVIDER_UNAVAILABLE', way)
    }
    const tried = await attempt(t, provider, faults['token-429'], way)
    t.equal(tried.page.headers.get('retry-after'), '7')
  })

  t.test('S81 R4 a response that is too large', async (t) => {
    const provider = await startedProvider(t)
    for (const what of ['huge', 'gzip-bomb']) await tryEach(t, provider, what, 502, 'FST_OIDC_PROVIDER_RESPONSE', way)
  })

  t.test('S51 S81 R5 a redirect is refused, and Authorization is not sent elsewhere', async (t) => {
    const provider = await startedProvider(t)
    for (const what of ['redirect', 'redirect-307', 'redirect-cloud']) {
      await tryEach(t, provider, what, 502, 'FST_OIDC_PROVIDER_RESPONSE', way)
    }

    const seen: string[] = []
    const elsewhere = await listen(t, createServer((request, response) => {
      seen.push(String(request.headers.authorization))
      response.end()
    }))
    for (const on of [...ENDPOINTS, 'revocation'] as const) {
      for (const status of [300, 301, 302, 303, 307, 308]) {
        const { browser } = await attempt(t, provider, { on, redirect: `${elsewhere}/`, status }, { ...way, userinfo: true })
        if (on !== 'revocation') await assertAnonymous(t, browser)
      }
    }
    t.same(seen, [])
  })

  t.test('S81 R4 V36 garbage', async (t) => {
    const provider = await startedProvider(t)
    // The codes of discovery and UserInfo are in their own tests
    const expected: Record<string, Partial<Record<Endpoint, [status: number, code: string]>>> = {
      html: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      empty: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      truncated: {
        jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'],
        token: [502, 'FST_OIDC_PROVIDER_RESPONSE'],
        userinfo: [403, 'FST_OIDC_USERINFO']
      },
      array: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      null: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      number: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      string: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      400: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] },
      403: { jwks: [502, 'FST_OIDC_PROVIDER_RESPONSE'], token: [502, 'FST_OIDC_PROVIDER_RESPONSE'] }
    }
    for (const [what, endpoints] of Object.entries(expected)) {
      for (const [endpoint, [status, code]] of Object.entries(endpoints)) {
        await t.test(`${endpoint}-${what}`, async (t) => {
          const tried = await attempt(t, provider, faults[`${endpoint}-${what}` as FaultName], { ...way, userinfo: true })
          await assertRefused(t, tried, status, code, endpoint === 'userinfo' ? 1 : 0)
          t.notMatch(tried.page.text(), 'Maintenance')
        })
      }
    }
  })

  t.test('K3 R4 unusual but valid JSON is accepted', async (t) => {
    const provider = await startedProvider(t)
    const refused = new Map<string, [status: number, code: string]>([
      ['metadata-deep', [502, 'FST_OIDC_PROVIDER_RESPONSE']],
      ['userinfo-deep', [403, 'FST_OIDC_CLAIMS']],
      ['metadata-content-type', [503, 'FST_OIDC_PROVIDER_UNAVAILABLE']],
      ['metadata-no-content-type', [503, 'FST_OIDC_PROVIDER_UNAVAILABLE']],
      ['userinfo-content-type', [403, 'FST_OIDC_USERINFO']],
      ['userinfo-no-content-type', [403, 'FST_OIDC_USERINFO']]
    ])
    for (const what of ['duplicate-keys', 'bom', 'invalid-utf8', 'deep', 'content-type', 'no-content-type']) {
      for (const endpoint of ENDPOINTS) {
        await t.test(`${endpoint}-${what}`, async (t) => {
          const tried = await attempt(t, provider, faults[`${endpoint}-${what}` as FaultName], { ...way, userinfo: true })
          const expected = refused.get(`${endpoint}-${what}`)
          if (expected === undefined) await assertLoggedIn(t, tried.browser)
          else await assertRefused(t, tried, ...expected, endpoint === 'userinfo' ? 1 : 0)
        })
      }
    }
  })

  t.test('S61 R2 R3 a failed revocation does not delay a logout', async (t) => {
    const provider = await startedProvider(t)
    for (const what of ['hang', 'stall', 'reset', '500', '400', 'redirect', 'huge', 'gzip-bomb'] as const) {
      const { browser } = await attempt(t, provider, [], { ...way, timeout: 5 })
      t.ok(browser.cookies.get(SESSION_COOKIE))
      const off = provider.fault(faults[`revocation-${what}`])
      const page = await browser.post('/auth/logout')
      t.same([page.status, page.url], [200, `${BASE_URL}/`], what)
      t.equal(provider.count('end_session'), 1)
      await assertAnonymous(t, browser)
      await until(() => provider.count('revocation') === 1)
      off()
      t.equal(provider.count('attacker'), 0)
    }
  })

  t.test('R2 a call that timed out leaves no open connection', async (t) => {
    const listeners: Record<string, RequestListener> = {
      'no answer': () => {},
      'headers only': (_request, response) => { response.writeHead(200).flushHeaders() },
      'a byte at a time': (_request, response) => {
        const timer = setInterval(() => response.write('x'), 20)
        response.on('close', () => clearInterval(timer))
      }
    }
    for (const [what, listener] of Object.entries(listeners)) {
      const { url, sockets } = await rawServer(t, listener)
      const transport = createTransport({ ...limits, ...way, timeout: 0.1 })
      await t.rejects(transport(url, {}), { code: 'FST_OIDC_PROVIDER_UNAVAILABLE', statusCode: 503 }, what)
      await until(() => [...sockets].every(({ destroyed }) => destroyed))
      t.ok(sockets.size > 0)
    }
  })

  t.test('S81 R4 no more than the limit is read', async (t) => {
    const megabyte = Buffer.alloc(2 ** 20, 'a')
    const packed = gzipSync(megabyte)
    const endless = (headers: Record<string, string>, part: Buffer): RequestListener => (_request, response) => {
      response.writeHead(200, headers)
      const send = (): void => {
        while (!response.destroyed && response.write(part));
      }
      response.on('drain', send)
      send()
    }
    const listeners: Record<string, RequestListener> = {
      'without a length': endless({}, megabyte),
      'with a length that is a lie': endless({ 'content-length': '999999999999' }, megabyte),
      packed: endless({ 'content-encoding': 'gzip' }, packed)
    }
    for (const [what, listener] of Object.entries(listeners)) {
      const { url, sockets } = await rawServer(t, listener)
      const transport = createTransport({ ...limits, ...way, maxResponseBytes: 100_000 })
      await t.rejects(
        transport(url, {}),
        { code: 'FST_OIDC_PROVIDER_RESPONSE', statusCode: 502, detail: 'the response is larger than 100000 bytes' },
        what
      )
      await until(() => [...sockets].every(({ destroyed }) => destroyed))
      const sent = [...sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, 0)
      t.ok(sent < 64 * 2 ** 20, `${what}: ${sent} bytes were sent`)
    }
  })
}
