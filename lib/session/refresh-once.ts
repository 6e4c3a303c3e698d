import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { OidcError, checkWith, hasCode, reasonOf } from '../errors.ts'
import { logCompleted } from '../http/completed.ts'
import { revokeInBackground } from '../provider/revoke.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { equal, sha256 } from '../util/crypto.ts'
import { elapsed, now } from '../util/time.ts'
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
  refresh: (provider: Provider, tokens: SessionTokens, login: Login, onHeldUp?: OnHeldUp) => Promise<TokenSet>
  /**
   * Keeps new tokens that could not be saved: the old refresh token may be used up, so the next request needs them.
   * Goes on trying to save them, as long as other processes wait.
   */
  keep: (provider: Provider, tokens: SessionTokens, fresh: TokenSet, save: () => Promise<void>) => void
  /** The newest tokens that came after these, when a refresh that runs has ended. No request gets them any more. */
  take: (provider: Provider, tokens: SessionTokens) => Promise<SessionTokens>
}

/** Is called when another process holds the lease, with the time when that was seen: see `unlessHeldUp`. */
export type OnHeldUp = (since: number) => void

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

/** A refresh that runs, or has ended. */
interface SharedResult {
  result: Promise<TokenSet>
  /** Resolves when another process holds the lease. `undefined` when the refresh has ended. */
  heldUp?: Promise<number>
}

const MAX_SHARED = 10_000
/** How long tokens are kept that could not be saved, in seconds. */
const KEPT_FOR = 3600
/** How long to wait after a failure before the next attempt, in seconds. */
const FAILURE_SHARED_FOR = 5
/** How long requests with the same old refresh token get the same new tokens, in seconds. */
const SHARED_FOR = 60

