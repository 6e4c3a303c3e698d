import { startChild } from '../child.ts'
import { openRemote } from './remote.ts'
import type { Child } from '../child.ts'
import type { ListenCommand, ProcessReport } from './app.ts'
import type { ApplicationOptions } from './application.ts'
import type { Answer, Remote, Sent } from './remote.ts'

/** One process of the application. */
export interface AppProcess extends Remote {
  ask: Child['ask']
}

export interface Processes {
  all: AppProcess[]
  /** Kills the last process, as `kill -9` does. */
  killLast: () => Promise<void>
  /** Starts it again, at the same port. */
  startLast: () => Promise<void>
  reports: () => Promise<ProcessReport[]>
  stop: () => Promise<void>
}

/** Starts the processes of the application. `watch` is called with every response. */
export async function startProcesses (
  count: number,
  options: ApplicationOptions,
  watch: (sent: Sent, answer: Answer, sentAt: number) => void
): Promise<Processes> {
  const children: Child[] = []
  const ports: number[] = []

  async function start (index: number): Promise<void> {
    const child = startChild('soak/app', 'any', ['--expose-gc'])
    children[index] = child
    const command: ListenCommand = { options, port: ports[index] ?? 0 }
    ports[index] = await child.ask('listen', command)
  }

  const indexes = Array.from({ length: count }, (_, index) => index)
  await Promise.all(indexes.map(start))
  const all = ports.map((port, index): AppProcess => ({
    ...openRemote(port, watch),
    ask: async (command, args) => await (children[index] as Child).ask(command, args)
  }))

  return {
    all,
    killLast: async () => await (children.at(-1) as Child).kill(),
    startLast: async () => await start(count - 1),
    reports: async () => await Promise.all(children.map(async (child) => await child.ask<ProcessReport>('report'))),
    async stop () {
      for (const { close } of all) close()
      await Promise.all(children.map(async (child) => await child.ask('close')))
      await Promise.all(children.map(async (child) => await child.stop()))
    }
  }
}
