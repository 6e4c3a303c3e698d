import { OidcError } from '../errors.ts'
import type { Reload } from '../util/cached.ts'

/** How long a request waits for metadata or keys that are loaded again, in seconds. */
export const PATIENCE = 1

/**
 * What is known answers at once while it is loaded again, for ten minutes. Older keys wait: one that was taken away
 * long ago must not verify a token, unless the provider could not be asked.
 */
export const RELOAD: Reload = {
  answersFor: 600_000,
  patience: PATIENCE,
  late: () => new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
    detail: `what is known of the provider is too old, and has not been loaded again within ${PATIENCE} s`,
    retryAfter: PATIENCE
  })
}

/** For a token whose key is not known so far. Whether it is right cannot be told: a final refusal would be wrong. */
export function unknownKey (): OidcError {
  return new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
    detail: 'the token is of an unknown key, and the keys could not be fetched again in time: too many such tokens ' +
      'have come, or the provider is slow',
    kind: 'flood',
    level: 'info',
    retryAfter: PATIENCE
  })
}
