import { createDeviceCodes } from './broker/device-codes.ts'
import { createChallenge } from './guard/challenge.ts'
import { createDeny } from './guard/deny.ts'
import { createGuards } from './guard/guards.ts'
import { createLoginProvider } from './guard/login-provider.ts'
import { createCookieNames } from './http/cookie-names.ts'
import { createParseRefresh } from './guard/refresh.ts'
import { createUpdateUser } from './guard/update-user.ts'
import { joinCookieSpace } from './http/cookie-space.ts'
import { createErrorResponses } from './http/error-response.ts'
import { createOwnOrigin } from './http/own-origin.ts'
import { createPages } from './http/pages.ts'
import { createUrls } from './http/urls.ts'
import { createAcceptLogin } from './login/accept-login.ts'
import { createGuardedLogins } from './login/guarded-logins.ts'
import { createLogin } from './login/login.ts'
import { createPendingLogins } from './login/pending-logins.ts'
import { createSilentLogin } from './login/silent-login.ts'
import { createStepUp } from './login/step-up.ts'
import { createEndSessions } from './logout/end-sessions.ts'
import { createLogout } from './logout/logout.ts'
import { createConnections } from './provider/connections.ts'
import { createProviders } from './provider/providers.ts'
import { createSealer } from './sealer.ts'
import { createAccessToken } from './session/access-token.ts'
import { createEndedSessions, marksInStore, sessionsInStore } from './session/ended-sessions.ts'
import { createKeptTokens, nothingKept } from './session/kept-tokens.ts'
import { createRefreshes } from './session/refresh-once.ts'
import { createReportEnd } from './session/report-end.ts'
import { createSessionCookies } from './session/session-cookies.ts'
import { createSessionRecords } from './session/session-records.ts'
import { createSessions } from './session/sessions.ts'
import { createUserClaims } from './session/user-claims.ts'
import { createUserinfo } from './session/userinfo.ts'
import { openSealedStore } from './store/open-sealed-store.ts'
import { createSeen } from './store/seen.ts'
import { createTelemetry } from './telemetry.ts'
import type { FastifyInstance } from 'fastify'
import type { GrantTypesParts } from './broker/grant-types/index.ts'
import type { BearerParts } from './guard/bearer.ts'
import type { DpopParts } from './guard/dpop.ts'
import type { Settings } from './options/settings.ts'
import type { SharedMarks } from './session/ended-sessions.ts'
import type { SessionRecords } from './session/session-records.ts'
import type { SealedStore } from './store/sealed-store.ts'

/** The parts of one registration of the plugin. */
export type Parts = Awaited<ReturnType<typeof compose>>

/**
 * Builds the parts from the bottom up. Each part gets only the parts that it names. What not every application has is
 * loaded where it is configured.
 */
