import { reasonOf } from '../errors.ts'
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
      await provider.revoke(token, hint).catch((error: OidcError) => {
        log[levelOf(error, provider)](reasonOf(error), 'the token could not be revoked')
      })
    }
  }
  revokeAll()
}

// Some providers do not let a public client revoke, and send it to their login page at each logout instead.
function levelOf ({ kind }: OidcError, { settings }: Provider): 'info' | 'warn' {
  return settings.clientAuth === 'none' && kind === 'redirect' ? 'info' : 'warn'
}
