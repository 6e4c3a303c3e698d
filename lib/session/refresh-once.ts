import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { OidcError, checkWith, reasonOf } from '../errors.ts'
import { logCompleted } from '../http/completed.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { equal, sha256 } from '../util/crypto.ts'
import { now } from '../util/time.ts'
import { digestOf } from './kept-tokens.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { Check, OidcErrorCode } from '../errors.ts'
import type { ActFacts } from '../http/completed.ts'
import type { Provider } from '../provider/provider.ts'
import type { TokenSet } from '../provider/token-request.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'
import type { Telemetry } from '../telemetry.ts'
import type { KeptTokens } from './kept-tokens.ts'
import type { SessionTokens } from './session.ts'
import type { UserClaims } from './user-claims.ts'
import type { IdTokenClaims } from '../../types/claims.ts'

/** New tokens for old ones, of a session or of a grant. */
export interface Refreshes {
  /**
   * Asks the provider once for all requests that come with the same tokens: in this process and, with a store, in all
   * processes. Throws FST_OIDC_LOGIN_REQUIRED when the provider refuses, and FST_OIDC_ID_TOKEN when the new ID token is
   * of another user or login, or forged.
   */
  refresh: (provider: Provider, tokens: SessionTokens, login: Login) => Promise<TokenSet>
  /** Keeps new tokens that could not be saved. The old refresh token may be used up, so the next request needs them. */
  keep: (provider: Provider, tokens: SessionTokens, fresh: TokenSet) => void
  /** The newest tokens that came after these, when a refresh that runs has ended. No request gets them any more. */
  take: (provider: Provider, tokens: SessionTokens) => Promise<SessionTokens>
}

/** The login that the tokens are from, as the session or grant knows it. */
export interface Login {
  sub: string
  authTime: number | undefined
  /** The digest of the session, for the log. A grant has a line of its own, which says more. */
  session?: string | undefined
}

export interface RefreshesParts {
  log: FastifyBaseLogger
  telemetry: Telemetry
  store: SealedStore | undefined
  kept: KeptTokens
  /** Asks UserInfo after a refresh, once for all requests. `undefined`: the caller of `refresh` asks it. */
  userinfo?: UserClaims['renewedUserinfo']
}

const MAX_SHARED = 10_000
/** How long tokens are kept that could not be saved, in seconds. */
const KEPT_FOR = 3600
/** How long to wait after a failure before the next attempt, in seconds. */
const FAILURE_SHARED_FOR = 5
/** How long requests with the same old refresh token get the same new tokens, in seconds. */
const SHARED_FOR = 60

