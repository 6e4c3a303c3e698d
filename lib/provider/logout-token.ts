import { decrypt } from './decrypt.ts'
import { OidcError } from '../errors.ts'
import { now } from '../util/time.ts'
import type { JWTPayload, JWTVerifyResult } from 'jose'
import type { KeySet } from './key-set.ts'
import type { ProviderSettings } from '../options/provider.ts'

/** Whom the provider has logged out. */
export interface LogoutToken {
  jti: string
  sub: string | undefined
  sid: string | undefined
  /** In seconds since the epoch, by the provider's clock. */
  iat: number
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** How old a logout token may be, in seconds. */
const MAX_AGE = 300
const MAX_JTI = 1000 // characters, because it is remembered

/** How long a logout token could be accepted again, in seconds. */
export function replayTime ({ clockTolerance }: ProviderSettings): number {
  return 2 * (MAX_AGE + clockTolerance)
}

/** Every check of OpenID Connect Back-Channel Logout 1.0, section 2.6. Throws FST_OIDC_LOGOUT_TOKEN. */
export async function verifyLogoutToken (
  token: string,
  keySet: KeySet,
  settings: ProviderSettings
): Promise<LogoutToken> {
  const {
    payload,
    protectedHeader: { typ }
  } = await verifySignature(await plain(token, settings), keySet, settings)
  check(
    typ === undefined || ['jwt', 'logout+jwt'].includes(String(typ).toLowerCase()),
    'typ names another kind of token'
  )
  check(isObject(payload['events']) && isObject(payload['events'][EVENT]), 'events does not have the event of a logout')
  check(!('nonce' in payload), 'a nonce belongs to an ID token')
  const { iat, jti, sub, sid } = payload as JWTPayload & { iat: number, sid?: unknown }
  check(Math.abs(now() - iat) <= MAX_AGE + settings.clockTolerance, 'iat is too long ago, or in the future')
  check(isText(jti) && jti.length <= MAX_JTI, 'jti must be a string')
  check(
    (sub === undefined || isText(sub)) && (sid === undefined || isText(sid)) && (sub ?? sid) !== undefined,
    'sub or sid must be a string'
  )
  return { jti, sub, sid: sid as string | undefined, iat }
}

/** What is encrypted as ID tokens are is a logout token as well (section 2.2). */
async function plain (token: string, { idTokenEncryption, decryptionKeys }: ProviderSettings): Promise<string> {
  return idTokenEncryption === undefined
    ? token
    : await decrypt(token, idTokenEncryption, decryptionKeys, 'FST_OIDC_LOGOUT_TOKEN')
}

async function verifySignature (
  token: string,
  keySet: KeySet,
  { issuer, clientId, idTokenSigningAlg, clockTolerance }: ProviderSettings
): Promise<JWTVerifyResult> {
  try {
    return await keySet.verify(token, {
      issuer,
      audience: clientId,
      algorithms: [idTokenSigningAlg],
      clockTolerance,
      requiredClaims: ['iat', 'jti']
    })
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_LOGOUT_TOKEN', { cause, detail: String((cause as Error).message) })
  }
}

function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_LOGOUT_TOKEN', { detail })
}
