import { isScript } from '../http/fetch-metadata.ts'
import { suppressSilentLogin } from '../login/login.ts'
import { redirect } from '../http/redirect.ts'
import { postPage } from '../http/pages.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { now } from '../util/time.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Provider } from '../provider/provider.ts'
import type { Session } from '../session/session.ts'
import type { OidcTokens } from '../../types/claims.ts'
import type { LogoutContext } from '../../types/options.ts'

/** What the `state` of a logout holds: sealed, so that the return page trusts it. */
export interface LogoutState {
  returnTo: string
  startedAt: number
}

/** Longer requests are posted: what is on the way to the provider may refuse a longer URL. */
const MAX_URL = 4000

/** Ends the session here first, then at the provider (OpenID Connect RP-Initiated Logout 1.0, section 2). */
export async function logout (
  core: Core,
  request: FastifyRequest,
  reply: FastifyReply,
  { returnTo, federated }: { returnTo: string; federated: boolean }
): Promise<void> {
  await core.telemetry.span('oidc.logout', async () => {
    await core.sessions.prepare(request)
    const provider = await providerOf(core, request)
    const tokens = await core.sessions.tokens(request)
    core.pending.clear(request, reply)
    const ended = await endSession(core, request, 'logout')
    if (provider === null) return sendToProvider(request, reply, new URL(returnTo))
    if (federated && ended) revoke(provider, request, tokens)
    const url = federated ? await endSessionUrl(core, provider, request, tokens.id_token, returnTo) : null
    // The provider still knows the person, and would log them in again at once.
    if (url === null) suppressSilentLogin(core, reply)
    sendToProvider(request, reply, url ?? new URL(returnTo))
  })
}

/** The provider to tell of the logout: also of a session that is over by now, which may not be over there. */
async function providerOf (core: Core, request: FastifyRequest): Promise<Provider | null> {
  const origin = core.sessions.origin(request)
  const provider = origin === undefined ? null : await core.providers.find(request, origin.name)
  return provider?.id === origin?.id ? provider : null
}

/** Ends the session here and tells the application; whether there was one that nobody else ended. */
export async function endSession (
  core: Core,
  request: FastifyRequest,
  reason: LogoutContext['reason']
): Promise<boolean> {
  const ended = await core.sessions.end(request)
  if (ended !== null) await reportEnd(core, request, ended, reason)
  return ended !== null
}

/** Tells the application of a session that has ended. */
export async function reportEnd (
  core: Core,
  request: FastifyRequest | null,
  { session }: Pick<Session, 'session'>,
  reason: LogoutContext['reason']
): Promise<void> {
  core.telemetry.sessionEnded(reason)
  try {
    await core.settings.onLogout?.(session, { reason, request })
  } catch (error) {
    core.log.error({ err: error }, 'onLogout failed')
  }
}

function revoke (provider: Provider, request: FastifyRequest, tokens: Partial<OidcTokens>): void {
  const hint = tokens.refresh_token === undefined ? 'access_token' : 'refresh_token'
  const token = tokens[hint]
  if (token !== undefined) revokeInBackground(request.log, [{ provider, token, hint }])
}

async function endSessionUrl (
  core: Core,
  provider: Provider,
  request: FastifyRequest,
  idToken: string | undefined,
  returnTo: string
): Promise<URL | null> {
  const { loggedOut } = core.settings.routes
  const state: LogoutState = { returnTo, startedAt: now() }
  try {
    return await provider.endSessionUrl({
      ...(idToken !== undefined && { id_token_hint: idToken }),
      ...(loggedOut !== null && {
        post_logout_redirect_uri: core.urls.route(loggedOut),
        state: core.sealer.seal('logout', state)
      })
    })
  } catch (error) {
    request.log.warn({ code: (error as { code?: string }).code }, 'the provider was not told of the logout')
    return null
  }
}

function sendToProvider (request: FastifyRequest, reply: FastifyReply, url: URL): void {
  if (isScript(request)) reply.header('cache-control', 'no-store').send({ redirect_to: url.href })
  else if (url.href.length > MAX_URL) postPage(reply, url)
  else redirect(request, reply, url.href)
}
