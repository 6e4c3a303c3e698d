import { OidcError, checkWith } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { now } from '../util/time.ts'
import { decryptIfConfigured } from './decrypt.ts'
import { describeTime, verifyProviderJwt } from './verify-jwt.ts'
import type { JWTPayload } from 'jose'
import type { Check } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { KeySet } from './key-set.ts'

/** The user or the session that the provider has logged out. */
export interface LogoutToken {
  jti: string
  sub: string | undefined
  sid: string | undefined
  /** In seconds since the epoch, from the clock of the provider. */
  iat: number
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** How old a logout token may be, in seconds. */
const MAX_AGE = 300
const MAX_JTI = 1000 // characters: every jti is remembered for a while

const check: Check = checkWith('FST_OIDC_LOGOUT_TOKEN')

/** How long a logout token may be valid, in seconds: for this time its `jti` must be remembered. */
export function replayTime ({ clockTolerance }: ProviderSettings): number {
  return 2 * (MAX_AGE + clockTolerance)
}

/** Verifies a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6). Throws FST_OIDC_LOGOUT_TOKEN. */
export async function verifyLogoutToken (
  token: string,
  keySet: Pick<KeySet, 'verify'>,
  settings: ProviderSettings
): Promise<LogoutToken> {
  const signed = await decryptIfConfigured(token, settings, 'FST_OIDC_LOGOUT_TOKEN')
  const { payload, protectedHeader } = await verifyProviderJwt(signed, keySet, settings, {
    issuer: settings.issuer, requiredClaims: ['iat', 'jti'], code: 'FST_OIDC_LOGOUT_TOKEN'
  })
  const { typ } = protectedHeader
  check(
    typ === undefined || ['jwt', 'logout+jwt'].includes(String(typ).toLowerCase()),
    'typ names another kind of token'
  )
  check(isRecord(payload['events']) && isRecord(payload['events'][EVENT]), 'events does not contain the logout event')
  check(!('nonce' in payload), 'a nonce belongs to an ID token')
  const { iat, jti, sub, sid } = payload as JWTPayload & { iat: number, sid?: unknown }
  if (Math.abs(now() - iat) > MAX_AGE + settings.clockTolerance) {
    throw new OidcError('FST_OIDC_LOGOUT_TOKEN', { detail: describeTime('iat', iat) })
  }
  check(isText(jti) && jti.length <= MAX_JTI, `jti must be a string of 1 to ${MAX_JTI} characters`)
  check(
    (sub === undefined || isText(sub)) && (sid === undefined || isText(sid)) && (sub ?? sid) !== undefined,
    'sub or sid must be a string'
  )
  return { jti, sub, sid: sid as string | undefined, iat }
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
