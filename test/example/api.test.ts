import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { BASE_URL, logIn, optionsFor } from '../support/app.ts'
import { loadExample } from '../support/example.ts'

const { buildApp } = await loadExample<typeof import('../../example/api/app.ts')>('api/app')

t.test('an API for sessions and access tokens, with its document', async (t) => {
  const provider = await startProvider({ users: [{ sub: 'alice', roles: ['admin'] }, { sub: 'bob' }] })
  t.teardown(async () => await provider.close())
  const app = await buildApp(optionsFor(provider), {})
  t.teardown(async () => await app.close())
  const anonymous = client({ app, baseUrl: BASE_URL })

  const page = await anonymous.goto('/')
  t.match([page.url, page.status, page.headers.get('content-type')], [`${BASE_URL}/docs`, 200, /^text\/html/])
  t.equal((await anonymous.goto('/docs/static/swagger-ui.css')).status, 200)
  const { paths, components } = (await anonymous.goto('/docs/json')).json()
  t.same(Object.keys(paths), ['/api/books', '/api/me'], 'no route of the plugin or of the page')
  t.same(Object.keys(components.securitySchemes), ['oidcSession', 'oidcToken'])
  t.same(paths['/api/books'].post.security, [{ oidcSession: ['openid'] }, { oidcToken: ['openid'] }])
  t.same(Object.keys(paths['/api/books'].post.responses), ['200', '401', '403'])
  t.notOk(paths['/api/books'].get.security)

  t.same((await anonymous.fetch('/api/books')).json(), ['Emma'])
  t.equal((await anonymous.fetch('/api/books', { method: 'POST', json: { title: 'Persuasion' } })).status, 401)
  const alice = await logIn({ app, provider }, 'alice')
  const bob = await logIn({ app, provider }, 'bob')
  const added = await bob.fetch('/api/books', { method: 'POST', json: { title: 'Persuasion' } })
  t.same(added.json(), ['Emma', 'Persuasion'])
  t.equal((await bob.fetch('/api/books', { method: 'POST', json: {} })).status, 400)
  t.same((await bob.fetch('/api/me')).json(), { sub: 'bob', by: 'session' })
  t.equal((await bob.fetch('/api/books', { method: 'DELETE' })).status, 403)
  t.same((await alice.fetch('/api/books', { method: 'DELETE' })).json(), [])

  const askWith = async (aud: string) => await app.inject({
    url: '/api/me',
    headers: { authorization: `Bearer ${provider.accessToken({ sub: 'alice', overrides: { aud } })}` }
  })
  t.same((await askWith(`${BASE_URL}/api`)).json(), { sub: 'alice', by: 'token' })
  t.equal((await askWith('https://other.example.com')).statusCode, 401)
})
