import { OidcError } from '../errors.ts'
import { bool, check } from '../options/check.ts'
import { endsLogin } from '../session/refresh-once.ts'
import type { FastifyRequest } from 'fastify'
import type { Settings } from '../options/settings.ts'
import type { AccessToken } from '../session/access-token.ts'
import type { Sessions } from '../session/sessions.ts'

/** Refreshes the access token if it is due. Returns the error when the user must log in again. */
export type Refresh = (request: FastifyRequest) => Promise<OidcError | undefined>

/** Reads the option `refresh` of a guard. `undefined` when it is not set. */
export type ParseRefresh = (value: unknown) => Refresh | undefined

export interface RefreshParts {
  settings: Pick<Settings, 'session'>
  sessions: Sessions
  accessToken: AccessToken
}

export function createParseRefresh ({ settings, sessions, accessToken }: RefreshParts): ParseRefresh {
  async function refresh (request: FastifyRequest): Promise<OidcError | undefined> {
    await sessions.prepare(request)
    if (sessions.read(request) === null) return undefined
    try {
      await accessToken(request)
      return undefined
    } catch (error) {
      if (!endsLogin(error)) throw error
      return new OidcError('FST_OIDC_LOGIN_REQUIRED', { cause: error, detail: error.detail })
    }
  }

  return (value) => {
    if (!bool(value, false, 'refresh')) return undefined
    check(settings.session.tokens.has('access_token'), '"refresh" needs "session.tokens" with access_token')
    return refresh
  }
}
