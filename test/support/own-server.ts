import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChildProcess, SpawnOptions } from 'node:child_process'
import type { Teardown } from './app.ts'

/** A server in a process of its own, which ends with the test. */
export interface OwnServer {
  /** As a host that is dead: connections stay, and nothing answers. */
  freeze: () => void
  thaw: () => void
  /** Ends it, as in a crash. */
  end: () => Promise<void>
  /** Starts it again, with what is in its folder. */
  start: () => Promise<void>
}

/** An empty folder, which is removed at the end. */
export function temporaryFolder (t: Teardown, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `oidc-${name}-`))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Starts a server. `crash` is the signal that ends it. */
export async function startServer (
  t: Teardown,
  [command, ...args]: readonly [string, ...string[]],
  { crash = 'SIGKILL', ...options }: SpawnOptions & { crash?: NodeJS.Signals } = {}
): Promise<OwnServer> {
  let child: ChildProcess
  async function start (): Promise<void> {
    child = spawn(command, args, { stdio: 'ignore', ...options })
    await once(child, 'spawn')
  }
  async function end (): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGCONT')
    child.kill(crash)
    await once(child, 'exit')
  }
  await start()
  t.teardown(end)
  return { start, end, freeze: () => { child.kill('SIGSTOP') }, thaw: () => { child.kill('SIGCONT') } }
}
