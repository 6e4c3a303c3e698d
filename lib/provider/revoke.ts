import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Provider } from './provider.ts'

export interface Revocation {
  provider: Provider
  token: string
  hint: 'access_token' | 'refresh_token'
}

/**
 * Revokes tokens at their providers, one after the other (RFC 7009). What they were for has ended already:
 * nobody waits.
 */
export function revokeInBackground (log: FastifyBaseLogger, revocations: readonly Revocation[]): void {
  const revokeAll = async (): Promise<void> => {
    for (const { provider, token, hint } of revocations) {
      await provider
        .revoke(token, hint)
        .catch((error: OidcError) =>
          log.warn({ code: error.code, detail: error.detail }, 'the token could not be revoked')
        )
    }
  }
  revokeAll()
}
