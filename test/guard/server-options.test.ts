import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../../index.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, logIn, optionsFor, startApp } from '../support/app.ts'
import { NAVIGATION, beginsLogin } from '../support/navigation.ts'
import type { IncomingHttpHeaders, RequestOptions } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyRequest, FastifyServerOptions } from 'fastify'
import type { Test } from 'tap'
import type { Injectable, TestBrowser } from '../../lib/testing/index.ts'

type Headers = Record<string, string>

/** Starts the application on a free port. */
async function listening (app: FastifyInstance): Promise<Injectable> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return over({ host: '127.0.0.1', port: (app.server.address() as AddressInfo).port })
}

/** Sends requests over a socket, with the path exactly as given: other clients normalize it. */
function over (where: RequestOptions): Injectable {
  return {
    inject: async ({
      method, url, headers, payload
    }: {
      method: string
      url: string
      headers: Headers
      payload?: string
    }) => {
      const sent = httpRequest({ ...where, method, path: url, headers, agent: false }).end(payload)
      const [response] = (await once(sent, 'response')) as [
        AsyncIterable<Buffer> & { statusCode: number; headers: IncomingHttpHeaders }
      ]
      const chunks: Buffer[] = []
      for await (const chunk of response) chunks.push(chunk)
      return { statusCode: response.statusCode, headers: response.headers, rawPayload: Buffer.concat(chunks) }
    }
  } as unknown as Injectable
}

/** Spellings of a path that a router may treat as `/secret`. */
const SPELLINGS = [
  '/secret', '/secret/', '//secret', '///secret', '/secret//', '/./secret', '/x/../secret', '/%2e/secret',
  '/%73ecret', '/%73%65%63%72%65%74', '/%2573ecret', '/secret;x', '/secret;x=1', '/secret;/public', '/;/secret',
  '/secret%3bx', '/secret%2f', '/secret%2f..', '/secret/..', '/secret%00', '/secret%20', '/secret.',
  '/secret.json', '/SECRET', '/Secret', '/%53ecret', '/secret?x=/public', '/secret?/public', '/secret#/public',
  '/secret%23', '/secret%3f', '/secret\\', '\\secret', '/public/../secret', '/public/..%2fsecret',
  '/public%2f..%2fsecret', '/public;/../secret', '/secret/../public', '/nested/secret', '//nested//secret',
  '/nested/secret/', '/NESTED/secret', '/nested/%73ecret', '/nested/secret;x', '/files/secret.txt',
  '//files/secret.txt', '/files//secret.txt', '/files/%2e%2e/secret.txt', '/files/..%2fsecret.txt',
  '/FILES/secret.txt', '/files', '/files/', '/files;x/secret', '/%66iles/secret', '/files/é', '/files/%C3%A9'
]
const SEMICOLON = { useSemicolonDelimiter: true } as FastifyServerOptions['routerOptions'] & object // not in the types
const ROUTER_OPTIONS: Record<string, FastifyServerOptions> = {
  default: {},
  tolerant: {
    routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, ...SEMICOLON }
  },
  semicolon: { routerOptions: SEMICOLON },
  rewriting: { rewriteUrl: ({ url = '/' }) => url.replace(/^\/public(?:%2f|\/)\.\.(?:%2f|\/)/, '/') }
}

t.test('V22 V23 V3 no spelling of a path bypasses a guard', async (t) => {
  for (const [name, server] of Object.entries(ROUTER_OPTIONS)) {
    await t.test(name, async (t) => {
      const { app, provider } = await startApp(t, {}, {}, server)
      const ran: Array<{ url: string, sub: unknown }> = []
      const handler = async ({ url, oidcClaims }: FastifyRequest): Promise<string> => {
        ran.push({ url, sub: oidcClaims?.sub })
        return 'secret content'
      }
      app.get('/public', async () => 'public')
      app.get('/secret', { preHandler: app.oidc.required() }, handler)
      app.get('/files/*', { preHandler: app.oidc.required() }, handler)
      await app.register(async (scope) => {
        scope.addHook('preHandler', app.oidc.required())
        scope.get('/secret', handler)
      }, { prefix: '/nested' })
      const wire = await listening(app)
      const disguises: Headers[] = [
        {},
        NAVIGATION,
        { 'user-agent': 'kube-probe/1.29' },
        { 'x-original-url': '/public', 'x-rewrite-url': '/public', 'x-forwarded-uri': '/public' },
        {
          'x-forwarded-for': '127.0.0.1',
          'x-forwarded-host': 'localhost',
          'x-forwarded-user': 'alice',
          'x-oidc-claims': '{"sub":"alice"}',
          x_forwarded_user: 'alice'
        },
        { authorization: 'Bearer x' }
      ]
      for (const url of SPELLINGS) {
        for (const headers of disguises) {
          const response = await wire.inject({ url, headers })
          const body = response.rawPayload.toString()
          const allowed = [
            400,
            401,
            404,
            headers === NAVIGATION ? 302 : 401,
            /^public$|:"public"/.test(body) ? 200 : 401
          ]
          t.ok(allowed.includes(response.statusCode), `${url} ${JSON.stringify(headers)}: ${response.statusCode}`)
          t.notMatch(body, 'secret content')
          if (response.statusCode === 302) t.ok(beginsLogin(provider, response), url)
        }
      }
      t.same(ran, [], 'no handler ran without a session')
      const cookie = (await logIn({ app, provider }, 'alice')).cookies.header('/')
      for (const url of SPELLINGS) await wire.inject({ url, headers: { cookie } })
      t.ok(
        ran.length >= (name === 'tolerant' ? 30 : 10),
        `${ran.length} of ${SPELLINGS.length} spellings reach a handler with a session`
      )
      t.ok(ran.every(({ sub }) => sub === 'alice'))
    })
  }
})

