import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import { startServer, type Child } from './child.ts'
import { logins } from './logins.ts'
import type { ServerOptions } from './servers/serve.ts'

export const REDIS = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'

const PROCESSES = 4
const PARALLEL = 100
const SESSIONS_OF_ONE = 1000
const IN_MEMORY = { sessions: 100_000, tokens: 10_000, cookies: 4096 }
const MOST_MEGABYTES = 250

export async function redisAnswers (): Promise<boolean> {
  const { hostname, port } = new URL(REDIS)
  const socket = connect({ host: hostname, port: Number(port || 6379) })
  const answers = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return answers
}

/** Measures stores by more than requests per second: the rows that `isWanted` names. */
export async function reportStores (
  provider: Child,
  options: ServerOptions,
  hasRedis: boolean,
  isWanted: (...letters: string[]) => boolean
): Promise<string[][]> {
  const stored = { ...options, store: REDIS }
  const rows = [['stores', '', '']]
  if (hasRedis && isWanted('k')) rows.push(await refreshRow(provider, stored))
  if (hasRedis && isWanted('l')) rows.push(await logoutRow(provider, stored))
  if (!hasRedis && isWanted('k', 'l')) rows.push([`k, l  skipped: no Redis at ${new URL(REDIS).host}`])
  if (isWanted('m', 'u', 'v')) rows.push(...await memoryRows(provider, options))
  return rows
}

async function refreshRow (provider: Child, options: ServerOptions): Promise<string[]> {
  const servers = await Promise.all(Array.from({ length: PROCESSES }, () => start(options)))
  await provider.ask('configure', { expiresIn: 10 })
  const [cookie] = (await logins({
    port: servers[0]?.port as number,
    count: 1,
    concurrency: 1
  })) as [string]
  await provider.ask('configure', { expiresIn: 3600 })
  const before = await provider.ask<number>('refreshes')
  const began = performance.now()
  const statuses = await Promise.all(
    servers.flatMap(({ port }) => Array.from({ length: PARALLEL }, () => send(port, '/token', { cookie })))
  )
  const took = performance.now() - began
  const asked = await provider.ask<number>('refreshes') - before
  check(statuses.every((status) => status === 200), 'a refresh failed')
  await Promise.all(servers.map(({ server }) => server.stop()))
  return [
    `k  ${PROCESSES} × ${PARALLEL} parallel requests, one refresh of 100 ms`,
    `${asked} token request${asked === 1 ? '' : 's'}, ${took.toFixed(0)} ms`,
    asked === 1 ? 'met' : 'NOT MET'
  ]
}

async function logoutRow (provider: Child, options: ServerOptions): Promise<string[]> {
  const { server, port } = await start(options)
  await provider.ask('configure', { sub: 'many', expiresIn: 3600 })
  const cookies = await logins({ port, count: SESSIONS_OF_ONE, concurrency: 8 })
  await provider.ask('configure', { expiresIn: 3600 })
  const body = `logout_token=${await provider.ask<string>('logoutToken', { issuer: options.issuer, sub: 'many' })}`
  const began = performance.now()
  check(
    (await send(port, '/auth/backchannel-logout', { 'content-type': 'application/x-www-form-urlencoded' }, body)) ===
      200,
    'the logout failed'
  )
  const took = performance.now() - began
  const statuses = await Promise.all(cookies.map((cookie) => send(port, '/me', { cookie })))
  check(statuses.every((status) => status === 401), 'a session is still valid')
  await server.stop()
  return [
    `l  back-channel logout of one user with ${SESSIONS_OF_ONE.toLocaleString('en')} sessions`,
    `${took.toFixed(0)} ms`,
    ''
  ]
}

async function memoryRows (provider: Child, options: ServerOptions): Promise<string[][]> {
  const { issuer } = options
  const sessions = await inMemory<number>('sessions', { ...options, count: IN_MEMORY.sessions })
  const tokens = await provider.ask<string[]>('accessTokens', { issuer, count: IN_MEMORY.tokens })
  const verified = await inMemory<number>('tokens', { ...options, tokens })
  const claims = await provider.ask<object>('claims')
  const opened = await inMemory<{ bytes: number, characters: number }>('cookies', {
    ...options, claims, count: IN_MEMORY.cookies
  })
  const met = sessions <= MOST_MEGABYTES * 2 ** 20 ? 'met' : 'NOT MET'
  return [
    [`m  ${thousands(IN_MEMORY.sessions)} sessions in a memory store`, megabytes(sessions), `≤ ${MOST_MEGABYTES} ${met}`],
    [`u  ${thousands(IN_MEMORY.tokens)} verified access tokens of ${tokens[0]?.length} bytes`, megabytes(verified), ''],
    [`v  ${thousands(IN_MEMORY.cookies)} opened sessions with ${opened.characters} bytes of cookies`, megabytes(opened.bytes), '']
  ]
}

async function inMemory<T> (command: string, args: unknown): Promise<T> {
  const server = startServer('memory', 'any', ['--expose-gc'])
  const result = await server.ask<T>(command, args)
  await server.stop()
  return result
}

function megabytes (bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MB`
}

function thousands (count: number): string {
  return count.toLocaleString('en')
}

async function start (options: ServerOptions): Promise<{ server: Child, port: number }> {
  const server = startServer('plugin', 'any')
  return { server, port: await server.ask('listen', options) }
}

const agent = new Agent({ keepAlive: true, maxSockets: Infinity })

async function send (port: number, path: string, headers: Record<string, string>, body = ''): Promise<number> {
  const sent = request({ agent, host: '127.0.0.1', port, path, method: body === '' ? 'GET' : 'POST', headers }).end(
    body
  )
  const [response] = await once(sent, 'response')
  response.resume()
  await once(response, 'end')
  return response.statusCode
}

function check (condition: boolean, problem: string): void {
  if (!condition) throw new Error(problem)
}
