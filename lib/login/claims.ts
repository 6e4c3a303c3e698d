import { splitWords } from '../util/words.ts'
import type { IdTokenClaims } from '../../types/claims.ts'

/** The facts about a login that a session or grant keeps. */
export interface LoginDescription {
  scopes: string[]
  sid?: string
  authTime?: number
  acr?: string
}

export function describeLogin (claims: IdTokenClaims, scope: string): LoginDescription {
  return {
    scopes: splitWords(scope),
    ...(typeof claims.sid === 'string' && { sid: claims.sid }),
    ...(claims.auth_time !== undefined && { authTime: claims.auth_time }),
    ...(typeof claims.acr === 'string' && { acr: claims.acr })
  }
}
