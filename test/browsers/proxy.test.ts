import helmet from '@fastify/helmet'
import t from 'tap'
import { testCertificate } from '../../lib/testing/index.ts'
import { launchChromium, skipWithoutChromium } from '../support/chromium.ts'
import { freePort } from '../support/free-port.ts'
import { skipWithoutNginx, startNginx } from '../support/nginx.ts'
import { startIdentity, startSite } from '../support/site.ts'
import type { Site } from '../support/site.ts'

t.setTimeout(120_000) // where other work shares the cores

const WORKER = `
  self.addEventListener('install', () => self.skipWaiting())
  self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()))
  self.addEventListener('fetch', (event) => event.respondWith(fetch(event.request)))`

t.test('K10 two applications below two paths of nginx, with TLS, helmet and a service worker', {
  skip: skipWithoutChromium || skipWithoutNginx
}, async (t) => {
  const provider = await startIdentity(t)
  const port = await freePort()
  const startAt = async (path: string): Promise<Site & { upstream: number }> => {
    const upstream = await freePort()
    const site = await startSite(t, provider, {
      baseUrl: `https://localhost:${port}${path}`,
      port: upstream,
      before: async (app) => await app.register(helmet),
      after: (app) => app.get('/worker.js', async (_request, reply) => await reply.type('text/javascript').send(WORKER))
    })
    return { ...site, upstream }
  }
  const [one, two] = [await startAt('/one'), await startAt('/one/two')] // one path begins as the other does
  await startNginx(t, testCertificate(), [{
    port,
    path: '/one',
    upstreams: [one.upstream],
    directives: `location /one/two/ { proxy_pass http://127.0.0.1:${two.upstream}/; }`
  }])
  // Also for the script of the service worker.
  const browser = await launchChromium(['--ignore-certificate-errors'])
  t.teardown(async () => await browser.close())
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const user = async (): Promise<string | null> => await page.getByRole('heading').textContent()

  for (const { baseUrl } of [one, two, one]) {
    await page.goto(`${baseUrl}/me?x=1`)
    t.match([page.url(), await user()], [`${baseUrl}/me?x=1`, 'alice'])
  }
  await page.evaluate('navigator.serviceWorker.register("worker.js").then(() => navigator.serviceWorker.ready)')
  await page.waitForFunction('navigator.serviceWorker.controller !== null')
  await page.goto(`${one.baseUrl}/`)
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.waitForURL(`${one.baseUrl}/`)
  await page.getByRole('heading', { name: 'nobody' }).waitFor()
  t.equal(provider.count('end_session'), 1, 'the logout reached the provider')
  await page.locator('#login').click()
  await page.waitForURL(`${one.baseUrl}/me`)
  t.equal(await user(), 'alice', 'a login through the service worker')
  await page.goto(`${two.baseUrl}/`)
  t.equal(await user(), 'alice', 'the logout of one has left the other alone')
  const { cookies } = await context.storageState()
  t.same(cookies.map(({ name }) => name).filter((name) => /^__Host-oidc-\d+\.one(?:\.two)?$/.test(name)).length, 2)
})
