import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { client, startProvider } from '../lib/testing/index.ts'
import { httpWire } from '../lib/testing/wire.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from './support/app.ts'
import { POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, uniqueName } from './support/services.ts'
import type { ChildProcess } from 'node:child_process'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'
import type { Injectable, Provider, ProviderOptions } from '../lib/testing/index.ts'

// Several processes of one application, behind whatever sends each request to one of them.

const SCRIPT = join(import.meta.dirname, `support/process${import.meta.filename.slice(-3)}`)

interface Process {
  child: ChildProcess
  /** Sends a request to it, as if it were the whole application. */
  app: Injectable
}

async function startProcess (t: Test, options: OidcOptions): Promise<Process> {
  const child = spawn(process.execPath, [...process.execArgv, SCRIPT, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [port] = await once(child.stdout, 'data') as [Buffer]
  const send = httpWire(undefined)
  const inject = async ({
    method = 'GET',
    url,
    headers = {},
    payload
  }: {
    method?: string
    url: string
    headers?: Record<string, string>
    payload?: string
  }) => {
    const response = await send({
      method,
      url: new URL(url, `http://127.0.0.1:${String(port).trim()}`),
      headers,
      body: payload
    })
    return {
      statusCode: response.status,
      headers: { ...Object.fromEntries(response.headers), 'set-cookie': response.headers.getSetCookie() },
      rawPayload: response.body
    }
  }
  return { child, app: { inject } as unknown as Injectable }
}

/** Some processes of an application whose sessions are where `options` says. */
async function start (
  t: Test,
  count: number,
  options: Partial<OidcOptions>,
  providerOptions: ProviderOptions = {}
): Promise<{ provider: Provider; processes: Process[] }> {
  const provider = await startProvider(providerOptions)
  t.teardown(async () => await provider.close())
  // A name of its own keeps what other tests have in the same store apart.
  const session = { key: SESSION_KEY, cookieName: uniqueName(), idleTimeout: 28_800, ...options.session }
  const all = optionsFor(provider, { offlineAccess: true, timeout: 3, ...options, session })
  // One after the other: starting takes a core for seconds, which other tests need as well.
  const processes: Process[] = []
  while (processes.length < count) processes.push(await startProcess(t, all))
  return { provider, processes }
}

const stores = [
  { name: 'Redis', store: REDIS, skip: skipWithoutRedis },
  { name: 'PostgreSQL', store: POSTGRES, skip: skipWithoutPostgres }
]
const modes = stores.flatMap(({ name, store, skip }) => [
  { name: `sessions in ${name}`, skip, options: { store, session: { key: SESSION_KEY, store: true } } },
  { name: `sessions in cookies, ${name} beside`, skip, options: { store, session: { key: SESSION_KEY } } }
])

for (const { name, skip, options } of modes) {
  t.test(`${name}: two processes are one application`, { skip }, async (t) => {
    const { provider, processes: [one, two] } = await start(t, 2, options, { accessTokenTtl: 10 })
    const browsers = [one, two].map((process) => client({ app: (process as Process).app, baseUrl: BASE_URL }))
    const [first, second] = browsers as [typeof browsers[0] & object, typeof browsers[0] & object]
    t.equal((await first.goto('/auth/login?return_to=/me')).status, 200, 'logged in with one')
    const cookies = first.cookies.list(BASE_URL)
    for (const { name: cookieName, value } of cookies) second.cookies.set(cookieName, value, BASE_URL)
    t.match((await second.fetch('/me')).json(), { sub: 'alice' }, 'known to the other')

    provider.options.accessTokenTtl = 3600
    provider.fault({ on: 'token', delay: 100 })
    const tokens = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => (await (index % 2 === 0 ? first : second).fetch('/token')).json())
    )
    t.equal(
      provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length,
      1,
      'R27 refreshed once'
    )
    t.equal(new Set(tokens.map((token) => JSON.stringify(token))).size, 1)
    t.equal((await first.fetch('/me')).status, 200)

    const answer = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
      app: (two as Process).app,
      sub: 'alice'
    })
    t.equal(answer.status, 200)
    t.same(
      [(await first.fetch('/me')).status, (await second.fetch('/me')).status],
      [401, 401],
      'logged out of both by a logout token sent to one'
    )
    provider.clearFaults()
    t.equal((await first.goto('/auth/login?return_to=/me')).status, 200, 'and in again')
  })
}

