import t from 'tap'
import { startClock } from '../../lib/testing/clock.ts'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, buildApp, optionsFor, startApp } from '../support/app.ts'
import { anotherApp, captureLog } from '../support/protocol.ts'
import { twoClocks } from '../support/two-clocks.ts'
import type { FastifyInstance } from 'fastify'

t.setTimeout(120_000) // where other work shares the cores

for (const ahead of [90, -90]) {
  t.test(`K1 the clock of the provider is 90 s ${ahead > 0 ? 'ahead' : 'behind'}`, async (t) => {
    const { lines, server } = captureLog()
    const { browser, provider } = await startApp(t, { timeout: 60 }, {}, server)
    const moved = (time: unknown): number => Number(time) + ahead
    provider.fault({
      on: 'token',
      idToken: ({ iat, exp, auth_time: time, ...claims }) => ({
        ...claims, iat: moved(iat), exp: moved(exp), auth_time: moved(time)
      })
    })
    const page = await browser.goto('/me')
    t.equal(provider.count('authorize'), 1)
    if (ahead < 0) return t.equal(page.status, 200)
    t.match([page.status, page.text()], [403, /FST_OIDC_ID_TOKEN[^]*Log in again/])
    t.match(lines(), /"code":"FST_OIDC_ID_TOKEN","detail":"[^"]*iat/)
    const tolerant = await anotherApp(t, provider, { timeout: 60, clockTolerance: 120 })
    t.equal((await tolerant.browser.goto('/me')).status, 200, 'with clockTolerance')
  })
}

/** The second process, whose clock is off, has the paths. The provider has the clock of the process that calls. */
const cases: Array<[off: number, paths: RegExp, status: number, code?: string]> = [
  [90, /^\/me/, 200],
  [90, /^\/auth\/callback/, 400, 'FST_OIDC_LOGIN_LOST'],
  [90, /^\/auth\//, 400, 'FST_OIDC_LOGIN_LOST'],
  [-90, /^\/me/, 400, 'FST_OIDC_LOGIN_LOST'],
  [-90, /^\/auth\/callback/, 403, 'FST_OIDC_ID_TOKEN'],
  [-90, /^\/auth\//, 403, 'FST_OIDC_ID_TOKEN']
]

for (const [off, paths, status, code] of cases) {
  t.test(`K1 a process whose clock is off by ${off} s has ${paths.source}: ${code ?? 'a login'}`, async (t) => {
    const clock = startClock()
    t.teardown(() => clock.restore())
    const { lines, server } = captureLog()
    const provider = await startProvider({ codeTtl: 300 })
    t.teardown(async () => await provider.close())
    const build = async (): Promise<FastifyInstance> => await buildApp(t, optionsFor(provider, { timeout: 60 }), server)
    const app = twoClocks([await build(), await build()], paths, clock, off)
    const page = await client({ app, baseUrl: BASE_URL }).goto('/me')
    t.equal(page.status, status)
    t.ok(provider.count('authorize') <= 2, 'no loop')
    if (code === undefined) return
    t.match(page.text(), new RegExp(`${code}[^]*Log in again`))
    t.notMatch(page.text(), /cookie/i, 'the browser is not to blame')
    t.match(lines(), code === 'FST_OIDC_LOGIN_LOST' ? 'the clocks of two processes differ' : /"detail":"[^"]*auth_time/)
  })
}
