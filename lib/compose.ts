import { createBearer } from './guard/bearer.ts'
import { createBroker } from './broker/broker.ts'
import { createTrustedIssuers } from './broker/trusted-issuers.ts'
import { createSeen } from './store/seen.ts'
import { createPendingLogins } from './login/pending-logins.ts'
import { createProviders } from './provider/providers.ts'
import { createSealer } from './sealer.ts'
import { createSessionCookies } from './session/session-cookies.ts'
import { createRefreshes } from './session/refresh-once.ts'
import { createEndedSessions, marksInStore, sessionsInStore } from './session/ended-sessions.ts'
import { createSessionRecords } from './session/session-records.ts'
import { createSessions } from './session/sessions.ts'
import { openStore } from './store/open.ts'
import { createTelemetry } from './telemetry.ts'
import { createTransport } from './provider/transport.ts'
import { createUrls } from './http/urls.ts'
import { createSealedStore } from './store/sealed-store.ts'
import type { FastifyInstance } from 'fastify'
import type { Bearer } from './guard/bearer.ts'
import type { TokenIssuer } from './provider/token-issuer.ts'
import type { Broker } from './broker/broker.ts'
import type { Seen } from './store/seen.ts'
import type { Settings } from './options/settings.ts'
import type { PendingLogins } from './login/pending-logins.ts'
import type { Providers } from './provider/providers.ts'
import type { Sealer } from './sealer.ts'
import type { SessionCookies } from './session/session-cookies.ts'
import type { Sessions } from './session/sessions.ts'
import type { Telemetry } from './telemetry.ts'
import type { Urls } from './http/urls.ts'
import type { OidcError } from './errors.ts'
import type { Refreshes } from './session/refresh-once.ts'
import type { EndedSessions } from './session/ended-sessions.ts'
import type { SessionRecords } from './session/session-records.ts'
import type { SealedStore } from './store/sealed-store.ts'
import type { Oidc } from '../types/fastify.ts'
import type { Store } from '../types/store.ts'

/** The parts of one registration of the plugin. */
export interface Core {
  log: FastifyInstance['log']
  settings: Settings
  urls: Urls
  sealer: Sealer
  providers: Providers
  pending: PendingLogins
  sessionCookies: SessionCookies
  sessions: Sessions
  registry: EndedSessions
  refreshes: Refreshes
  /** Where this application issues tokens. */
  broker: Broker | undefined
  /** Where access tokens are taken. */
  bearer: Bearer | undefined
  /** Sessions in the store, where they are there. */
  records: SessionRecords | undefined
  /** The store, where there is one. */
  vault: SealedStore | undefined
  memory: Seen
  telemetry: Telemetry
}

export async function createCore (app: FastifyInstance, settings: Settings): Promise<Core> {
  const sealer = await createSealer(app, settings)
  const sessionCookies = createSessionCookies(settings, sealer)
  const providers = createProviders(settings)
  const vault = settings.store === undefined ? undefined : await createStoreVault(app, settings, settings.store, sealer)
  const records = vault !== undefined && settings.session.inStore ? createSessionRecords(vault) : undefined
  const elsewhere =
    vault === undefined ? undefined : records === undefined ? marksInStore(vault) : sessionsInStore(vault, records)
  const registry = createEndedSessions(settings.session, elsewhere)
  const telemetry = await createTelemetry(settings.telemetry)
  const refreshes = createRefreshes(telemetry, vault)
  const broker =
    vault === undefined || settings.broker === undefined
      ? undefined
      : createBroker(settings, settings.broker, {
        log: app.log,
        vault,
        sealer,
        providers,
        registry,
        refreshes,
        telemetry
      })
  const peers =
    vault === undefined || settings.broker === undefined
      ? []
      : createTrustedIssuers(settings.broker, createTransport(settings.transport), vault)
  const own = broker === undefined ? [] : [voucherOf(broker)]
  const bearer =
    settings.bearer === undefined
      ? undefined
      : createBearer(settings.bearer, { baseUrl: settings.baseUrl, providers, sealer, vault, own, peers })
  return {
    log: app.log,
    settings,
    urls: createUrls(settings, app.prefix),
    sealer,
    providers,
    pending: createPendingLogins(settings, sealer, vault),
    sessionCookies,
    sessions: createSessions(settings, { cookies: sessionCookies, providers, registry, records }),
    registry,
    refreshes,
    broker,
    bearer,
    records,
    vault,
    memory: createSeen(vault),
    telemetry
  }
}

function voucherOf ({ settings: { issuer }, keys, verify, isLive }: Broker): TokenIssuer {
  return {
    name: 'broker',
    settings: { issuer, clientId: '', clockTolerance: 0 },
    keys: keys.known,
    verifyAccessToken: verify,
    isLive,
    providerOf: ({ idp }) => idp as string
  }
}

/** How often what has expired is thrown away, in milliseconds. */
const PURGE_EVERY = 600_000

async function createStoreVault (
  app: FastifyInstance,
  { baseUrl, prefix, session: { cookieName } }: Settings,
  store: Store | string,
  sealer: Sealer
): Promise<SealedStore> {
  const vault = createSealedStore(await openStore(store), sealer, [baseUrl, prefix, cookieName])
  const timer = setInterval(() => {
    vault
      .purge()
      .catch((error: OidcError) =>
        app.log.warn({ code: error.code, detail: error.detail }, 'the store could not be purged')
      )
  }, PURGE_EVERY).unref()
  app.addHook('onClose', async () => {
    clearInterval(timer)
    // A store of the caller's own is the caller's to close.
    if (typeof store === 'string') await vault.close()
  })
  return vault
}

const cores = new WeakMap<Oidc, Core>()

/** Lets the test kit find the parts behind `app.oidc`. */
export function rememberCore (oidc: Oidc, core: Core): void {
  cores.set(oidc, core)
}

export function coreOf (oidc: Oidc): Core {
  return cores.get(oidc) as Core
}
