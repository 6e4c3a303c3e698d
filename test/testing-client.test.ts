import t from 'tap'
import Fastify from 'fastify'
import { client, startProvider } from '../lib/testing/index.ts'

t.test('smoke', async (t) => {
  const provider = await startProvider()
  t.teardown(() => provider.close())
  const app = Fastify()
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_r, body, done) => done(null, Object.fromEntries(new URLSearchParams(body as string))))
  app.get('/login', (req, reply) => reply.header('set-cookie', ['__Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax', '__Host-s=2; Path=/; Secure; SameSite=Strict', '__Host-n=3; Path=/; Secure; SameSite=None']).redirect(`${provider.issuer}/authorize?client_id=web&redirect_uri=https://app.example.com/cb&response_type=code&scope=openid&state=x&response_mode=${(req.query as any).mode}`))
  app.get('/cb', (req, reply) => { reply.redirect('/me') })
  app.post('/cb', (req, reply) => { reply.redirect('/me') })
  app.get('/me', (req) => req.headers)
  const browser = client({ app, baseUrl: 'https://app.example.com' })
  for (const mode of ['query', 'form_post']) {
    const page = await browser.goto('/login?mode=' + mode)
    console.error(page.status, page.url, page.history.map(({ method, url, status, sent }) => [method, status, url, sent]), page.json())
  }
  console.error(browser.cookies.list())
})
