import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { OidcError } from '../errors.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { sha256 } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import type { OidcErrorCode } from '../errors.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { Telemetry } from '../telemetry.ts'
import type { SessionTokens } from './session.ts'

/** New tokens for old ones, of a session or of a grant. */
export interface Refreshes {
  /**
   * Asks the provider once for all requests that come with the same tokens:
   * in this process and, with a store, in all processes.
   */
  refresh: (provider: Provider, tokens: SessionTokens) => Promise<TokenSet>
  /** Keeps new tokens that could not be saved. The old refresh token may be used up, so the next request needs them. */
  keep: (provider: Provider, tokens: SessionTokens, fresh: TokenSet) => void
}

const MAX_SHARED = 10_000
/** How long tokens are kept that could not be saved, in seconds. */
const KEPT_FOR = 3600
/** How long to wait after a failure before the next attempt, in seconds. */
const FAILURE_SHARED_FOR = 5
/** How long requests with the same old refresh token get the same new tokens, in seconds. */
const SHARED_FOR = 60

export function createRefreshes (telemetry: Telemetry, store: SealedStore | undefined): Refreshes {
  const shared = createBoundedMap<Promise<TokenSet>>(MAX_SHARED)

  async function askProvider (provider: Provider, tokens: SessionTokens): Promise<TokenSet> {
    const { refresh_token: refreshToken, resource = provider.settings.resource } = tokens
    return await telemetry.exchangeTokens(async () => await provider.refresh(refreshToken as string, resource))
  }

  return {
    async refresh (provider, tokens) {
      const key = keyOf(provider, tokens)
      const known = shared.get(key)
      if (known !== undefined) return await known
      const ask = async (): Promise<TokenSet> => await askProvider(provider, tokens)
      const { timeout } = provider.settings
      const running = store === undefined ? ask() : refreshInOneProcess(store, ['refresh', key], timeout, ask)
      shared.set(key, running)
      shared.set(key, running, await sharedUntil(running))
      return await running
    },

    keep (provider, tokens, fresh) {
      const { refresh_token: next, expires_at: expiresAt = now() + KEPT_FOR } = fresh.tokens
      // A new refresh token is worth more than the access token that came with it.
      const isRotated = next !== undefined && next !== tokens.refresh_token
      const until = isRotated ? Math.max(expiresAt, now() + KEPT_FOR) : expiresAt
      shared.set(keyOf(provider, tokens), Promise.resolve(fresh), until)
    }
  }
}

// The access token is part of the key: a provider that does not rotate refresh tokens gets the same one again later.
function keyOf ({ id }: Provider, { access_token: accessToken, refresh_token: refreshToken }: SessionTokens): string {
  return sha256(JSON.stringify([id, accessToken, refreshToken]), 'base64')
}

async function sharedUntil (running: Promise<TokenSet>): Promise<number> {
  const fresh = await running.catch(() => null)
  return fresh === null ? now() + FAILURE_SHARED_FOR : shareUntil(fresh)
}

function shareUntil ({ tokens: { expires_at: expiresAt = Infinity } }: TokenSet): number {
  return Math.min(now() + SHARED_FOR, expiresAt)
}

/** What the processes share about a refresh: the process that runs it, or its result. */
type SharedRefresh = { by: string } | { tokenSet: TokenSet } | { failed: OidcErrorCode }

/** How often to look for the result of another process, in milliseconds. */
const POLL_INTERVAL = 50

/**
 * One process asks the provider, and the others get its result. That process holds a lease:
 * if it crashes, another one takes over when the lease has expired.
 */
async function refreshInOneProcess (
  store: SealedStore,
  name: EntryName,
  timeout: number,
  refresh: () => Promise<TokenSet>
): Promise<TokenSet> {
  // In seconds. One refresh may fetch the metadata, the tokens, and several times the keys.
  const lease = Math.ceil(timeout * 5) + 5
  for (;;) {
    const own = await store.create<SharedRefresh>(name, { by: randomUUID() }, now() + lease)
    const result = own === null
      ? await resultOfOther(store, name)
      : await refreshAndShare(store, name, own, refresh)
    if (result !== undefined && 'tokenSet' in result) return result.tokenSet
    if (result !== undefined && 'failed' in result) {
      throw new OidcError(result.failed, { detail: 'another process could not refresh the token' })
    }
  }
}

/** The result of the process that holds the lease; `undefined` when the lease has expired. It only reads the store. */
async function resultOfOther (store: SealedStore, name: EntryName): Promise<SharedRefresh | undefined> {
  for (;;) {
    const result = (await store.get<SharedRefresh>(name))?.content
    if (result === undefined || !('by' in result)) return result
    await delay(POLL_INTERVAL)
  }
}

/** The result; `undefined` when the refresh failed and another process has taken over. */
async function refreshAndShare (
  store: SealedStore,
  name: EntryName,
  own: Entry<SharedRefresh>,
  refresh: () => Promise<TokenSet>
): Promise<SharedRefresh | undefined> {
  const share = async (result: SharedRefresh, until: number): Promise<boolean> =>
    await store.replace(name, own, result, until)
  let tokenSet: TokenSet
  try {
    tokenSet = await refresh()
  } catch (error) {
    const failed = { failed: (error as OidcError).code }
    const isLast = await share(failed, now() + FAILURE_SHARED_FOR).catch(() => true)
    if (isLast) throw error
    return undefined
  }
  // The old refresh token may be used up: the new tokens must reach the session even if the store fails.
  await share({ tokenSet }, shareUntil(tokenSet)).catch(() => {})
  return { tokenSet }
}

/** The login, as its ID token describes it. */
interface FirstLogin {
  sub: string
  authTime: number | undefined
  idToken: string | undefined
}

/** Whether a refreshed ID token belongs to the same user and login (OpenID Connect Core 1.0, section 12.2). */
export function isSameLogin ({ sub, authTime, idToken }: FirstLogin, { claims }: TokenSet): boolean {
  if (claims === undefined) return true
  const first = idToken === undefined ? {} : decodeJwt(idToken)
  return claims.sub === sub && isSame(claims.auth_time, authTime) && isSame(claims.nonce, first['nonce'])
}

/** Whether a claim is unchanged, if both tokens have it. */
function isSame (value: unknown, before: unknown): boolean {
  return value === undefined || before === undefined || value === before
}
