import { createServer } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { Agent } from 'undici'
import { describeFailure } from '../../lib/provider/failure.ts'
import { createTransport } from '../../lib/provider/transport.ts'
import { client, faults, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor } from '../support/app.ts'
import { captureLog, untilCallback } from '../support/protocol.ts'
import { startedProvider } from '../support/started.ts'
import { limits } from '../support/transport-faults.ts'
import type { AddressInfo } from 'node:net'
import type { Dispatcher, Fetch, OidcOptions } from '../../index.ts'
import type { Fault } from '../../lib/testing/index.ts'

t.setTimeout(300_000) // where other work shares the cores

const agent = new Agent()
t.teardown(async () => await agent.close())
const fetching: Fetch = async (url, init) => await fetch(url, init)
const WAYS = { node: {}, dispatcher: { dispatcher: agent as unknown as Dispatcher }, fetch: { fetch: fetching } }

async function closedPort (): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return `http://127.0.0.1:${port}`
}

t.test('K12 the log says why the provider cannot be reached', async (t) => {
  const closed = await closedPort()
  const secure = await startProvider({ tls: testCertificate() })
  const hanging = await startedProvider(t)
  t.teardown(async () => await secure.close())
  hanging.fault({ on: 'metadata', hang: true })
  const hint = ': give the certificate authority by "dispatcher" or NODE_EXTRA_CA_CERTS'
  const cases: Array<[origin: string, detail: string]> = [
    [closed, 'ECONNREFUSED'],
    ['https://provider.invalid', '(?:ENOTFOUND|EAI_AGAIN|timeout after 1 s)'], // there may be no name server
    [secure.url, `DEPTH_ZERO_SELF_SIGNED_CERT${hint}`],
    [hanging.url, 'timeout after 1 s']
  ]
  for (const [way, options] of Object.entries(WAYS)) {
    for (const [origin, detail] of cases) {
      const log = captureLog()
      const app = await buildApp(t, optionsFor(hanging, { ...options, issuer: origin, timeout: 1 }), log.server)
      t.equal((await app.inject('/auth/login?return_to=/me%3Fsecret')).statusCode, 503)
      const lines = log.lines()
      const [, found] = /"detail":"metadata (.*?[^\\])"/.exec(lines) as RegExpExecArray
      t.match(found?.replaceAll('\\"', '"'), new RegExp(`^${origin}: ${detail}$`), way)
      t.notMatch(lines, 'secret')
    }
  }
})

t.test('K12 the log says which endpoint answered what', async (t) => {
  const provider = await startedProvider(t)
  const pushed = { pushedAuthorizationRequests: true }
  const html = { body: '<h1>secret</h1>', headers: { 'content-type': 'text/html; charset=utf-8' } }
  const cases: Array<[fault: Fault, status: number, detail: string, options?: Partial<OidcOptions>]> = [
    [{ on: 'metadata', status: 404, ...html }, 503, 'metadata: 404 text/html'],
    [{ on: 'token', status: 400, ...html }, 503, 'token endpoint: 400 text/html: a page, perhaps of a firewall or a proxy'],
    [{ on: 'token', status: 200, ...html }, 502, 'token endpoint: 200 text/html, not JSON'],
    [{ on: 'token', status: 503, ...html }, 503, `token endpoint ${provider.issuer}: status 503`],
    [faults['metadata-no-content-type'], 503, 'metadata: 200 without a content type'],
    [{ on: 'jwks', status: 200, ...html }, 502, 'jwks uri: 200 text/html, not a JWK Set (RFC 7517, section 5)'],
    [{ on: 'userinfo', status: 200, ...html }, 403, 'userinfo endpoint: 200 text/html'],
    [{ on: 'par', status: 201, ...html }, 502, 'pushed authorization request endpoint: 201 text/html', pushed]
  ]
  for (const [way, options] of Object.entries(WAYS)) {
    for (const [fault, status, detail, more = {}] of cases) {
      const log = captureLog()
      const all = { ...options, userinfo: true, timeout: 60, ...more }
      const app = await buildApp(t, optionsFor(provider, all), log.server)
      const off = provider.fault(fault)
      const page = await client({ app, baseUrl: BASE_URL }).goto('/auth/login')
      off()
      t.equal(page.status, status, `${way}: ${detail}`)
      t.ok(log.lines().includes(`"detail":"${detail}"`), `${way}: ${detail}\n${log.lines()}`)
      t.notMatch(log.lines(), '<h1>')
    }
  }
})

t.test('K12 no code, verifier or secret is in the log when a token request fails', async (t) => {
  const provider = await startedProvider(t)
  for (const [way, options] of Object.entries(WAYS)) {
    const log = captureLog()
    const app = await buildApp(t, optionsFor(provider, { ...options, timeout: 60 }), log.server)
    const browser = client({ app, baseUrl: BASE_URL })
    const callback = await untilCallback(browser)
    provider.clearRequests()
    const off = provider.fault(faults['token-lost'])
    t.equal((await browser.goto(callback.href)).status, 503)
    off()
    const { code, code_verifier: verifier } = provider.requests.find(({ endpoint }) => endpoint === 'token')?.body ?? {}
    for (const secret of [code, verifier, provider.clients[0]?.client_secret]) {
      t.type(secret, 'string')
      t.notOk(log.lines().includes(secret as string), way)
    }
  }
})

t.test('K12 each address that was tried has its code', async (t) => {
  const failing = (code: unknown): Error => Object.assign(new Error('10.0.0.1'), { code })
  const several = new AggregateError([failing('ENETUNREACH'), failing('ECONNREFUSED'), failing('ECONNREFUSED')])
  t.equal(describeFailure(several), 'ENETUNREACH, ECONNREFUSED')
  t.equal(describeFailure(new TypeError('fetch failed', { cause: several })), 'ENETUNREACH, ECONNREFUSED')
  t.equal(describeFailure(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })), 'ECONNREFUSED')
  t.equal(describeFailure(Object.assign(failing('UND_ERR_SOCKET'), { cause: failing('ECONNRESET') })), 'ECONNRESET')
  for (const code of [undefined, 7, 'a text with 10.0.0.1', 'X'.repeat(100)]) {
    t.equal(describeFailure(failing(code)), 'no answer')
  }
  const endless = new Error('x')
  endless.cause = endless
  for (const value of [endless, undefined, 'text']) t.equal(describeFailure(value), 'no answer')
})

t.test('K12 a timeout is said also where a body does not end', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const [way, options] of Object.entries(WAYS)) {
    await t.rejects(createTransport({ ...limits, ...options, timeout: 0.3 })(`${url}/token?code=1`, {}), {
      code: 'FST_OIDC_PROVIDER_UNAVAILABLE',
      detail: `${url}: timeout after 0.3 s`
    }, way)
  }
  await t.rejects(createTransport(limits)(await closedPort(), {}), {
    code: 'FST_OIDC_PROVIDER_UNAVAILABLE',
    detail: /ECONNREFUSED$/
  })
})
