import { reasonOf } from '../errors.ts'
import { logCompleted } from '../http/completed.ts'
import { isScript } from '../http/fetch-metadata.ts'
import { redirect, redirectAway } from '../http/redirect.ts'
import { postPage } from '../pages/pages.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Pages } from '../http/pages.ts'
import type { Urls } from '../http/urls.ts'
import type { GuardedLogins } from '../login/guarded-logins.ts'
import type { PendingLogins } from '../login/pending-logins.ts'
import type { SilentLogin } from '../login/silent-login.ts'
import type { RouteSettings } from '../options/routes.ts'
import type { Provider } from '../provider/provider.ts'
import type { Providers } from '../provider/providers.ts'
import type { Sealer } from '../sealer.ts'
import type { Refreshes } from '../session/refresh-once.ts'
import type { SessionTokens } from '../session/session.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Telemetry } from '../telemetry.ts'
import type { OidcTokens } from '../../types/claims.ts'

/** Ends the session here, then at the provider (OpenID Connect RP-Initiated Logout 1.0, section 2). */
export type Logout = (request: FastifyRequest, reply: FastifyReply, options: LogoutRequest) => Promise<void>

export interface LogoutRequest {
  /** A URL that `urls` made. */
  returnTo: string
  /** `false` ends only the session here. */
  federated: boolean
}

/** The content of a logout's `state`. It is sealed, so that the return page can trust it. */
export interface LogoutState {
  returnTo: string
  startedAt: number
}

export interface LogoutParts {
  routes: Pick<RouteSettings, 'loggedOut'>
  urls: Urls
  pages: Pages
  sealer: Sealer
  providers: Providers
  sessions: Sessions
  refreshes: Refreshes
  pendingLogins: PendingLogins
  guardedLogins: GuardedLogins
  silentLogin: SilentLogin
  telemetry: Telemetry
}

/** In characters. The parameters of a longer URL are posted, because a proxy may refuse it. */
const MAX_URL = 4000

export function createLogout (parts: LogoutParts): Logout {
  const { routes: { loggedOut }, urls, pages, sealer, providers, sessions, refreshes } = parts
  const { pendingLogins, guardedLogins, silentLogin, telemetry } = parts

  /** The provider of the session, also of one that has expired here: the session at the provider may still be live. */
  async function providerOf (request: FastifyRequest): Promise<Provider | null> {
    const origin = sessions.origin(request)
    const provider = origin === undefined ? null : await providers.find(request, origin.name)
    return provider?.id === origin?.id ? provider : null
  }

  /** The URL that ends the session at the provider. `null` when the provider has none, or does not answer. */
  async function endSessionUrl (
    provider: Provider,
    request: FastifyRequest,
    idToken: string | undefined,
    returnTo: string
  ): Promise<URL | null> {
    try {
      return await provider.endSessionUrl({
        ...(idToken !== undefined && { id_token_hint: idToken }),
        ...(loggedOut !== null && {
          post_logout_redirect_uri: urls.route(loggedOut),
          state: sealState(returnTo)
        })
      })
    } catch (error) {
      request.log.warn(reasonOf(error as OidcError), 'the session at the provider could not be ended')
      return null
    }
  }

  /** Where the browser goes without the provider. The page after a logout shows itself only to a fresh logout. */
  function homeOf (returnTo: string): string {
    const isPage = loggedOut !== null && returnTo === urls.route(loggedOut)
    return isPage ? `${returnTo}?${new URLSearchParams({ state: sealState(returnTo) }).toString()}` : returnTo
  }

  function sealState (returnTo: string): string {
    const state: LogoutState = { returnTo, startedAt: now() }
    return sealer.seal('logout', state)
  }

  // In the background: a refresh may still run, and the session has ended already.
  async function endTokens (
    provider: Provider,
    request: FastifyRequest,
    tokens: SessionTokens,
    federated: boolean
  ): Promise<void> {
    // The browser may have older tokens than the last refresh gave.
    const newest = await refreshes.take(provider, tokens).catch(() => tokens)
    if (federated) revoke(provider, request, newest)
  }

  async function logout (
    request: FastifyRequest,
    reply: FastifyReply,
    { returnTo, federated }: LogoutRequest
  ): Promise<void> {
    await sessions.prepare(request)
    const provider = await providerOf(request)
    const tokens = await sessions.tokens(request)
    pendingLogins.clear(request, reply)
    guardedLogins.clear(request, reply)
    const facts = { provider: sessions.origin(request)?.name, session: sessions.digest(request), reason: 'logout' }
    const isEnded = await sessions.end(request, 'logout')
    if (isEnded) logCompleted(request.log, 'logout', facts)
    if (provider === null) return sendHome(request, reply, homeOf(returnTo))
    if (isEnded) endTokens(provider, request, tokens, federated)
    const url = federated ? await endSessionUrl(provider, request, tokens.id_token, returnTo) : null
    if (url !== null) return await sendToProvider(pages, reply, url)
    // The session at the provider is still live: a silent login would log the user in again at once.
    silentLogin.suppress(reply)
    sendHome(request, reply, homeOf(returnTo))
  }

  return async (request, reply, options) => {
    const attributes = { 'oidc.provider': sessions.origin(request)?.name }
    await telemetry.span('oidc.logout', attributes, async () => await logout(request, reply, options))
  }
}

function revoke (provider: Provider, request: FastifyRequest, tokens: Partial<OidcTokens>): void {
  const hint = tokens.refresh_token === undefined ? 'access_token' : 'refresh_token'
  const token = tokens[hint]
  if (token !== undefined) revokeInBackground(request.log, [{ provider, token, hint }])
}

function sendHome (request: FastifyRequest, reply: FastifyReply, returnTo: string): void {
  if (isScript(request)) sendAsJson(reply, returnTo)
  else redirect(request, reply, returnTo)
}

async function sendToProvider (pages: Pages, reply: FastifyReply, url: URL): Promise<void> {
  if (isScript(reply.request)) sendAsJson(reply, url.href)
  else if (url.href.length > MAX_URL) await pages.send(reply, postPage(url, 'loggingOut'))
  else await redirectAway(pages, reply, url.href, 'loggingOut')
}

/** For a script, which cannot follow a redirect to another origin. */
function sendAsJson (reply: FastifyReply, url: string): void {
  reply.header('cache-control', 'no-store').send({ redirect_to: url })
}
