import { coreOf } from '../../lib/compose.ts'
import { startClock } from '../../lib/testing/index.ts'
import { ORIGIN, buildApplication } from './application.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../../lib/compose.ts'
import type { Provider } from '../../lib/provider/provider.ts'
import type { ApplicationOptions } from './application.ts'

/** The cookie of a pending login, and its state. */
export interface ForgedLogin {
  cookie: string
  state: string
}

/** Pending logins that only the holder of the key can make: they have waited for too long. */
export interface ForgedLogins {
  late: () => ForgedLogin
  /** One that had been late before. */
  restarted: () => ForgedLogin
  close: () => Promise<void>
}

export async function createForgedLogins (options: ApplicationOptions): Promise<ForgedLogins> {
  const app = await buildApplication(options)
  await app.ready()
  const core = coreOf(app.oidc)
  return {
    late: () => forge(core, false),
    restarted: () => forge(core, true),
    close: async () => await app.close()
  }
}

/** Begun eleven minutes and more ago: nothing but this function sees the clock that is set back. */
function forge ({ pending, providers }: Core, restarted: boolean): ForgedLogin {
  const clock = startClock()
  clock.advance(-700)
  const lines: string[] = []
  const reply = { header: (_name: string, line: string) => lines.push(line) } as unknown as FastifyReply
  const provider = providers.all()[0] as Provider
  const login = { ...pending.create(), provider: provider.id, returnTo: `${ORIGIN}/late`, silent: false, restarted }
  pending.save({ headers: {} } as FastifyRequest, reply, provider, login)
  clock.restore()
  return { cookie: lines[0]?.split(';', 1)[0] as string, state: login.state }
}
