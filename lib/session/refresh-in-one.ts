import { hash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { OidcErrorCode } from '../errors.ts'
import type { Provider, TokenSet } from '../provider/provider.ts'
import type { SessionTokens } from './session.ts'
import type { Entry, EntryName, SealedStore } from '../store/sealed-store.ts'

export const FAILURE_SHARED_FOR = 5 // seconds that a failure is not tried again
const SHARED_FOR = 60 // seconds that requests with the same old refresh token get the same answer

// With the access token: a provider that gives the same refresh token again may be asked again.
export function keyOf (
  { id }: Provider,
  { access_token: accessToken, refresh_token: refreshToken }: SessionTokens
): string {
  return hash('sha256', JSON.stringify([id, accessToken, refreshToken]), 'base64')
}

/** What the processes know of a refresh: who does it, or what came of it. */
type Shared = { by: string } | { tokenSet: TokenSet } | { failed: OidcErrorCode }

const POLL = 50 // milliseconds between two looks at whether another process is done

/**
 * Refreshes in one of all the processes; the others get its result. Whoever does it may crash: after a while
 * another takes over.
 */
export async function refreshInOne (
  vault: SealedStore,
  name: EntryName,
  timeout: number,
  refresh: () => Promise<TokenSet>
): Promise<TokenSet> {
  // In seconds: metadata, tokens, and keys as often as they are fetched for one token
  const lease = Math.ceil(timeout * 5) + 5
  for (;;) {
    const own = await vault.create<Shared>(name, { by: randomUUID() }, now() + lease)
    const result =
      own === null ? (await vault.get<Shared>(name))?.content : await refreshAndShare(vault, name, own, refresh)
    if (result !== undefined && 'tokenSet' in result) return result.tokenSet
    if (result !== undefined && 'failed' in result) {
      throw new OidcError(result.failed, { detail: 'another process could not refresh the token' })
    }
    await delay(POLL)
  }
}

/** What came of it; `undefined` when it failed, and another process has taken over by then. */
async function refreshAndShare (
  vault: SealedStore,
  name: EntryName,
  own: Entry<Shared>,
  refresh: () => Promise<TokenSet>
): Promise<Shared | undefined> {
  const publish = async (result: Shared, until: number): Promise<boolean> =>
    await vault.replace(name, own, result, until)
  let tokenSet: TokenSet
  try {
    tokenSet = await refresh()
  } catch (error) {
    const isLast = await publish({ failed: (error as OidcError).code }, now() + FAILURE_SHARED_FOR).catch(() => true)
    if (isLast) throw error
    return undefined
  }
  // The old refresh token may be worth nothing now: what came must reach the session, whatever the store does.
  await publish({ tokenSet }, shareUntil(tokenSet)).catch(() => {})
  return { tokenSet }
}

export function shareUntil ({ tokens: { expires_at: expiresAt = Infinity } }: TokenSet): number {
  return Math.min(now() + SHARED_FOR, expiresAt)
}
