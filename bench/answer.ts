type Commands = Record<string, (args: never) => unknown>

interface Question { id: number, command: string, args: unknown }

/** The child's side of `child.ts`: runs one function for each command that arrives over IPC. */
export function answer (commands: Commands): void {
  process.on('message', (question: Question) => respond(commands, question))
  process.on('disconnect', () => process.exit())
}

async function respond (commands: Commands, { id, command, args }: Question): Promise<void> {
  try {
    const run = commands[command] as (args: unknown) => unknown
    process.send?.({ id, result: await run(args) })
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? error.stack : String(error) })
  }
}

export interface Usage {
  /** CPU time of this process, user and system, in microseconds. */
  cpu: number
  /** Time of the monotonic clock, in microseconds. Comparable between processes. */
  at: number
}

export function usage (): Usage {
  const { user, system } = process.cpuUsage()
  return { cpu: user + system, at: Number(process.hrtime.bigint() / 1000n) }
}
