import { logoutEvent } from '../provider/tokens.ts'
import { append, move } from './claims.ts'
import type { LogoutTokenOptions, SendLogoutOptions } from '../provider/token-options.ts'

type LogoutVariant = Omit<LogoutTokenOptions, 'sub' | 'sid'> & Pick<SendLogoutOptions, 'fields'>

/**
 * Wrong logout tokens by name, as options of `logoutToken` and `sendLogoutToken`; `valid` is a right one. The first
 * ones have the names of the modules `rp-backchannel-rpinitlogout-…` of the conformance suite.
 *
 * @example
 * await provider.sendLogoutToken(url, { sub: 'alice', ...logoutFaults['alg-none'] })
 */
export const logoutFaults = {
  valid: { overrides: { unknown: 'ignored' }, fields: { unknown: 'ignored' } },
  'alg-none': { signWith: 'none' },
  'no-event': { overrides: { events: undefined } },
  'with-nonce': { overrides: { nonce: 'nonce' } },
  'wrong-alg': { signWith: 'alternate-alg' },
  'wrong-aud': { overrides: append('aud', 'INVALID') },
  'wrong-event': { overrides: { events: { [`${logoutEvent}INVALID`]: {} } } },
  'wrong-iss': { overrides: append('iss', 'INVALID') },

  'no-aud': { overrides: { aud: undefined } },
  'no-iss': { overrides: { iss: undefined } },
  'no-iat': { overrides: { iat: undefined } },
  'no-exp': { overrides: { exp: undefined } },
  'no-jti': { overrides: { jti: undefined } },
  'no-sub-and-no-sid': { overrides: { sub: undefined, sid: undefined } },
  'sub-number': { overrides: { sub: 42 } },
  'sid-empty': { overrides: { sid: '' } },
  expired: { overrides: (claims) => move('exp', -1000)(move('iat', -1000)(claims)) },
  'iat-in-future': { overrides: move('iat', 3600) },
  'events-string': { overrides: { events: logoutEvent } },
  'events-array': { overrides: { events: [logoutEvent] } },
  'event-not-an-object': { overrides: { events: { [logoutEvent]: true } } },
  'typ-jwt': { header: { typ: 'JWT' } },
  'no-typ': { header: { typ: undefined } },
  'typ-access-token': { header: { typ: 'at+jwt' } },
  'broken-signature': { signWith: 'broken-signature' },
  'other-key': { signWith: 'other-key' },
  'unknown-kid': { signWith: 'unknown-kid' },
  'public-pem': { signWith: 'public-pem' },
  'embedded-jwk': { signWith: 'embedded-jwk' },
  crit: { signWith: 'crit' }
} as const satisfies Record<string, LogoutVariant>
