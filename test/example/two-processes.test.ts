import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { client, startProvider } from '../../lib/testing/index.ts'
import { SESSION_KEY } from '../support/app.ts'
import { examplePath, execArgv } from '../support/example.ts'
import { freePort } from '../support/free-port.ts'
import { skipWithoutSqlite } from '../support/services.ts'
import { until } from '../support/until.ts'

t.setTimeout(240_000)

t.test('two processes are one application', { skip: skipWithoutSqlite }, async (t) => {
  const provider = await startProvider()
  t.teardown(async () => await provider.close())
  const port = await freePort()
  const baseUrl = `http://localhost:${port}`
  const child = spawn(process.execPath, [...execArgv, examplePath('two-processes/main')], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      PORT: String(port),
      BASE_URL: baseUrl,
      OIDC_ISSUER: provider.issuer,
      OIDC_CLIENT_ID: 'web',
      OIDC_CLIENT_SECRET: provider.clients[0]?.client_secret,
      OIDC_SESSION_KEY: SESSION_KEY,
      OIDC_STORE: `sqlite:${join(t.testdir(), 'oidc.db')}`
    }
  })
  const closed = once(child, 'close')
  t.teardown(async () => { child.kill(); await closed })

  // Each request on its own connection: the connections are given to the processes in turn.
  const browser = client({ baseUrl, headers: { connection: 'close' } })
  let log = ''
  child.stdout.on('data', (chunk: Buffer) => { log += chunk.toString() })
  while (log.split('Server listening').length < 3) await once(child.stdout, 'data')
  t.match((await browser.goto('/')).text(), '<h1>Two processes</h1>')
  t.equal((await browser.goto('/me')).status, 200)
  const seen = new Map<number, unknown>()
  await until(async () => {
    const { process, sub, session } = (await browser.fetch('/me')).json()
    t.equal(sub, 'alice')
    seen.set(process, session)
    return seen.size === 2
  })
  t.equal(new Set(seen.values()).size, 1, 'both processes know the session')
  t.match((await browser.fetch('/sessions')).json(), [{ sub: 'alice' }])

  const other = client({ baseUrl, headers: { connection: 'close' } })
  await other.goto('/me')
  t.equal((await browser.fetch('/sessions')).json().length, 2)
  t.same((await browser.post('/log-out-everywhere')).json(), { ended: 2 })
  for (let turn = 0; turn < 4; turn++) {
    t.equal((await other.fetch('/me')).status, 401, 'a logout counts in both processes')
  }
})
