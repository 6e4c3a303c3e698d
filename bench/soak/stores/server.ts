import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChildProcess, SpawnOptions } from 'node:child_process'
import type { AddressInfo } from 'node:net'

/** A server program that the soak runs for itself. */
export interface OwnServer {
  /** Starts it, and waits until it accepts connections. */
  start: () => Promise<void>
  /** Ends it at once, as a crash does. */
  crash: () => Promise<void>
}

const MAX_START = 60_000 // milliseconds

export function isInstalled (program: string): boolean {
  return spawnSync(program, ['--version']).status === 0
}

/** A folder that is removed when the soak ends. */
export function temporaryFolder (name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `oidc-soak-${name}-`))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export function createOwnServer (program: string, args: string[], port: number, options: SpawnOptions): OwnServer {
  let child: ChildProcess | undefined
  const hasEnded = (): boolean => child?.exitCode !== null || child.signalCode !== null
  // Also when the soak itself fails.
  process.on('exit', () => child?.kill('SIGKILL'))

  async function open (): Promise<void> {
    child = spawn(program, args, { ...options, stdio: 'ignore' })
    await once(child, 'spawn')
  }

  return {
    async start () {
      await open()
      const end = performance.now() + MAX_START
      while (!await accepts(port)) {
        if (performance.now() > end) throw new Error(`${program} does not start`)
        await sleep(50)
        // After a crash, PostgreSQL does not start before the last process of the old server has ended.
        if (hasEnded()) await open()
      }
    },
    async crash () {
      if (hasEnded()) return
      child?.kill('SIGKILL')
      await once(child as ChildProcess, 'exit')
    }
  }
}

async function accepts (port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' })
  const isReached = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return isReached
}
