import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { sessionCookie } from '../../lib/testing/index.ts'
import { BASE_URL, startApp } from '../support/app.ts'
import type { AddressInfo } from 'node:net'

t.test('V24 the handler does not run when the client closes the connection while it is denied', async (t) => {
  const { app } = await startApp(t)
  const events = new EventEmitter<{ held: [goOn: () => void], sent: [] }>()
  let [hold, ran] = ['', 0]
  const pass = async (hook: string): Promise<void> => {
    if (hook === hold) await new Promise<void>((resolve) => { events.emit('held', resolve) })
  }
  app.addHook('onRequest', async () => { await pass('onRequest') })
  app.addHook('onSend', async (_request, _reply, payload) => {
    await pass('onSend')
    events.emit('sent')
    return payload
  })
  app.post('/danger', { preHandler: app.oidc.required() }, async () => { ran += 1 })
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => { ran += 1 })
  app.get('/optional', { preHandler: app.oidc.optional({ roles: 'admin' }) }, async () => { ran += 1 })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const cookie = sessionCookie(app)
  const heads = [
    'POST /danger HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n',
    'GET /admin HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n',
    `GET /admin HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`,
    `GET /optional HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`,
    `POST /danger HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.test\r\nContent-Length: 0\r\nCookie: ${cookie}\r\n\r\n`
  ]
  for (const head of heads) {
    for (const hook of ['onRequest', 'onSend']) {
      hold = hook
      const held = once(events, 'held')
      const closed = new Promise<void>((resolve) => {
        app.server.once('connection', (socket) => socket.once('close', () => resolve()))
      })
      const socket = connect(port, '127.0.0.1')
      socket.write(head)
      const [goOn] = await held as [() => void]
      hold = ''
      socket.destroy()
      await closed
      const sent = once(events, 'sent')
      goOn()
      await sent
      await app.inject('/') // a whole request later, the handler has not run either
    }
  }
  t.equal(ran, 0)
  t.equal((await app.inject({ url: '/optional' })).statusCode, 200)
  t.equal(ran, 1, 'the counter counts a handler that runs')
})

t.test('the roles that a user has for another client do not count', async (t) => {
  const { app } = await startApp(t)
  app.get('/admin', { preHandler: app.oidc.required({ roles: 'admin' }) }, async () => 'admin')
  const status = async (claims: Record<string, unknown>): Promise<number> =>
    (await app.inject({ url: '/admin', headers: { cookie: sessionCookie(app, { claims }) } })).statusCode
  t.equal(await status({ resource_access: { wiki: { roles: ['admin'] } } }), 403)
  t.equal(await status({ resource_access: { web: { roles: ['admin'] } } }), 200)
})

t.test('K14 a form that is posted after the session has expired: the login leads back to its page', async (t) => {
  const { app } = await startApp(t)
  const linkOf = async (headers: Record<string, string>): Promise<string | undefined> => {
    const { statusCode, body } = await app.inject({
      method: 'POST', url: '/me', headers: { accept: 'text/html', 'sec-fetch-mode': 'navigate', ...headers }
    })
    t.equal(statusCode, 401)
    return /<a href="([^"]*)"/.exec(body)?.[1]?.replaceAll('&amp;', '&')
  }
  const login = `${BASE_URL}/auth/login`
  const page = `${BASE_URL}/forms/1?draft=2`
  t.match(await linkOf({ referer: page }), `${login}?return_to=${encodeURIComponent(page)}`)
  t.match(await linkOf({}), login)
  for (const referer of ['https://evil.example/forms', `${BASE_URL}.evil.example/`, '//evil.example', 'javascript:1']) {
    t.notMatch(await linkOf({ referer }), 'evil', referer)
  }
})