t.setTimeout(300_000)
// These wait for a lease to end: side by side.
t.jobs = 2
for (const { name, skip, options } of modes) {
  t.test(
    `R27 ${name}: one is killed while it refreshes, and nobody is logged out`,
    { skip, buffered: true },
    async (t) => {
      const {
        provider,
        processes: [one, two]
      } = await start(t, 2, options, { accessTokenTtl: 1 })
      const browser = client({ app: (one as Process).app, baseUrl: BASE_URL })
      t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
      const other = client({ app: (two as Process).app, baseUrl: BASE_URL })
      for (const { name: cookieName, value } of browser.cookies.list(BASE_URL)) {
        other.cookies.set(cookieName, value, BASE_URL)
      }
      await delay(1100)
      provider.options.accessTokenTtl = 3600
      provider.clearRequests()
      provider.fault({ on: 'token', hang: true, times: 1 })
      const lost = browser.fetch('/token').catch(() => 'lost')
      for (let attempts = 0; attempts < 300 && provider.count('token') === 0; attempts++) await delay(10)
      const waiting = Promise.all([other.fetch('/token'), other.clone().fetch('/token')])
      ;(one as Process).child.kill('SIGKILL')
      t.equal(await lost, 'lost')
      const answers = await waiting
      t.same(
        answers.map(({ status }) => status),
        [200, 200],
        'who waited for it has a token in the end'
      )
      t.equal(provider.count('token'), 2, 'the one that was lost, and one more')
      t.equal((await other.fetch('/me')).status, 200)
    }
  )
}

for (const { name, store, skip } of stores) {
  t.test(`R27 four processes issue tokens, with ${name} between them`, { skip }, async (t) => {
    const provider = await startProvider({ deviceInterval: 1 })
    t.teardown(async () => await provider.close())
    const options = optionsFor(provider, {
      store,
      timeout: 3,
      session: { key: SESSION_KEY, cookieName: uniqueName() },
      broker: { audience: 'https://api.example.com' }
    })
    const all = await Promise.all(Array.from({ length: 4 }, async () => (await startProcess(t, options)).app))
    const send = async (
      index: number,
      path: string,
      form?: Record<string, string>,
      headers: Record<string, string> = {}
    ): Promise<{ statusCode: number; json: any }> => {
      const { statusCode, rawPayload } = await (all[index % 4] as Injectable).inject(
        form === undefined
          ? { url: path, headers }
          : {
              method: 'POST',
              url: path,
              headers: { 'content-type': 'application/x-www-form-urlencoded' },
              payload: new URLSearchParams(form).toString()
            }
      )
      return { statusCode, json: JSON.parse(rawPayload.toString()) as unknown }
    }
    const sets = await Promise.all(
      all.map(async (_, index) => JSON.stringify((await send(index, '/auth/.well-known/jwks.json')).json))
    )
    t.equal(new Set(sets).size, 1, 'who start at the same time have one key')
    t.equal(JSON.parse(sets[0] as string).keys.length, 1)

    const device = (await send(0, '/auth/device', {})).json
    provider.approveDevice()
    const tokens = (
      await send(1, '/auth/token', {
        grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
        device_code: device.device_code
      })
    ).json
    const known = async (token: string): Promise<number[]> =>
      await Promise.all(
        all.map(
          async (_, index) => (await send(index, '/me', undefined, { authorization: `Bearer ${token}` })).statusCode
        )
      )
    t.same(await known(tokens.access_token), [200, 200, 200, 200])

    provider.clearRequests()
    const answers = await Promise.all(
      Array.from(
        { length: 20 },
        async (_, index) =>
          (await send(index, '/auth/token', { grant_type: 'refresh_token', refresh_token: tokens.refresh_token })).json
      )
    )
    t.equal(
      new Set(answers.map(({ refresh_token: next }) => next)).size,
      1,
      'twenty uses of one refresh token give one new one'
    )
    t.equal(provider.count('token'), 1)
    t.same(await known(answers[0].access_token), [200, 200, 200, 200])
    await send(2, '/auth/revoke', { token: answers[0].refresh_token })
    t.same(
      [...(await known(answers[0].access_token)), ...(await known(tokens.access_token))],
      Array(8).fill(401),
      'revoked at one, and so at all'
    )
  })
}

t.test('R27 four processes, a hundred requests each', { skip: skipWithoutRedis }, async (t) => {
  const { provider, processes } = await start(
    t,
    4,
    { store: REDIS, session: { key: SESSION_KEY, store: true } },
    { accessTokenTtl: 10 }
  )
  const browser = client({ app: (processes[0] as Process).app, baseUrl: BASE_URL })
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  const cookie = browser.cookies.header(BASE_URL)
  provider.options.accessTokenTtl = 3600
  provider.clearRequests()
  const answers = await Promise.all(processes.flatMap(({ app }) => Array.from({ length: 100 }, async () => {
    const { statusCode, rawPayload } = await app.inject({ url: '/token', headers: { cookie } })
    return `${statusCode} ${rawPayload.toString()}`
  })))
  t.equal(provider.count('token'), 1)
  t.same([new Set(answers).size, answers[0]?.slice(0, 3)], [1, '200'])
})
