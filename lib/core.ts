import { createPendingLogins } from './pending.ts'
import { createProvider } from './provider.ts'
import { createSealer } from './seal.ts'
import { createSessionCookies } from './session-cookies.ts'
import { createSessions } from './session.ts'
import { createTelemetry } from './telemetry.ts'
import { createTransport } from './transport.ts'
import { createUrls } from './urls.ts'
import type { FastifyInstance } from 'fastify'
import type { Settings } from './options.ts'
import type { PendingLogins } from './pending.ts'
import type { Provider } from './provider.ts'
import type { Sealer } from './seal.ts'
import type { SessionCookies } from './session-cookies.ts'
import type { Sessions } from './session.ts'
import type { Telemetry } from './telemetry.ts'
import type { Urls } from './urls.ts'
import type { Oidc } from '../types/fastify.ts'

/** The parts of one registration of the plugin. */
export interface Core {
  settings: Settings
  urls: Urls
  sealer: Sealer
  provider: Provider
  pending: PendingLogins
  sessionCookies: SessionCookies
  sessions: Sessions
  telemetry: Telemetry
}

export async function createCore (app: FastifyInstance, settings: Settings): Promise<Core> {
  const sealer = await createSealer(app, settings)
  const sessionCookies = createSessionCookies(settings, sealer)
  return {
    settings,
    urls: createUrls(settings, app.prefix),
    sealer,
    provider: createProvider(settings.provider, createTransport(settings)),
    pending: createPendingLogins(settings, sealer),
    sessionCookies,
    sessions: createSessions(settings, sessionCookies),
    telemetry: await createTelemetry(settings.telemetry)
  }
}

const cores = new WeakMap<Oidc, Core>()

/** Lets the test kit find the parts behind `app.oidc`. */
export function rememberCore (oidc: Oidc, core: Core): void {
  cores.set(oidc, core)
}

export function coreOf (oidc: Oidc): Core {
  return cores.get(oidc) as Core
}
