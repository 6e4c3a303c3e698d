import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { client, startClock, startProvider, testCertificate } from '../../lib/testing/index.ts'
import { BASE_URL, optionsFor } from '../support/app.ts'
import { openPage } from '../support/pages.ts'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { ProviderOptions } from '../../lib/testing/index.ts'

const page = openPage('docs/operations.md')

async function start (t: Test, options: ProviderOptions = {}) {
  const provider = await startProvider({ users: [{ sub: 'alice', name: 'Alice' }], ...options })
  t.teardown(async () => await provider.close())
  return provider
}

async function logInWith (t: Test, app: FastifyInstance, ca?: string): Promise<void> {
  app.get('/me', { preHandler: app.oidc.required() }, async (request) => request.oidcClaims)
  const browser = client({ app, baseUrl: BASE_URL, ...(ca !== undefined && { ca }) })
  t.match((await browser.goto('/me')).json(), { sub: 'alice' })
}

t.test('health', async (t) => {
  const provider = await start(t)
  const app = await page.run(t, "'/health'", { context: { options: optionsFor(provider) } })
  provider.fault({ on: 'metadata', status: 503 })
  const down = await app.inject('/health')
  t.same([down.statusCode, down.json()], [200, {
    status: 'degraded', providers: { default: { status: 'unavailable', code: 'FST_OIDC_PROVIDER_UNAVAILABLE' } }
  }])
  provider.clearFaults()
  const clock = startClock()
  t.teardown(() => clock.restore())
  // The plugin waits for a while before it asks a provider again that was down.
  clock.advance(6)
  const up = await app.inject('/health')
  t.same([up.statusCode, up.json()], [200, { status: 'ok', providers: { default: { status: 'ok' } } }])
})

t.test('through a proxy', async (t) => {
  const provider = await start(t)
  let tunnels = 0
  const proxy = createServer().on('connect', (request, socket) => {
    tunnels += 1
    const { hostname, port } = new URL(`http://${request.url}`)
    const target = connect(Number(port), hostname, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      target.pipe(socket).pipe(target)
    })
    for (const end of [socket, target]) end.on('error', () => end.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => { proxy.closeAllConnections(); proxy.close() })
  const { port } = proxy.address() as AddressInfo
  const change = (code: string): string => code.replace('proxy.example.com:3128', `127.0.0.1:${port}`)
  const app = await page.run(t, 'ProxyAgent', { context: { options: optionsFor(provider) }, change })
  await logInWith(t, app)
  t.ok(tunnels > 0)
})

t.test('a certificate authority of your own', async (t) => {
  const tls = testCertificate()
  const provider = await start(t, { tls })
  // Not in the directory of the test: the block that runs has that for itself.
  const directory = mkdtempSync(join(tmpdir(), 'oidc-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  process.env['OIDC_CA_FILE'] = join(directory, 'ca.pem')
  writeFileSync(process.env['OIDC_CA_FILE'], tls.cert)
  const app = await page.run(t, 'OIDC_CA_FILE', { context: { options: optionsFor(provider) } })
  await logInWith(t, app, tls.cert)
})

t.test('a log without queries', async (t) => {
  const lines: string[] = []
  Object.assign(globalThis, { logLines: { write: (line: string) => { lines.push(line) } } })
  const change = (code: string): string =>
    code.replace('serializers: {', 'stream: (globalThis as any).logLines, serializers: {')
  const app = await page.run(t, 'serializers: {', { change })
  t.match((await app.inject('/auth/calback?code=the-code')).json(), { statusCode: 404, error: 'Not Found' })
  t.match(lines.join(''), '"url":"/auth/calback"')
  t.notMatch(lines.join(''), 'the-code')
})

t.test('every block of code is tested above', async (t) => t.same(page.untested(), []))