export async function compose (app: FastifyInstance, settings: Settings) {
  const { log } = app
  const { defaultReturnTo, onError, onLogout, onClaims, session: { maxAge } } = settings

  const telemetry = await createTelemetry(settings)
  const sealer = await createSealer(app, settings)
  const urls = createUrls(settings, app.prefix)
  const ownOrigin = createOwnOrigin(settings)
  const pages = createPages(settings)
  const store = await openSealedStore(app, settings, sealer, telemetry.storeCall)
  const connections = createConnections()
  app.addHook('onClose', async () => connections.close())
  const providers = createProviders(settings, log, connections, telemetry.requestsTo)

  const records = store !== undefined && settings.session.inStore ? createSessionRecords(store) : undefined
  const endedSessions = createEndedSessions(settings.session, sharedMarks(store, records))
  const reportEnd = createReportEnd({ log, telemetry, onLogout })
  const { maxHeaderSize } = app.server as { maxHeaderSize?: number }
  const cookieNames = createCookieNames(settings, sealer)
  const space = joinCookieSpace(new URL(settings.baseUrl).hostname, cookieNames, maxHeaderSize)
  app.addHook('onClose', async () => space.leave())
  const cookies = createSessionCookies(settings, sealer, space)
  const sessions = createSessions(settings.session, { cookies, providers, endedSessions, records, reportEnd })
  const errorResponses = createErrorResponses({
    urls, pages, telemetry, digestOf: sessions.digest, defaultReturnTo, onError
  })
  const kept = records === undefined ? createKeptTokens(store) : nothingKept
  const userClaims = createUserClaims({ settings, log, telemetry })
  const refreshes = createRefreshes({ log, telemetry, store, kept, userinfo: userClaims.renewedUserinfo })
  const accessToken = createAccessToken({ sessions, refreshes, kept, userClaims })
  const userinfo = createUserinfo({ sessions, accessToken, telemetry })

  const pendingLogins = createPendingLogins(settings, { sealer, taken: createSeen(store), space })
  const stepUp = createStepUp(sealer, pendingLogins)
  const login = createLogin({ session: settings.session, urls, pages, pendingLogins, stepUp, sessions, telemetry })
  const silentLogin = createSilentLogin({ session: settings.session, sealer, sessions, login, urls })
  const guardedLogins = createGuardedLogins({ session: settings.session, sealer })
  const acceptLogin = createAcceptLogin({ onClaims, userClaims, urls })

  const { broker, codes, peers, nativeLogins } = store === undefined || settings.broker === undefined
    ? NO_BROKER
    : (await import('./broker/compose-broker.ts')).composeBroker(settings, settings.broker, {
        log,
        store,
        sealer,
        connections,
        telemetry,
        errorResponses,
        pages,
        providers,
        endedSessions,
        refreshes: createRefreshes({ log, telemetry, store, kept: nothingKept }),
        userClaims
      })

  const stopWatching = telemetry.watchKeys({
    providers: () => providers.all().map(({ name, keysAge }) => [name, keysAge()]),
    signing: () => broker?.keys.age()
  })
  app.addHook('onClose', async () => stopWatching())

  const bearer = await composeBearer(settings.bearer, {
    urls,
    sealer,
    used: createSeen(store),
    providers,
    own: broker === undefined ? [] : [broker.tokenIssuer],
    peers
  })
  const challenge = createChallenge({ bearer, urls })
  const loginProvider = createLoginProvider({ providers, sessions })
  const denyFor = createDeny({
    bearer, challenge, errorResponses, guardedLogins, login, loginProvider, sessions, stepUp, urls
  })
  const parseRefresh = createParseRefresh({ settings, sessions, accessToken })
  const guards = createGuards({
    settings,
    ownOrigin,
    sessions,
    parseRefresh,
    bearer,
    silentLogin,
    guardedLogins,
    loginProvider,
    errorResponses,
    denyFor
  })
  const updateUser = createUpdateUser({ guards, sessions })

  const deviceCodes = createDeviceCodes(sealer)
  const grantTypes = await composeGrantTypes(settings.tokenRoutes, {
    urls,
    broker,
    codes,
    bearer,
    deviceCodes,
    providers,
    endedSessions,
    acceptLogin,
    telemetry,
    defaultReturnTo,
    maxAge
  })

  const logout = createLogout({
    routes: settings.routes,
    urls,
    pages,
    sealer,
    providers,
    sessions,
    refreshes,
    pendingLogins,
    guardedLogins,
    silentLogin,
    telemetry
  })
  const endSessions = createEndSessions({ settings, endedSessions, records, reportEnd, broker, bearer })
  const seenLogoutTokens = createSeen(store)

  return {
    log,
    settings,
    telemetry,
    sealer,
    urls,
    pages,
    ownOrigin,
    errorResponses,
    providers,
    store,
    records,
    endedSessions,
    cookies,
    sessions,
    accessToken,
    userinfo,
    pendingLogins,
    login,
    guardedLogins,
    silentLogin,
    stepUp,
    acceptLogin,
    broker,
    deviceCodes,
    grantTypes,
    nativeLogins,
    bearer,
    challenge,
    parseRefresh,
    guards,
    updateUser,
    logout,
    endSessions,
    seenLogoutTokens
  }
}

const NO_BROKER = { broker: undefined, codes: undefined, peers: [], nativeLogins: undefined }

/** DPoP is loaded where it is accepted. */
async function composeBearer (
  settings: Settings['bearer'],
  { urls, sealer, used, ...parts }: DpopParts & Omit<BearerParts, 'proofs'>
) {
  if (settings === undefined) return undefined
  const { createBearer } = await import('./guard/bearer.ts')
  const proofs = settings.dpop
    ? (await import('./guard/dpop.ts')).createDpopProofs(settings, { urls, sealer, used })
    : undefined
  return createBearer(settings, { ...parts, proofs })
}

/** Those of the endpoints for programs, if there is one. */
async function composeGrantTypes ({ token, device }: Settings['tokenRoutes'], parts: GrantTypesParts) {
  if (token === null && device === null) return []
  return (await import('./broker/grant-types/index.ts')).createGrantTypes(parts)
}

function sharedMarks (
  store: SealedStore | undefined,
  records: SessionRecords | undefined
): SharedMarks | undefined {
  if (store === undefined) return undefined
  return records === undefined ? marksInStore(store) : sessionsInStore(store, records)
}
