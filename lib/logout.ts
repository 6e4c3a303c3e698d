import { isScript } from './caller.ts'
import { goTo } from './login.ts'
import { postPage } from './pages.ts'
import { now } from './time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from './core.ts'
import type { Session } from './session-cookies.ts'
import type { OidcTokens } from '../types/claims.ts'
import type { LogoutContext } from '../types/options.ts'

/** What the `state` of a logout holds: sealed, so that the return page trusts it. */
export interface LogoutState {
  returnTo: string
  startedAt: number
}

/** Longer requests are posted: what is on the way to the provider may refuse a longer URL. */
const MAX_URL = 4000

/** Ends the session here first, then at the provider (OpenID Connect RP-Initiated Logout 1.0, section 2). */
export async function logout (
  core: Core, request: FastifyRequest, reply: FastifyReply, { returnTo, federated }: { returnTo: string, federated: boolean }
): Promise<void> {
  await core.telemetry.span('oidc.logout', async () => {
    const known = core.sessions.isKnown(request)
    const tokens = core.sessions.tokens(request)
    core.pending.clear(request, reply)
    await endSession(core, request, 'logout')
    if (!known || !federated) return leave(request, reply, new URL(returnTo))
    revoke(core, request, tokens)
    leave(request, reply, await endSessionUrl(core, request, tokens.id_token, returnTo) ?? new URL(returnTo))
  })
}

/** Ends the session here and tells the application. */
export async function endSession (core: Core, request: FastifyRequest, reason: LogoutContext['reason']): Promise<void> {
  const ended = core.sessions.end(request)
  if (ended !== null) await reportEnd(core, request, ended, reason)
}

/** Tells the application of a session that has ended. */
export async function reportEnd (core: Core, request: FastifyRequest, { session }: Session, reason: LogoutContext['reason']): Promise<void> {
  core.telemetry.sessionEnded(reason)
  try {
    await core.settings.onLogout?.(session, { reason, request })
  } catch (error) {
    request.log.error({ err: error }, 'onLogout failed')
  }
}

// RFC 7009. The session here has ended already; nobody waits for the provider.
function revoke (core: Core, request: FastifyRequest, tokens: Partial<OidcTokens>): void {
  const hint = tokens.refresh_token === undefined ? 'access_token' : 'refresh_token'
  const token = tokens[hint]
  if (token === undefined) return
  core.provider.revoke(token, hint).catch((error: { code?: string, detail?: string }) => {
    request.log.warn({ code: error.code, detail: error.detail }, 'the token could not be revoked')
  })
}

async function endSessionUrl (core: Core, request: FastifyRequest, idToken: string | undefined, returnTo: string): Promise<URL | null> {
  const { loggedOut } = core.settings.routes
  const state: LogoutState = { returnTo, startedAt: now() }
  try {
    return await core.provider.endSessionUrl({
      ...(idToken !== undefined && { id_token_hint: idToken }),
      ...(loggedOut !== null && { post_logout_redirect_uri: core.urls.route(loggedOut), state: core.sealer.seal('logout', state) })
    })
  } catch (error) {
    request.log.warn({ code: (error as { code?: string }).code }, 'the provider was not told of the logout')
    return null
  }
}

function leave (request: FastifyRequest, reply: FastifyReply, url: URL): void {
  if (isScript(request)) reply.header('cache-control', 'no-store').send({ redirect_to: url.href })
  else if (url.href.length > MAX_URL) postPage(reply, url)
  else goTo(request, reply, url.href)
}
