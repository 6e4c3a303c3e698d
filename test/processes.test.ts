import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { client, startProvider } from '../lib/testing/index.ts'
import { BASE_URL, SESSION_KEY, optionsFor } from './support/app.ts'
import { FAULTS, compile } from './support/compile.ts'
import { startProcess } from './support/processes.ts'
import { POSTGRES, REDIS, skipWithoutPostgres, skipWithoutRedis, skipWithoutSqlite, uniqueName } from './support/services.ts'
import { until } from './support/until.ts'
import type { Test } from 'tap'
import type { OidcOptions } from '../index.ts'
import type { Injectable, Provider, ProviderOptions, TestBrowser } from '../lib/testing/index.ts'
import type { Process } from './support/processes.ts'

// Several processes of one application, as behind a load balancer that sends each request to any of them.

t.setTimeout(120_000) // where other work shares the cores

const DOCS = `${import.meta.filename.endsWith('.js') ? '../' : ''}../docs/operations.md`
const TIMEOUT = 20 // seconds; long, so that no request fails where other work shares the cores
const LEASE = TIMEOUT * 6 + 5 // seconds that a process has for a refresh before another takes over

const COMPILED = compile(t, FAULTS)
const SCRIPT = join(COMPILED, 'test/support/process.js')

// All tests use the same four processes: a start costs more than a test.
const processes: Process[] = []
while (processes.length < 4) processes.push(await startProcess(t, SCRIPT))
const [first, second, third, fourth] = processes as [Process, Process, Process, Process]

/** One application in these processes, with its sessions where `options` says. */
async function start (
  t: Test,
  processes: readonly Process[],
  options: Partial<OidcOptions>,
  providerOptions: ProviderOptions = {}
): Promise<{ provider: Provider; apps: Injectable[] }> {
  const provider = await startProvider(providerOptions)
  t.teardown(async () => await provider.close())
  // Its own cookie name keeps its entries apart from those of other tests in the same store.
  const session = { key: SESSION_KEY, cookieName: uniqueName(), idleTimeout: 28_800, ...options.session }
  const all = optionsFor(provider, { offlineAccess: true, timeout: TIMEOUT, ...options, session })
  const apps = await Promise.all(processes.map(async ({ build }) => await build(all)))
  // Else the pools of all tests together need more connections than PostgreSQL allows.
  t.teardown(async () => await Promise.all(apps.map(async ({ close }) => await close())))
  return { provider, apps }
}

const stores = [
  { name: 'Redis', store: REDIS, skip: skipWithoutRedis },
  { name: 'PostgreSQL', store: POSTGRES, skip: skipWithoutPostgres }
]
const modes = stores.flatMap(({ name, store, skip }) => [
  { name: `sessions in ${name}`, skip, options: { store, session: { key: SESSION_KEY, store: true } } },
  { name: `sessions in cookies, logouts in ${name}`, skip, options: { store, session: { key: SESSION_KEY } } }
])

for (const { name, skip, options } of modes) {
  t.test(`${name}: two processes are one application`, { skip }, async (t) => {
    const { provider, apps: [one, two] } = await start(t, [first, second], options, { accessTokenTtl: 10 })
    const browser = client({ app: one as Injectable, baseUrl: BASE_URL })
    const other = client({ app: two as Injectable, baseUrl: BASE_URL })
    t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200, 'the user logs in at one process')
    const move = (from: TestBrowser, to: TestBrowser): void => {
      for (const { name, value } of from.cookies.list(BASE_URL)) to.cookies.set(name, value, BASE_URL)
    }
    move(browser, other)
    t.match((await other.fetch('/me')).json(), { sub: 'alice' }, 'the other process knows the session')
    for (const [from, to] of [[browser, other], [other, browser]] as const) {
      t.equal((await from.fetch('/user', { method: 'POST', json: { from: from === browser } })).status, 200)
      move(from, to)
      t.same((await to.fetch('/me')).json().user, { from: from === browser }, 'and the user that updateUser gave')
    }

    provider.options.accessTokenTtl = 3600
    provider.fault({ on: 'token', delay: 100 })
    const tokens = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => (await (index % 2 === 0 ? browser : other).fetch('/token')).json())
    )
    t.equal(
      provider.requests.filter(({ body }) => body['grant_type'] === 'refresh_token').length,
      1,
      'R27 the two processes refresh once'
    )
    t.equal(new Set(tokens.map((token) => JSON.stringify(token))).size, 1)
    t.equal((await browser.fetch('/me')).status, 200)

    const answer = await provider.sendLogoutToken(`${BASE_URL}/auth/backchannel-logout`, {
      app: two as Injectable,
      sub: 'alice'
    })
    t.equal(answer.status, 200)
    t.same(
      [(await browser.fetch('/me')).status, (await other.fetch('/me')).status],
      [401, 401],
      'a logout token sent to one process logs the user out of both'
    )
    const change = await browser.fetch('/user', { method: 'POST', json: { from: 'the ended session' } })
    t.same([change.status, change.headers.getSetCookie()], [401, []])
    provider.clearFaults()
    t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200, 'the user can log in again')
  })
}

