import { decodeJwt } from 'jose'
import { createBoundedMap } from '../util/bounded-map.ts'
import { FAILURE_SHARED_FOR, keyOf, refreshInOne, shareUntil } from './refresh-in-one.ts'
import { now } from '../util/time.ts'
import { exchangeTokens } from '../token-exchange.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { SessionTokens } from './session.ts'
import type { Telemetry } from '../telemetry.ts'
import type { SealedStore } from '../store/sealed-store.ts'

/** Fresh tokens for old ones, of a session or of a grant. */
export interface Refreshes {
  /** Asks the provider once for all who come with the same tokens: in this process, and with a store in all of them. */
  get: (provider: Provider, tokens: SessionTokens) => Promise<TokenSet>
  /**
   * Keeps what could not be saved: the old refresh token may be worth nothing by now, and who comes with it
   * must find what came.
   */
  keep: (provider: Provider, tokens: SessionTokens, fresh: TokenSet) => void
}

const MAX_SHARED = 10_000
const KEPT_FOR = 3600 // seconds that tokens are kept which could not be saved

export function createRefreshes (telemetry: Telemetry, vault: SealedStore | undefined): Refreshes {
  const shared = createBoundedMap<Promise<TokenSet>>(MAX_SHARED)

  async function refresh (
    provider: Provider,
    { refresh_token: refreshToken, resource = provider.settings.resource }: SessionTokens
  ): Promise<TokenSet> {
    return await exchangeTokens(telemetry, async () => await provider.refresh(refreshToken as string, resource))
  }

  return {
    async get (provider, tokens) {
      const key = keyOf(provider, tokens)
      const known = shared.get(key)
      if (known !== undefined) return await known
      const ask = async (): Promise<TokenSet> => await refresh(provider, tokens)
      const running =
        vault === undefined ? ask() : refreshInOne(vault, ['refresh', key], provider.settings.timeout, ask)
      shared.set(key, running)
      shared.set(key, running, await sharedUntil(running))
      return await running
    },

    keep (provider, tokens, fresh) {
      const { refresh_token: next, expires_at: expiresAt = now() + KEPT_FOR } = fresh.tokens
      // A new refresh token is worth more than the access token that came with it.
      const isRotated = next !== undefined && next !== tokens.refresh_token
      shared.set(
        keyOf(provider, tokens),
        Promise.resolve(fresh),
        isRotated ? Math.max(expiresAt, now() + KEPT_FOR) : expiresAt
      )
    }
  }
}

async function sharedUntil (running: Promise<TokenSet>): Promise<number> {
  const fresh = await running.catch(() => null)
  return fresh === null ? now() + FAILURE_SHARED_FOR : shareUntil(fresh)
}

/** Who logged in, as the first ID token says. */
interface FirstLogin {
  sub: string
  authTime: number | undefined
  idToken: string | undefined
}

/** Whether a refreshed ID token is of the same person and login (OpenID Connect Core 1.0, section 12.2). */
export function isSamePerson ({ sub, authTime, idToken }: FirstLogin, { claims }: TokenSet): boolean {
  const first = idToken === undefined ? {} : decodeJwt(idToken)
  return (
    claims === undefined ||
    (claims.sub === sub && isSame(claims.auth_time, authTime) && isSame(claims.nonce, first['nonce']))
  )
}

/** Whether a claim is what it was, as far as both tokens have it. */
function isSame (now: unknown, before: unknown): boolean {
  return now === undefined || before === undefined || now === before
}