export function createRefreshes ({ log, telemetry, store, kept, userinfo }: RefreshesParts): Refreshes {
  const shared = createBoundedMap<Promise<TokenSet>>(MAX_SHARED)

  async function askProvider (provider: Provider, tokens: SessionTokens, login: Login): Promise<TokenSet> {
    const { refresh_token: refreshToken, resource = provider.settings.resource } = tokens
    const nonceHash = nonceHashOf(tokens)
    const { refused, dropped, ...renewed } = await provider.refresh(refreshToken as string, resource, (claims) => {
      checkSameLogin({ ...login, nonceHash }, claims)
    })
    if (refused !== undefined) {
      const token = renewed.tokens.refresh_token as string
      revokeInBackground(log, [{ provider, token, hint: 'refresh_token' }])
      throw refused
    }
    if (dropped !== undefined) {
      log.warn(reasonOf(dropped), 'the refreshed ID token could not be verified, and is not kept')
    }
    const fresh = { ...renewed, userinfo: await userinfo?.(provider, renewed.tokens, login) }
    await kept.keep(provider, tokens, fresh)
    return fresh
  }

  async function ask (provider: Provider, tokens: SessionTokens, login: Login): Promise<TokenSet> {
    const facts = { provider: provider.name, session: login.session }
    try {
      const fresh = await telemetry.exchangeTokens(provider.name, async () =>
        await askProvider(provider, tokens, login))
      if (login.session !== undefined) logCompleted(log, 'refresh', facts)
      return fresh
    } catch (error) {
      report(log, error as OidcError, facts)
      throw error
    }
  }

  async function askOnce (provider: Provider, tokens: SessionTokens, login: Login): Promise<TokenSet> {
    const key = digestOf(provider, tokens)
    const known = shared.get(key)
    if (known !== undefined) return await known
    const askNow = async (): Promise<TokenSet> => await ask(provider, tokens, login)
    const { timeout } = provider.settings
    const running = store === undefined ? askNow() : refreshInOneProcess(store, ['refresh', key], timeout, askNow)
    shared.set(key, running)
    shared.set(key, running, await sharedUntil(running))
    return await running
  }

  return {
    async refresh (provider, tokens, login) {
      const { fresh: known, last } = await kept.follow(provider, tokens)
      if (known !== undefined) return known
      const fresh = await askOnce(provider, last, login)
      if (last !== tokens) await kept.keep(provider, tokens, fresh)
      return fresh
    },

    keep (provider, tokens, fresh) {
      const { refresh_token: next, expires_at: expiresAt = now() + KEPT_FOR } = fresh.tokens
      // A new refresh token is worth more than the access token that came with it.
      const isRotated = next !== undefined && next !== tokens.refresh_token
      const until = isRotated ? Math.max(expiresAt, now() + KEPT_FOR) : expiresAt
      shared.set(digestOf(provider, tokens), Promise.resolve(fresh), until)
    },

    async take (provider, tokens) {
      const fresh = await shared.get(digestOf(provider, tokens))?.catch(() => undefined)
      const last = await kept.take(provider, tokens)
      // Nothing is kept of a session in the store, and a refresh that ends after the session does not save there.
      return last === tokens ? { ...tokens, ...fresh?.tokens } : last
    }
  }
}

function report (log: FastifyBaseLogger, error: OidcError, facts: ActFacts): void {
  log[error.level]({ ...reasonOf(error), ...facts }, 'the tokens could not be refreshed')
}

/** Whether the error of a refresh ends the session or grant: the provider has refused, or named another login. */
export function endsLogin (error: unknown): error is OidcError {
  return error instanceof OidcError && ENDS_LOGIN.has(error.code)
}

const ENDS_LOGIN: ReadonlySet<OidcErrorCode> = new Set(['FST_OIDC_LOGIN_REQUIRED', 'FST_OIDC_ID_TOKEN'])

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
  // In seconds. One refresh may fetch the metadata, the tokens, UserInfo, and several times the keys.
  const lease = Math.ceil(timeout * 6) + 5
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

const check: Check = checkWith('FST_OIDC_ID_TOKEN')

/** Throws unless a refreshed ID token is of the same user and login (OpenID Connect Core 1.0, section 12.2). */
function checkSameLogin (
  { sub, authTime = 0, nonceHash }: Login & { nonceHash: string | undefined },
  claims: IdTokenClaims
): void {
  const { auth_time: newAuthTime = Infinity, nonce } = claims
  check(claims.sub === sub, 'the refreshed ID token is of another user: its sub is not that of the login')
  // A later one is that of another login of the same user: some providers always send the last one.
  check(newAuthTime >= authTime, `auth_time is ${newAuthTime}, before that of the login: ${authTime}`)
  const isSameNonce = nonce == null || nonceHash === undefined || equal(hashOfNonce(String(nonce)), nonceHash)
  check(isSameNonce, 'the nonce of the refreshed ID token is not that of the login')
}

/** The hash of the nonce of a login. A session from an earlier version has only the ID token. */
export function nonceHashOf ({ nonce_hash: nonceHash, id_token: idToken }: SessionTokens): string | undefined {
  if (nonceHash !== undefined || idToken === undefined) return nonceHash
  const { nonce } = decodeJwt(idToken)
  return typeof nonce === 'string' ? hashOfNonce(nonce) : undefined
}

/** In 128 bits: the cookies contain it. */
export function hashOfNonce (nonce: string): string {
  return sha256(nonce).slice(0, 22)
}
