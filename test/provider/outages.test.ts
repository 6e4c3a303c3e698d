import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { client } from '../../lib/testing/index.ts'
import { BASE_URL, logIn, startApp } from '../support/app.ts'
import { inParallel, times } from '../support/crowd.ts'
import { createGate } from '../support/gate.ts'
import { CALLBACK, anotherApp, untilCallback } from '../support/protocol.ts'
import { until } from '../support/until.ts'
import { startedClock, startedProvider } from '../support/started.ts'
import type { AddressInfo } from 'node:net'
import type { InjectOptions } from 'fastify'

t.setTimeout(120_000) // where other work shares the cores

const PAGE = {
  accept: 'text/html',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'cross-site'
}

t.test(
  'R11 after a restart of the provider sessions stay, and users whose refresh fails log in once, without a loop',
  async (t) => {
    const clock = startedClock(t)
    const ends: string[] = []
    const { app, provider } = await startApp(
      t,
      {
        offlineAccess: true,
        onLogout: ({ id }, { reason }) => {
          ends.push(`${reason} ${id}`)
        }
      },
      { accessTokenTtl: 300 }
    )
    app.get('/token', { preHandler: app.oidc.required() }, async (request) => await app.oidc.accessToken(request))
    const people = await inParallel(
      5,
      times(10, (index) => async () => await logIn({ app, provider }, `person-${index}`))
    )
    clock.advance(400)
    provider.forget()
    provider.rotateKeys({ sameKid: true })
    provider.clearRequests()

    const pages = await Promise.all(people.map(async (browser) => await browser.fetch('/me')))
    t.ok(
      pages.every(({ status }) => status === 200),
      'a page that needs no token opens'
    )
    t.equal(provider.requests.length, 0)

    const refused = await Promise.all(
      people
        .flatMap((browser) => [browser.clone(), browser.clone(), browser])
        .map(async (browser) => await browser.fetch('/token'))
    )
    t.ok(refused.every(({ status }) => status === 401))
    t.equal(provider.count('token'), 10, 'each refresh token is tried once')
    t.equal(new Set(ends).size, 10)
    t.equal(ends.length, 10, 'each session ends once')

    provider.clearRequests()
    const again = await inParallel(
      5,
      people.map((browser) => async () => await browser.goto('/token'))
    )
    t.ok(again.every(({ status, url }) => status === 200 && url === `${BASE_URL}/token`))
    t.same([provider.count('authorize'), provider.count('token')], [10, 10], 'one login each')
    t.ok(provider.count('jwks') <= 3, `${provider.count('jwks')} requests for keys`)
  }
)

t.test(
  'R26 after a restart of the application a thousand requests cause one discovery and one request for keys',
  async (t) => {
    const provider = await startedProvider(t)
    const before = await anotherApp(t, provider)
    const callbacks = await inParallel(
      10,
      times(60, () => async (): Promise<InjectOptions> => {
        const browser = client({ app: before.app, baseUrl: BASE_URL })
        const callback = await untilCallback(browser)
        return { url: callback.href, headers: { ...PAGE, cookie: browser.cookies.header(CALLBACK) } }
      })
    )
    const { app } = await anotherApp(t, provider)
    provider.clearRequests()
    provider.fault({ on: 'metadata', delay: 30 }, { on: 'jwks', delay: 30 })
    const others = times(940, (index): InjectOptions => ({
      url: ['/me', '/auth/login', '/maybe', '/auth/logout'][index % 4] as string,
      headers: PAGE
    }))
    const statuses = await Promise.all(
      [...callbacks, ...others].map(async (request) => {
        const { statusCode, headers } = await app.inject(request)
        return `${statusCode} ${String(headers.location ?? '').split('?', 1)[0]}`
      })
    )
    t.same(
      [...new Set(statuses)].sort(),
      [`302 ${BASE_URL}/me`, `302 ${provider.issuer}/authorize`, '200 ', '403 '].sort()
    )
    t.equal(statuses.filter((status) => status === `302 ${BASE_URL}/me`).length, 60, 'all callbacks log in')
    t.same([provider.count('metadata'), provider.count('jwks'), provider.count('token')], [1, 1, 60])
  }
)

t.test('R31 a failed token request does not fail parallel logins', async (t) => {
  const { app, provider } = await startApp(t)
  await logIn({ app, provider }, 'alice')
  provider.clearRequests()
  provider.fault(
    { on: 'token', delay: 20 },
    { on: 'token', status: 503, times: 3 },
    { on: 'token', reset: true, times: 5 }
  )
  const pages = await Promise.all(
    times(20, async () => await client({ app, baseUrl: BASE_URL }).goto('/auth/login?return_to=/me'))
  )
  const statuses = pages.map(({ status }) => status).sort()
  t.same(statuses, [...times(15, () => 200), ...times(5, () => 503)])
  t.equal(provider.count('token'), 20, 'each is sent once')
  t.equal(provider.count('jwks'), 0)
})

t.test('R31 browsers that disconnect do not fail other requests that wait for the same discovery', async (t) => {
  const { app, provider } = await startApp(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const head = 'GET /auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
  const gate = createGate()
  provider.fault({ on: 'metadata', before: gate.pass })
  let [arrived, closed] = [0, 0]
  app.server.on('request', ({ socket }) => {
    arrived++
    socket.once('close', () => { closed++ })
  })
  const sockets = await Promise.all(times(10, async () => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(head)
    return socket
  }))
  await gate.reached
  await until(() => arrived === 10)
  for (const socket of sockets.splice(0, 5)) socket.destroy()
  await until(() => closed === 5)
  const answering = sockets.map(async (socket) => (await once(socket, 'data')).toString().slice(0, 12))
  gate.open()
  const answers = await Promise.all(answering)
  t.same([...new Set(answers)], ['HTTP/1.1 302'])
  t.equal(provider.count('metadata'), 1)
})