t.test('V3 V22 after a login each path leads back to the application', async (t) => {
  const { app } = await startApp(t, {}, {}, ROUTER_OPTIONS['tolerant'])
  app.get('/*', { preHandler: app.oidc.required() }, async ({ url }) => ({ url }))
  const wire = await listening(app)
  for (const url of [
    '//evil.example/x',
    '///evil.example',
    '/\\evil.example',
    '/%5cevil.example',
    '/.//evil.example',
    '/%2e//evil.example',
    '/a/..//evil.example',
    '//evil.example/%2f..',
    '/x@evil.example',
    '/https://evil.example',
    '/%0d%0aset-cookie:x',
    '/x?next=//evil.example',
    `/${'x'.repeat(3000)}`
  ]) {
    const browser = client({ app, baseUrl: BASE_URL })
    const first = await wire.inject({ url, headers: NAVIGATION })
    t.equal(first.statusCode, 302, url.slice(0, 40))
    for (const line of [first.headers['set-cookie'] ?? []].flat()) {
      browser.cookies.set(line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1, line.indexOf(';')))
    }
    const page = await browser.goto(String(first.headers.location))
    t.equal(new URL(page.url).origin, BASE_URL, url.slice(0, 40))
    t.equal(page.status, 200, url.slice(0, 40))
    t.equal(page.history.length, 3, 'provider, callback, page')
  }
})

/** Opens a guarded page, logs in, sends an unsafe request, and logs out. */
async function visit (t: Test, browser: TestBrowser, baseUrl: string, path = '/me'): Promise<void> {
  const page = await browser.goto(baseUrl + path)
  t.match([page.status, page.url, page.json().claims?.sub], [200, baseUrl + path, 'alice'])
  t.same(page.history.map(({ status }) => status), [302, 302, 302, 200], 'page, provider, callback, page')
  t.same(browser.cookies.refused, [])
  t.equal((await browser.fetch(baseUrl + path, { method: 'POST', from: `${baseUrl}/` })).status, 200)
  t.equal(
    (await browser.fetch(baseUrl + path, { method: 'POST', from: 'https://evil.example/', credentials: 'include' }))
      .status,
    401,
    'the browser does not send the cookie from another site'
  )
  const gone = await browser.post(`${baseUrl}/auth/logout`, '', { from: `${baseUrl}/` })
  t.equal(new URL(gone.url).origin, new URL(baseUrl).origin)
  t.equal((await browser.fetch(baseUrl + path)).status, 401)
}

t.test('R38 a login works with each server option', async (t) => {
  const servers: Record<string, [server: FastifyServerOptions, paths: string[]]> = {
    ignoreTrailingSlash: [{ routerOptions: { ignoreTrailingSlash: true } }, ['/me', '/me/']],
    caseSensitive: [{ routerOptions: { caseSensitive: false } }, ['/me', '/ME']],
    ignoreDuplicateSlashes: [{ routerOptions: { ignoreDuplicateSlashes: true } }, ['/me', '//me']],
    useSemicolonDelimiter: [{ routerOptions: SEMICOLON }, ['/me', '/me;x=1']],
    trustProxy: [{ trustProxy: true }, ['/me']],
    logger: [{ logger: { level: 'trace', stream: { write () {} } }, requestIdHeader: 'x-request-id' }, ['/me']]
  }
  for (const [name, [server, paths]] of Object.entries(servers)) {
    await t.test(name, async (t) => {
      const { app, provider } = await startApp(t, {}, {}, server)
      const forged = {
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'http',
        'x-forwarded-port': '81',
        'x-forwarded-prefix': '/evil',
        forwarded: 'host=evil.example'
      }
      const browser = client({ app, baseUrl: BASE_URL, headers: forged })
      await visit(t, browser, BASE_URL)
      for (const request of provider.requests.filter(({ endpoint }) => endpoint === 'authorize')) {
        t.equal(request.query['redirect_uri'], `${BASE_URL}/auth/callback`)
      }
      for (const path of paths) t.equal((await app.inject(path)).statusCode, 401, path)
    })
  }
})

