type Commands = Record<string, (args: never) => unknown>

interface Question { id: number, command: string, args: unknown }

/** The child's end of `child.ts`: runs one function per question that arrives over IPC. */
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
  /** Microseconds of CPU that this process has used, in user and kernel mode. */
  cpu: number
  /** Microseconds on the machine's monotonic clock, comparable between processes. */
  at: number
}

export function usage (): Usage {
  const { user, system } = process.cpuUsage()
  return { cpu: user + system, at: Number(process.hrtime.bigint() / 1000n) }
}
