import { OidcError, messageOf } from '../errors.ts'

/** How long the store may take, in milliseconds. */
const TIMEOUT = 4000

/**
 * Calls the store. Throws FST_OIDC_STORE_UNAVAILABLE if it fails or does not answer in time: a store that does not
 * answer must not keep a request waiting, and must not look like a store without the entry.
 */
export async function withTimeout<T> (call: () => Promise<T>, timeout = TIMEOUT): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), timeout)
  })
  // Within an async function, a call that throws at once also becomes a rejection.
  const answer = async (): Promise<T> => await call()
  return await Promise.race([answer(), late]).catch(throwUnavailable).finally(() => clearTimeout(timer))
}

function throwUnavailable (cause: unknown): never {
  throw new OidcError('FST_OIDC_STORE_UNAVAILABLE', { cause, detail: `the store: ${messageOf(cause)}` })
}
