import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { Telemetry } from '../telemetry.ts'
import type { OidcSession } from '../../types/claims.ts'
import type { LogoutContext } from '../../types/options.ts'

/** Tells the application that a session has ended. An error of its hook is logged, not thrown. */
export type ReportEnd = (
  session: OidcSession,
  reason: LogoutContext['reason'],
  request: FastifyRequest | null
) => Promise<void>

export interface ReportEndParts {
  log: FastifyBaseLogger
  telemetry: Telemetry
  onLogout: Settings['onLogout']
}

export function createReportEnd ({ log, telemetry, onLogout }: ReportEndParts): ReportEnd {
  return async (session, reason, request) => {
    telemetry.sessionEnded(session.provider, reason)
    try {
      await onLogout?.(session, { reason, request })
    } catch (error) {
      log.error({ err: error }, 'onLogout failed')
    }
  }
}
