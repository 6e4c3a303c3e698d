import { sha256 } from '../util/crypto.ts'
import type { FastifyBaseLogger } from 'fastify'

/** What a user or a program has completed. */
export type Act = 'login' | 'logout' | 'refresh' | 'grant'

/** What the log says of it: nothing that names a user, and no token. */
export interface ActFacts {
  provider: string | undefined
  /** The digest of the session or grant. */
  session?: string | undefined
  /** Why a session has ended. */
  reason?: string
  /** How many sessions have ended, where it may be another number than one. */
  sessions?: number
  grantType?: string
}

/** Writes the one line of an act that is complete. */
export function logCompleted (log: FastifyBaseLogger, act: Act, facts: ActFacts): void {
  log.info({ act, ...facts }, `${act} completed`)
}

/** Stands for a session or a grant in the log. The identifier itself stays out of it. */
export function sessionDigest (id: string): string {
  return sha256(id).slice(0, 12)
}
