import helmet from '@fastify/helmet'
import Fastify from 'fastify'
import t from 'tap'
import oidc from '../index.ts'
import { startProvider } from '../lib/testing/index.ts'
import { optionsFor } from './support/app.ts'
import { launchChromium, skipWithoutChromium } from './support/chromium.ts'
import { freePort } from './support/free-port.ts'

t.setTimeout(120_000)

t.test('K10 forms lead to the provider in Chromium, with the defaults of @fastify/helmet', {
  skip: skipWithoutChromium
}, async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const port = await freePort()
  const baseUrl = `http://localhost:${port}`
  const app = Fastify()
  t.teardown(async () => await app.close())
  // Without https, the default `upgrade-insecure-requests` would stop everything.
  await app.register(helmet, { contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } } })
  await app.register(oidc, optionsFor(provider, { baseUrl, timeout: 60 }))
  app.post('/sign-in', async (request, reply) => await app.oidc.login(request, reply))
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, _body, done) => done(null))
  app.get('/', { preHandler: app.oidc.optional() }, async ({ oidcClaims }, reply) => await reply.type('text/html').send(`
    <!doctype html><h1>${oidcClaims?.sub ?? 'nobody'}</h1>
    <form method="post" action="/auth/logout"><button>Log out</button></form>
    <form method="post" action="/sign-in"><button>Log in</button></form>
  `))
  await app.listen({ port, host: 'localhost' })
  const browser = await launchChromium()
  t.teardown(async () => await browser.close())
  const page = await (await browser.newContext()).newPage()
  const blocked: string[] = []
  page.on('console', (message) => { if (/form-action/.test(message.text())) blocked.push(message.text()) })
  const user = page.getByRole('heading')

  const home = await page.goto(baseUrl)
  t.match(home?.headers()['content-security-policy'], "form-action 'self'")
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('heading', { name: 'alice' }).waitFor()
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByRole('heading', { name: 'nobody' }).waitFor()
  t.equal(await user.textContent(), 'nobody')
  t.equal(page.url(), `${baseUrl}/`)
  t.equal(provider.count('end_session'), 1, 'the session at the provider ended as well')
  t.same(blocked, [])
})
