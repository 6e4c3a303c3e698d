import { partsOf } from '../../lib/decorator.ts'
import { startClock } from '../../lib/testing/index.ts'
import { ORIGIN, buildApplication } from './application.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Parts } from '../../lib/compose.ts'
import type { Provider } from '../../lib/provider/provider.ts'
import type { ApplicationOptions } from './application.ts'

/** The cookie of a pending login, and its state. */
export interface ForgedLogin {
  cookie: string
  state: string
}

/** Pending logins that have expired. Only the holder of the key can create them. */
export interface ForgedLogins {
  late: () => ForgedLogin
  /** An expired login that was already restarted once. */
  restarted: () => ForgedLogin
  close: () => Promise<void>
}

export async function createForgedLogins (options: ApplicationOptions): Promise<ForgedLogins> {
  const { app, oidc } = await buildApplication({ ...options, store: { url: undefined, hasSessions: false } })
  await app.ready()
  const parts = partsOf(oidc)
  return {
    late: () => forge(parts, false),
    restarted: () => forge(parts, true),
    close: async () => await app.close()
  }
}

/** Creates a login that began more than eleven minutes ago. Only this function runs with the clock set back. */
function forge ({ pendingLogins, providers }: Parts, restarted: boolean): ForgedLogin {
  const clock = startClock()
  clock.advance(-700)
  const lines: string[] = []
  const reply = { header: (_name: string, line: string) => lines.push(line) } as unknown as FastifyReply
  const provider = providers.all()[0] as Provider
  const request = { method: 'GET', headers: {} } as FastifyRequest
  const content = { provider: provider.id, returnTo: `${ORIGIN}/late`, silent: false, restarted }
  const login = pendingLogins.begin(request, content)
  pendingLogins.save(request, reply, provider, login)
  clock.restore()
  return { cookie: lines[0]?.split(';', 1)[0] as string, state: login.state }
}
