import { createHash } from 'node:crypto'
import { decodeJwt } from 'jose'
import { createBoundedMap } from './bounded-map.ts'
import { OidcError } from './errors.ts'
import { now } from './time.ts'
import { exchangeTokens } from './token-exchange.ts'
import { endSession } from './logout.ts'
import type { FastifyRequest } from 'fastify'
import type { Core } from './core.ts'
import type { TokenSet } from './provider.ts'
import type { Session } from './session-cookies.ts'
import type { OidcTokens } from '../types/claims.ts'

export type AccessToken = (request: FastifyRequest) => Promise<string>

const EARLY = 30 // seconds before it expires, a token is refreshed
const FAILURE_SHARED_FOR = 5 // seconds that a failure is not tried again
const SHARED_FOR = 60 // seconds that requests with the same old refresh token get the same answer
const MAX_SHARED = 10_000

/** The access token of a session, refreshed a little before it expires: once for all requests that come with the same refresh token. */
export function createAccessToken (core: Core): AccessToken {
  const shared = createBoundedMap<Promise<TokenSet>>(MAX_SHARED)

  async function refreshOnce (refreshToken: string): Promise<TokenSet> {
    const key = createHash('sha256').update(refreshToken).digest('base64')
    const known = shared.get(key)
    if (known !== undefined) return await known
    const running = exchangeTokens(core.telemetry, async () => await core.provider.refresh(refreshToken))
    shared.set(key, running, now() + SHARED_FOR)
    shared.set(key, running, await sharedUntil(running))
    return await running
  }

  return async function accessToken (request) {
    const session = core.sessions.read(request)
    const tokens = core.sessions.tokens(request)
    if (session === null || tokens.access_token === undefined) throw new OidcError('FST_OIDC_LOGIN_REQUIRED')
    if (expiresWithin(tokens, EARLY) && tokens.refresh_token !== undefined) return await renew(request, session, tokens)
    if (expiresWithin(tokens, 0)) throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'the access token has expired and cannot be refreshed' })
    return tokens.access_token
  }

  async function renew (request: FastifyRequest, session: Session, tokens: Partial<OidcTokens>): Promise<string> {
    try {
      const fresh = await refreshOnce(tokens.refresh_token as string)
      checkSamePerson(session, tokens, fresh)
      const { expires_at: _, ...kept } = tokens
      core.sessions.replaceTokens(request, { ...kept, ...fresh.tokens })
      return fresh.tokens.access_token
    } catch (error) {
      if (isRefused(error)) await endSession(core, request, 'refresh_failed')
      else if (!expiresWithin(tokens, 0)) return tokens.access_token as string
      throw error
    }
  }
}

async function sharedUntil (running: Promise<TokenSet>): Promise<number> {
  const fresh = await running.catch(() => null)
  return fresh === null ? now() + FAILURE_SHARED_FOR : Math.min(now() + SHARED_FOR, fresh.tokens.expires_at ?? Infinity)
}

// OpenID Connect Core 1.0, section 12.2
function checkSamePerson ({ session, claims }: Session, tokens: Partial<OidcTokens>, fresh: TokenSet): void {
  if (fresh.claims === undefined) return
  const { sub, auth_time: authTime, nonce } = fresh.claims
  const first = tokens.id_token === undefined ? {} : decodeJwt(tokens.id_token)
  const same = sub === claims.sub && isSame(authTime, session.authTime) && isSame(nonce, first['nonce'])
  if (!same) throw new OidcError('FST_OIDC_ID_TOKEN', { detail: 'the refreshed ID token is of another person or login' })
}

/** Whether a claim is what it was, as far as both tokens have it. */
function isSame (now: unknown, before: unknown): boolean {
  return now === undefined || before === undefined || now === before
}

function isRefused (error: unknown): boolean {
  return error instanceof OidcError && error.code === 'FST_OIDC_LOGIN_REQUIRED'
}

function expiresWithin ({ expires_at: expiresAt }: Partial<OidcTokens>, seconds: number): boolean {
  return expiresAt !== undefined && expiresAt <= now() + seconds
}