export function createRefreshes ({ log, telemetry, store, kept, userinfo }: RefreshesParts): Refreshes {
  const shared = createBoundedMap<SharedResult>(MAX_SHARED)

  /** Writes what must not be lost. While the store fails, goes on in the background. */
  async function persist ({ settings }: Provider, write: () => Promise<unknown>): Promise<void> {
    await write().catch(() => { keepTrying(write, elapsed() + leaseOf(settings) * 1000, log) })
  }

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
    await persist(provider, async () => await kept.keep(provider, tokens, fresh))
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

  function askOnce (provider: Provider, tokens: SessionTokens, login: Login): SharedResult {
    const key = digestOf(provider, tokens)
    const known = shared.get(key)
    if (known !== undefined) return known
    let onHeldUp!: OnHeldUp
    const heldUp = new Promise<number>((resolve) => { onHeldUp = resolve })
    const askNow = async (): Promise<TokenSet> => await ask(provider, tokens, login)
    const lease = leaseOf(provider.settings)
    const asked = store === undefined
      ? askNow()
      : refreshInOneProcess({ store, name: ['refresh', key], lease, refresh: askNow, onHeldUp, log })
    const result = sharedUntil(asked).then(async (until) => {
      shared.set(key, { result }, until)
      return await asked
    })
    shared.set(key, { result, heldUp })
    return { result, heldUp }
  }

  return {
    async refresh (provider, tokens, login, onHeldUp) {
      const { fresh: known, last } = await kept.follow(provider, tokens)
      if (known !== undefined) return known
      const { result, heldUp } = askOnce(provider, last, login)
      heldUp?.then(onHeldUp)
      const fresh = await result
      if (last !== tokens) await persist(provider, async () => await kept.keep(provider, tokens, fresh))
      return fresh
    },

    keep (provider, tokens, fresh, save) {
      const { refresh_token: next, expires_at: expiresAt = now() + KEPT_FOR } = fresh.tokens
      // A new refresh token is worth more than the access token that came with it.
      const isRotated = next !== undefined && next !== tokens.refresh_token
      const until = isRotated ? Math.max(expiresAt, now() + KEPT_FOR) : expiresAt
      shared.set(digestOf(provider, tokens), { result: Promise.resolve(fresh) }, until)
      keepTrying(save, elapsed() + leaseOf(provider.settings) * 1000, log)
    },

    async take (provider, tokens) {
      const fresh = await shared.get(digestOf(provider, tokens))?.result.catch(() => undefined)
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

/** How long a token must still be good, in seconds, so that its user need not wait for another process at all. */
const LONG_ENOUGH = 10
/** How long others wait for another process, in milliseconds. */
const PATIENCE = 2000

/**
 * The result of a refresh; `undefined` when another process holds it up and the tokens can be used without it: that
 * process may have died. `goOn` gets the refresh, which runs on.
 */
export async function unlessHeldUp<T> (
  tokens: Pick<SessionTokens, 'expires_at'>,
  refresh: (onHeldUp?: OnHeldUp) => Promise<T>,
  goOn: (rest: Promise<T>) => void = () => {}
): Promise<T | undefined> {
  if (expiresWithin(tokens, 0)) return await refresh()
  const patience = expiresWithin(tokens, LONG_ENOUGH) ? PATIENCE : 0
  let leave!: (nothing: undefined) => void
  const heldUp = new Promise<undefined>((resolve) => { leave = resolve })
  const rest = refresh(async (since) => {
    leave(await delay(Math.max(0, since + patience - performance.now()), undefined, { ref: false }))
  })
  const result = await Promise.race([rest, heldUp])
  if (result === undefined) goOn(rest)
  return result
}

/** Whether the access token cannot be used any more after so many seconds. */
export function expiresWithin ({ expires_at: expiresAt }: Pick<SessionTokens, 'expires_at'>, seconds: number): boolean {
  return expiresAt !== undefined && expiresAt <= now() + seconds
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
/** How often to try to write while the store fails, in milliseconds. */
const RETRY_INTERVAL = 1000

/** How long one process may refresh, in seconds: it may fetch metadata, tokens, UserInfo, and keys several times. */
function leaseOf ({ timeout }: Pick<Provider['settings'], 'timeout'>): number {
  return Math.ceil(timeout * 6) + 5
}

/** Writes as soon as the store works again, until `end` by `elapsed`: then another process asks the provider. */
async function keepTrying (write: () => Promise<unknown>, end: number, log: FastifyBaseLogger): Promise<void> {
  while (elapsed() < end) {
    await delay(RETRY_INTERVAL, undefined, { ref: false })
    try {
      await write()
      return
    } catch (error) {
      if (!hasCode(error, 'FST_OIDC_STORE_UNAVAILABLE')) return
    }
  }
  log.error(NOT_WRITTEN)
}

const NOT_WRITTEN = 'the store has failed for so long that refreshed tokens are not in it: other processes send the ' +
  'old refresh token, which a provider may take for a stolen one'

/** What one refresh in all processes needs. */
interface LeasedRefresh {
  store: SealedStore
  name: EntryName
  /** In seconds. */
  lease: number
  refresh: () => Promise<TokenSet>
  onHeldUp: OnHeldUp
  log: FastifyBaseLogger
}

/**
 * One process asks the provider, and the others get its result. That process holds a lease:
 * if it crashes, another one takes over when the lease has expired.
 */
async function refreshInOneProcess (leased: LeasedRefresh): Promise<TokenSet> {
  const { store, name, lease, onHeldUp } = leased
  for (;;) {
    const end = elapsed() + lease * 1000
    const own = await store.create<SharedRefresh>(name, { by: randomUUID() }, now() + lease)
    if (own === null) onHeldUp(performance.now())
    const result = own === null
      ? await resultOfOther(store, name)
      : await refreshAndShare(leased, own, end)
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
    // The request keeps the process running, if one still waits.
    await delay(POLL_INTERVAL, undefined, { ref: false })
  }
}

/** The result; `undefined` when the refresh failed and another process has taken over. */
async function refreshAndShare (
  { store, name, refresh, log }: LeasedRefresh,
  own: Entry<SharedRefresh>,
  end: number
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
  const shareTokens = async (): Promise<boolean> => await share({ tokenSet }, shareUntil(tokenSet))
  await shareTokens().catch(() => { keepTrying(shareTokens, end, log) })
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
