import type { FastifyBaseLogger } from 'fastify'
import type { OidcError } from '../errors.ts'
import type { Provider } from './provider.ts'

export interface Revocation {
  provider: Provider
  token: string
  hint: 'access_token' | 'refresh_token'
}

/**
 * Revokes tokens at their providers, one after the other (RFC 7009). Does not wait for the result, because the session
 * or grant has ended already. Failures are logged.
 */
export function revokeInBackground (log: FastifyBaseLogger, revocations: readonly Revocation[]): void {
  const revokeAll = async (): Promise<void> => {
    for (const { provider, token, hint } of revocations) {
      await provider.revoke(token, hint).catch(({ code, detail }: OidcError) => {
        log.warn({ code, detail }, 'the token could not be revoked')
      })
    }
  }
  revokeAll()
}
