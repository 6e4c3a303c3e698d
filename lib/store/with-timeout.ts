import { OidcError, messageOf } from '../errors.ts'
import { atMost } from '../util/at-most.ts'

/** How long the store may take, in milliseconds. */
const TIMEOUT = 4000

/**
 * Calls the store. Throws FST_OIDC_STORE_UNAVAILABLE if it fails or does not answer in time: a store that does not
 * answer must not keep a request waiting, and must not look like a store without the entry.
 */
export async function withTimeout<T> (call: () => Promise<T>, timeout = TIMEOUT): Promise<T> {
  return await atMost(timeout / 1000, call, () => new Error('no answer in time')).catch(throwUnavailable)
}

function throwUnavailable (cause: unknown): never {
  throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', { cause, detail: `the store: ${messageOf(cause)}` })
}
