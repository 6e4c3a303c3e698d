import { OidcError } from '../errors.ts'
import { isSamePerson } from './refresh-once.ts'
import { now } from '../util/time.ts'
import { endSession } from '../logout/logout.ts'
import type { FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { SessionTokens } from './session.ts'
import type { Session } from './session.ts'
import type { OidcTokens } from '../../types/claims.ts'
import type { AccessTokenOptions } from '../../types/options.ts'

export type AccessToken = (request: FastifyRequest, options?: AccessTokenOptions) => Promise<string>

const EARLY = 30 // seconds before it expires, a token is refreshed

/**
 * The access token of a session, refreshed a little before it expires: once for all requests that come with
 * the same tokens.
 */
export function createAccessToken (core: Core): AccessToken {
  return async function accessToken (request, { refresh = false } = {}) {
    // The session that a browser sends along need not be that of whoever the token let in.
    if (request.oidcToken != null) {
      throw new OidcError('FST_OIDC_LOGIN_REQUIRED', {
        detail: 'the request came with an access token, which is no session'
      })
    }
    await core.sessions.prepare(request)
    const session = core.sessions.read(request)
    const tokens = await core.sessions.tokens(request)
    if (session === null || tokens.access_token === undefined) throw new OidcError('FST_OIDC_LOGIN_REQUIRED')
    const isUsable = !refresh && !expiresWithin(tokens, 0)
    if ((refresh || expiresWithin(tokens, EARLY)) && tokens.refresh_token !== undefined) {
      return await renew(request, session, tokens, isUsable)
    }
    if (!isUsable) {
      throw new OidcError('FST_OIDC_LOGIN_REQUIRED', {
        detail: 'the access token is no longer good and cannot be refreshed'
      })
    }
    return tokens.access_token
  }

  async function renew (
    request: FastifyRequest,
    session: Session,
    tokens: SessionTokens,
    isUsable: boolean
  ): Promise<string> {
    try {
      const provider = core.sessions.provider(request)
      const fresh = await core.refreshes.get(provider, tokens)
      checkSamePerson(session, tokens, fresh)
      await save(request, provider, tokens, fresh)
      return fresh.tokens.access_token
    } catch (error) {
      if (isRefused(error)) await endSession(core, request, 'refresh_failed')
      else if (isUsable) return tokens.access_token as string
      throw error
    }
  }

  async function save (
    request: FastifyRequest,
    provider: Provider,
    tokens: SessionTokens,
    fresh: TokenSet
  ): Promise<void> {
    const { expires_at: _, ...kept } = tokens
    try {
      await core.sessions.replaceTokens(request, { ...kept, ...fresh.tokens })
    } catch (error) {
      if (!isRefused(error)) core.refreshes.keep(provider, tokens, fresh)
      throw error
    }
  }
}

function checkSamePerson (
  { session: { authTime }, claims: { sub } }: Session,
  { id_token: idToken }: SessionTokens,
  fresh: TokenSet
): void {
  if (!isSamePerson({ sub, authTime, idToken }, fresh)) {
    throw new OidcError('FST_OIDC_ID_TOKEN', { detail: 'the refreshed ID token is of another person or login' })
  }
}

function isRefused (error: unknown): boolean {
  return error instanceof OidcError && error.code === 'FST_OIDC_LOGIN_REQUIRED'
}

function expiresWithin ({ expires_at: expiresAt }: Partial<OidcTokens>, seconds: number): boolean {
  return expiresAt !== undefined && expiresAt <= now() + seconds
}
