import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The server under test has its own core, and the driver has the other. `any`: the system chooses. */
export type Core = 'server' | 'driver' | 'any'

export interface Child {
  ask<T>(command: string, args?: unknown): Promise<T>
  stop(): Promise<void>
  /** Ends it at once, as `kill -9` does. What was asked is then not answered. */
  kill(): Promise<void>
  pid: number
}

interface Reply { id: number, result?: unknown, error?: string }

interface Waiting { resolve: (result: unknown) => void, reject: (error: Error) => void }

// Express does less in production. Fastify does the same, and the plugin refuses a provider without TLS there.
const OF_PEERS = { ...process.env, NODE_ENV: 'production' }
const cores = { server: '0', driver: '1' }

/** Whether each side can be pinned to its own core. */
export const pinned = Object.values(cores).every(core =>
  spawnSync('taskset', ['-c', core, 'true']).status === 0)

/** Returns the command line that runs `argv` on one core, or on any core when pinning is not possible. */
export function onCore (core: Core, argv: string[]): [string, string[]] {
  const [command, ...args] = pinned && core !== 'any' ? ['taskset', '-c', cores[core], ...argv] : argv
  return [command as string, args]
}

/**
 * Starts a file of this directory, named without its extension, as a child process that answers commands. Those in
 * `peers` are not compiled.
 */
export function startChild (file: string, core: Core, nodeOptions: string[] = []): Child {
  const name = isPeer(file) ? `../../bench/${file}.mjs` : `./${file}${extname(import.meta.url)}`
  const path = fileURLToPath(new URL(name, import.meta.url))
  const [command, args] = onCore(core, [process.execPath, ...nodeOptions, path])
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: isPeer(file) ? OF_PEERS : process.env })
  const waiting = new Map<number, Waiting>()
  child.on('message', (reply: Reply) => settle(waiting, reply))
  child.on('exit', () => rejectAll(waiting, new Error(`${file} exited too early`)))
  return { ask: asker(child, waiting), stop: () => stop(child), kill: () => kill(child), pid: child.pid as number }
}

/** Starts a server under test: a file of `servers`, or of `peers`. */
export function startServer (name: string, core: Core = 'server', nodeOptions?: string[]): Child {
  return startChild(isPeer(name) ? name : `servers/${name}`, core, nodeOptions)
}

function isPeer (name: string): boolean {
  return name.startsWith('peers/')
}

function asker (child: ChildProcess, waiting: Map<number, Waiting>): Child['ask'] {
  let id = 0
  return <T>(command: string, args?: unknown) => new Promise<T>((resolve, reject) => {
    id += 1
    waiting.set(id, { resolve: resolve as Waiting['resolve'], reject })
    child.send({ id, command, args })
  })
}

function settle (waiting: Map<number, Waiting>, { id, result, error }: Reply): void {
  const { resolve, reject } = waiting.get(id) as Waiting
  waiting.delete(id)
  if (error === undefined) resolve(result)
  else reject(new Error(error))
}

function rejectAll (waiting: Map<number, Waiting>, error: Error): void {
  for (const { reject } of waiting.values()) reject(error)
}

function stop (child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    child.once('exit', () => resolve())
    child.disconnect()
  })
}

function kill (child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
