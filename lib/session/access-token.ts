import { OidcError, hasCode } from '../errors.ts'
import { endsLogin, expiresWithin, nonceHashOf, unlessHeldUp } from './refresh-once.ts'
import type { FastifyRequest } from 'fastify'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { KeptTokens } from './kept-tokens.ts'
import type { OnHeldUp, Refreshes } from './refresh-once.ts'
import type { Session, SessionTokens } from './session.ts'
import type { Sessions } from './sessions.ts'
import type { UserClaims } from './user-claims.ts'
import type { AccessTokenOptions } from '../../types/options.ts'

/**
 * The access token of a session. Refreshed a little before it expires, once for all requests with the same tokens.
 * Throws FST_OIDC_LOGIN_REQUIRED without a session or token, and an OidcError when the refresh fails.
 */
export type AccessToken = (request: FastifyRequest, options?: AccessTokenOptions) => Promise<string>

/** How long before it expires a token is refreshed, in seconds. */
const EARLY = 30

export interface AccessTokenParts {
  sessions: Sessions
  refreshes: Refreshes
  kept: KeptTokens
  userClaims: Pick<UserClaims, 'renewOrKeep'>
}

export function createAccessToken (parts: AccessTokenParts): AccessToken {
  const { sessions, refreshes, kept: keptTokens, userClaims } = parts
  /** The tokens of each request's own cookies. A refresh replaces those of the session. */
  const sent = new WeakMap<FastifyRequest, SessionTokens>()

  async function tokensOf (request: FastifyRequest): Promise<SessionTokens> {
    const tokens = await sessions.tokens(request)
    if (sent.has(request)) return tokens
    sent.set(request, tokens)
    if (tokens.kept_as !== undefined) await keptTokens.received(tokens.kept_as)
    return tokens
  }

  async function refresh (
    request: FastifyRequest,
    session: Session,
    tokens: SessionTokens,
    onHeldUp?: OnHeldUp
  ): Promise<string> {
    const { claims: { sub }, session: { authTime } } = session
    const provider = sessions.provider(request)
    const login = { sub, authTime, session: sessions.digest(request) }
    try {
      const fresh = await refreshes.refresh(provider, tokens, login, onHeldUp)
      await save(request, provider, { session, tokens }, fresh)
      return fresh.tokens.access_token
    } catch (error) {
      if (endsLogin(error)) await sessions.end(request, 'refresh_failed')
      throw error
    }
  }

  async function save (
    request: FastifyRequest,
    provider: Provider,
    { session: { claims, sources }, tokens }: { session: Session, tokens: SessionTokens },
    fresh: TokenSet
  ): Promise<void> {
    const { expires_at: _, ...before } = tokens
    const name = keptTokens.nameOf(provider, sent.get(request) as SessionTokens, fresh)
    const next = { ...before, ...fresh.tokens, nonce_hash: nonceHashOf(tokens), kept_as: name }
    const known = await userClaims.renewOrKeep(provider, { claims, sources, idToken: tokens.id_token }, fresh)
    const replace = async (): Promise<void> => await sessions.replaceTokens(request, next, known)
    try {
      await replace()
    } catch (error) {
      if (!hasCode(error, 'FST_OIDC_LOGIN_REQUIRED')) refreshes.keep(provider, tokens, fresh, replace)
      throw error
    }
  }

  return async function accessToken (request, { refresh: isForced = false } = {}) {
    refuseToken(request)
    await sessions.prepare(request)
    const session = sessions.read(request)
    const tokens = await tokensOf(request)
    if (session === null || tokens.access_token === undefined) throw loginRequired()
    const isUsable = !isForced && !expiresWithin(tokens, 0)
    const isDue = isForced || expiresWithin(tokens, EARLY)
    if (!isDue || (tokens.refresh_token === undefined && isUsable)) return tokens.access_token
    if (tokens.refresh_token === undefined) {
      throw loginRequired('the access token cannot be used any more, and there is no refresh token')
    }
    if (!isUsable) return await refresh(request, session, tokens)
    try {
      const fresh = await unlessHeldUp(tokens, async (onHeldUp) => await refresh(request, session, tokens, onHeldUp))
      return fresh ?? tokens.access_token
    } catch (error) {
      if (endsLogin(error)) throw error
      return tokens.access_token
    }
  }
}

/** Throws FST_OIDC_LOGIN_REQUIRED for a request with an access token: its session cookie may be of another user. */
export function refuseToken ({ oidcToken }: FastifyRequest): void {
  if (oidcToken != null) throw loginRequired('the request has an access token instead of a session')
}

export function loginRequired (detail?: string): OidcError {
  return new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail })
}
