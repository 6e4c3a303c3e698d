import { answer, usage } from './answer.ts'
import { startLoad, type Load, type LoadOptions } from './load.ts'
import { logins, type LoginOptions } from './logins.ts'

/** What the driver's core does: it logs in, keeps the cookies, and makes the load with them. */

interface LoadCommand extends Omit<LoadOptions, 'cookies'> {
  /** How many of the sessions to use, or 0 for no Cookie header. */
  sessions: number
}

const sessions: string[] = []
let load: Load

answer({
  async createSessions (options: LoginOptions) {
    sessions.push(...await logins(options))
  },
  sessions: () => ({ distinct: new Set(sessions).size, bytes: sessions[0]?.length }),
  async login (options: LoginOptions) {
    await logins(options)
  },
  start (command: LoadCommand) {
    load = startLoad({ ...command, cookies: sessions.slice(0, command.sessions) })
  },
  counts: () => ({ ...load.counts(), ...usage() }),
  stop: () => load.stop()
})