for (const { name, store, skip } of stores) {
  t.test(`R27 four processes issue tokens, with ${name} between them`, { skip }, async (t) => {
    const provider = await startProvider({ deviceInterval: 1 })
    t.teardown(async () => await provider.close())
    const options = optionsFor(provider, {
      store,
      timeout: TIMEOUT,
      session: { key: SESSION_KEY, cookieName: uniqueName() },
      broker: { audience: 'https://api.example.com' }
    })
    const all = await Promise.all(processes.map(async ({ build }) => await build(options)))
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
    t.equal(new Set(sets).size, 1, 'processes that start at the same time have one key')
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
      'a token that one process revoked is revoked in all'
    )
  })
}

t.test('R27 four processes with a hundred requests each refresh once', { skip: skipWithoutRedis }, async (t) => {
  const { provider, apps } = await start(
    t,
    processes,
    { store: REDIS, session: { key: SESSION_KEY, store: true } },
    { accessTokenTtl: 10 }
  )
  const browser = client({ app: apps[0] as Injectable, baseUrl: BASE_URL })
  t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200)
  const cookie = browser.cookies.header(BASE_URL)
  provider.options.accessTokenTtl = 3600
  provider.clearRequests()
  const answers = await Promise.all(apps.flatMap((app) => Array.from({ length: 100 }, async () => {
    const { statusCode, rawPayload } = await app.inject({ url: '/token', headers: { cookie } })
    return `${statusCode} ${rawPayload.toString()}`
  })))
  t.equal(provider.count('token'), 1)
  t.same([new Set(answers).size, answers[0]?.slice(0, 3)], [1, '200'])
})

/** The cells of the tables in a text. */
function rowsOf (text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|') && !/^\|[ -]+\|[ |-]+$/.test(line))
  return lines.map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
}

t.test('R18 the command that causes faults prints the table of docs/operations.md', { skip: skipWithoutSqlite }, async (t) => {
  const run = async (...args: string[]): Promise<{ stdout: string }> =>
    await promisify(execFile)(process.execPath, [join(COMPILED, 'bench/faults.js'), ...args])
  const { stdout } = await run('--seconds', '0.3', '--only', 'sqlite-locked,jwks-hang')
  const page = readFileSync(join(import.meta.dirname, DOCS), 'utf8')
  const [header, ...rows] = rowsOf(stdout)
  const [documentedHeader, ...documented] = rowsOf(/(?<=\n## Faults\n)[^]*?(?=\n## )/.exec(page)?.[0] ?? '')
  t.same(header, documentedHeader)
  t.equal(rows.length, 2)
  for (const [title, meanwhile, checked, recovered] of rows) {
    t.ok(documented.some(([documented]) => documented === title), title as string)
    t.match(meanwhile, /^(?:\w[\w ]* (?:\d{3}|done)[\w ]* \(\d+\).*; )+slowest \d+\.\d s$/)
    t.match(checked, /^own page or 503: \d+; ended stays ended: \d+$/)
    t.match(recovered, /^(?:\d+\.\d s|no request failed)$/)
  }
  await t.rejects(run('--only', 'none'), { code: 1, stderr: /there is no fault none/ })
})

// The last test: the fourth process does not survive it. All modes share the one kill.
t.test(
  'R27 a process is killed while it refreshes: another one takes over, and no user is logged out',
  { skip: modes.every(({ skip }) => skip !== false) && 'no store' },
  async (t) => {
    const available = modes.filter(({ skip }) => skip === false)
    const before = await third.count('/token')
    const all: Array<{ name: string, provider: Provider, browser: TestBrowser, other: TestBrowser }> = []
    for (const { name, options } of available) {
      const { provider, apps: [doomed, survivor] } = await start(t, [fourth, third], options, { accessTokenTtl: 10 })
      const browser = client({ app: doomed as Injectable, baseUrl: BASE_URL })
      t.equal((await browser.goto('/auth/login?return_to=/me')).status, 200, name)
      const other = client({ app: survivor as Injectable, baseUrl: BASE_URL })
      for (const { name, value } of browser.cookies.list(BASE_URL)) other.cookies.set(name, value, BASE_URL)
      all.push({ name, provider, browser, other })
    }
    await Promise.all([third.advance(11), fourth.advance(11)]) // the access tokens have expired
    const refreshing = all.map(({ provider, browser }) => {
      provider.options.accessTokenTtl = 3600
      provider.clearRequests()
      provider.fault({ on: 'token', hang: true, times: 1 })
      return browser.fetch('/token').catch(() => 'lost')
    })
    await until(() => all.every(({ provider }) => provider.count('token') === 1))
    const waiting = all.map(async ({ other }) => await Promise.all([other.fetch('/token'), other.clone().fetch('/token')]))
    await until(async () => await third.count('/token') === before + 2 * all.length)
    fourth.kill()
    t.same(await Promise.all(refreshing), all.map(() => 'lost'))
    await third.advance(LEASE + 1)
    for (const [index, { name, provider, other }] of all.entries()) {
      t.same(
        (await waiting[index])?.map(({ status }) => status),
        [200, 200],
        `${name}: the requests that waited get a token`
      )
      t.equal(provider.count('token'), 2, `${name}: the request of the killed process, and one more`)
      t.equal((await other.fetch('/me')).status, 200, name)
    }
  }
)