t.test('R38 a login works in a scope with a prefix', async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const app = Fastify()
  t.teardown(async () => await app.close())
  await app.register(async (outer) => {
    await outer.register(async (scope) => {
      await scope.register(oidc, optionsFor(provider, { requiredClaims: { sub: 'alice' } }))
      scope.get('/me', { preHandler: scope.oidc.required() }, async ({ oidcClaims }) => ({ claims: oidcClaims }))
      scope.post('/me', { preHandler: scope.oidc.required() }, async () => ({}))
    }, { prefix: '/v1' })
  }, { prefix: '/api' })
  app.get('/me', async (request) => ({ decorated: 'oidcClaims' in request }))
  const browser = client({ app, baseUrl: BASE_URL })
  const page = await browser.goto('/api/v1/me')
  t.match([page.status, page.url, page.json().claims?.sub], [200, `${BASE_URL}/api/v1/me`, 'alice'])
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['redirect_uri'],
    `${BASE_URL}/api/v1/auth/callback`
  )
  t.ok(browser.cookies.list('/').every(({ path }) => path === '/'))
  t.match((await client({ app, baseUrl: BASE_URL }).fetch('/api/v1/me')).json(), {
    login: `${BASE_URL}/api/v1/auth/login`
  })
  t.equal((await browser.goto('/auth/login')).status, 404, 'there are no routes without the prefix')
  t.same((await browser.goto('/me')).json(), { decorated: false }, 'requests outside the scope are not decorated')
  const gone = await browser.post('/api/v1/auth/logout')
  t.equal(gone.history[1]?.url.includes(encodeURIComponent(`${BASE_URL}/api/v1/auth/logged-out`)), true)
  t.equal((await browser.fetch('/api/v1/me')).status, 401)
})

t.test('R38 a login works behind a proxy that removes a path prefix', async (t) => {
  const baseUrl = `${BASE_URL}/portal`
  const { app, provider } = await startApp(t, { baseUrl })
  const proxied = {
    inject: async (options: { url: string }) =>
      await app.inject({ ...options, url: options.url.replace(/^\/portal(?=\/)/, '') })
  } as unknown as Injectable
  await visit(t, client({ app: proxied, baseUrl: BASE_URL }), baseUrl)
  t.equal(
    provider.requests.find(({ endpoint }) => endpoint === 'authorize')?.query['redirect_uri'],
    `${baseUrl}/auth/callback`
  )
})

t.test('R38 a login works over IPv6', async (t) => {
  const { app } = await startApp(t, { baseUrl: 'http://[::1]:8080' })
  await app.listen({ host: '::1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  await visit(t, client({ app: over({ host: '::1', port }), baseUrl: 'http://[::1]:8080' }), 'http://[::1]:8080')
})

t.test('R38 a login works over a Unix socket', async (t) => {
  const { app } = await startApp(t)
  const path = join(tmpdir(), `fastify-oidc-${process.pid}.sock`)
  await app.listen({ path })
  await visit(t, client({ app: over({ socketPath: path }), baseUrl: BASE_URL }), BASE_URL)
})

t.test('R38 a login works over HTTP/2', async (t) => {
  const { app } = await startApp(t, {}, {}, { http2: true } as never)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const session = connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.destroy())
  const overHttp2 = {
    inject: async ({
      method, url, headers, payload
    }: {
      method: string
      url: string
      headers: Headers
      payload?: string
    }) => {
      const { host = '', cookie = '', ...rest } = headers
      // HTTP/2 sends each cookie in a field of its own (RFC 9113, section 8.2.3).
      const stream = session.request({
        ':method': method,
        ':path': url,
        ':authority': host,
        ...rest,
        ...(cookie !== '' && { cookie: cookie.split('; ') })
      })
      stream.end(payload)
      const [received] = await once(stream, 'response') as [Record<string, string | string[]>]
      const chunks: Buffer[] = []
      for await (const chunk of stream) chunks.push(chunk as Buffer)
      const fields = Object.entries(received).filter(([name]) => !name.startsWith(':'))
      return {
        statusCode: Number(received[':status']),
        headers: Object.fromEntries(fields),
        rawPayload: Buffer.concat(chunks)
      }
    }
  } as unknown as Injectable
  await visit(t, client({ app: overHttp2, baseUrl: BASE_URL }), BASE_URL)
})
