import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { figure, ratios } from './figures.ts'
import { measureLogins } from './login-cost.ts'
import { measureRequests, type Case, type Kind } from './requests.ts'
import { wanted } from './settings.ts'
import { openStage } from './stage.ts'
import { REDIS } from './stores.ts'
import { fixed, markdown, spread } from './table.ts'

/**
 * The plugin beside other libraries that log users in: a request with a session, and a login, in one run. All have the
 * same provider and the same client, and each its own framework. Prints a table in Markdown. The peers are installed
 * when they are needed.
 */

interface Party {
  name: string
  server: string
  /** Its framework alone. */
  bare: string
  framework: string
  login: string
  /** Whether a login costs more with each user that has logged in before, so that there is no figure for it. */
  grows?: boolean
  session: string
  checks: string
  /** Where npm installs it, if it is a peer. */
  module?: string
}

const FOLDER = fileURLToPath(new URL('../../bench/peers/', import.meta.url))

const parties: Party[] = [
  {
    name: 'fastify-oidc',
    server: 'plugin',
    bare: 'bare',
    framework: 'Fastify',
    login: '/auth/login',
    session: 'encrypted cookies',
    checks: 'signature, claims'
  },
  {
    name: 'express-openid-connect',
    server: 'peers/express',
    bare: 'peers/bare-express',
    framework: 'Express',
    login: '/login',
    session: 'encrypted cookies, sealed again for each response',
    checks: 'claims only',
    module: 'express-openid-connect'
  },
  {
    name: '@hono/oidc-auth',
    server: 'peers/hono',
    bare: 'peers/bare-hono',
    framework: 'Hono',
    login: '/me',
    session: 'a signed cookie, which is not encrypted; no access token',
    checks: 'claims only, and asks for the metadata twice',
    module: '@hono/oidc-auth'
  },
  {
    name: 'better-auth',
    server: 'peers/better-auth',
    bare: 'bare',
    framework: 'Fastify',
    login: '/login',
    grows: true,
    session: 'encrypted cookies, and users in memory',
    checks: 'signature, claims',
    module: 'better-auth'
  }
]

const { settings } = wanted(process.argv.slice(2))
const measured = parties.filter(({ module }) => module === undefined || isInstalled())
const stage = await openStage(settings, REDIS)
const { driver, options } = stage

const cases: Case[] = []
for (const { server, bare, login } of measured) {
  const kind: Kind = `peers/${server}`
  const sessions = settings.steadySessions
  await stage.makeSessions({ kind, count: sessions, server, login })
  cases.push({ server: bare, path: '/', kind, sessions }, { server, path: '/me', kind, sessions })
}
const results = await measureRequests(driver, cases, options, settings)
stage.note(results)
const loggingIn = [{ server: 'by-hand' }, ...measured.filter(({ grows }) => grows !== true)]
const [byHand, ...logins] = await measureLogins(driver, loggingIn, options, settings)
await stage.close()

const rows = measured.map(({ name, framework, session, checks, module, server }, at) => {
  const [bare, guarded] = results.slice(2 * at, 2 * at + 2) as [typeof results[0], typeof results[0]]
  const login = logins[loggingIn.findIndex((each) => each.server === server) - 1]
  const guard = figure(guarded.cpu.map((value, round) => value - (bare.cpu[round] as number)))
  return [
    module === undefined ? `**${name}**` : `${name} ${versionOf(module)}`,
    framework,
    fixed(figure(guarded.rate).median),
    spread(figure(guarded.cpu), 0),
    spread(guard, 0),
    ...login === undefined
      ? ['–', '–']
      : [spread(figure(login.map((micros) => micros / 1000))), spread(ratios(login, byHand as number[]))],
    session,
    checks
  ]
})
console.log(stage.conditions())
console.log()
console.log(markdown([
  [
    '', 'framework', 'guarded requests per second', 'CPU of a guarded request, µs', 'of that the guard, µs', 'CPU of a login, ms',
    'openid-client by hand = 1', 'session', 'checks of the ID token'
  ],
  ...rows
]))

/** Installs the peers, once. */
function isInstalled (): boolean {
  if (existsSync(`${FOLDER}node_modules`)) return true
  console.error('installs the peers in bench/peers')
  const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--fetch-retries=0', '--loglevel=error']
  const { status } = spawnSync('npm', args, { cwd: FOLDER, stdio: ['ignore', 2, 2] })
  if (status !== 0) console.error('the peers cannot be installed: their rows are left out')
  return status === 0
}

function versionOf (name: string): string {
  const text = readFileSync(`${FOLDER}node_modules/${name}/package.json`, 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
