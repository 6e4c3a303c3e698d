import proxy from '@fastify/http-proxy'
import Fastify from 'fastify'
import t from 'tap'
import { sessionCookie } from '../lib/testing/index.ts'
import { startApp } from './support/app.ts'

t.setTimeout(120_000) // where other work shares the cores

t.test('K17 @fastify/http-proxy behind a guard passes the cookies on, unless they are removed', async (t) => {
  const upstream = Fastify()
  t.teardown(async () => await upstream.close())
  upstream.get('/x', async ({ headers }) => ({ cookie: headers.cookie ?? null, language: headers['accept-language'] }))
  const address = await upstream.listen({ port: 0, host: '127.0.0.1' })
  const { app } = await startApp(t)
  const common = { upstream: address, preHandler: app.oidc.required() }
  await app.register(proxy, { ...common, prefix: '/passes' })
  await app.register(proxy, {
    ...common,
    prefix: '/removes',
    replyOptions: { rewriteRequestHeaders: (_request, { cookie, ...headers }) => headers }
  })
  await app.ready()
  const headers = { cookie: sessionCookie(app), 'accept-language': 'de' }
  const passed = await app.inject({ url: '/passes/x', headers })
  t.match(passed.json(), { cookie: /^__Host-oidc=/, language: 'de' })
  const removed = await app.inject({ url: '/removes/x', headers })
  t.same(removed.json(), { cookie: null, language: 'de' })
  t.equal((await app.inject('/removes/x')).statusCode, 401)
})
