import { en } from './languages/en.ts'
import type { OidcError, OidcErrorCode } from '../errors.ts'
import type { PageTexts } from '../../types/pages.ts'

/** What the user can do about an error. The application may leave these texts out. */
export const ADVICE = ['tryAgain', 'tryLater', 'goBack', 'askForAccess', 'contactSupport'] as const
export type Advice = typeof ADVICE[number]

/** Texts that say more than that of their code. */
const VARIANTS = ['noCookies', 'notAskedAgain', 'applicationUnavailable'] as const
type Variant = typeof VARIANTS[number]

// Where the text of the error itself says what to do, nothing is added.
const ADVICE_FOR: Record<OidcErrorCode | Variant, readonly Advice[]> = {
  FST_OIDC_OPTION: ['contactSupport'],
  FST_OIDC_PARAMETER: ['tryAgain', 'contactSupport'],
  FST_OIDC_NAVIGATION: ['tryAgain'],
  FST_OIDC_PREFETCH: ['tryAgain'],
  FST_OIDC_STATE: ['tryAgain', 'contactSupport'],
  noCookies: [],
  FST_OIDC_RESPONSE_ISSUER: ['tryAgain', 'contactSupport'],
  FST_OIDC_PROVIDER_REFUSED: ['tryAgain', 'contactSupport'],
  FST_OIDC_CODE: ['tryAgain', 'contactSupport'],
  FST_OIDC_ID_TOKEN: ['tryAgain', 'contactSupport'],
  notAskedAgain: ['contactSupport'],
  FST_OIDC_USERINFO: ['tryAgain', 'contactSupport'],
  FST_OIDC_CLAIMS: ['askForAccess'],
  FST_OIDC_SESSION_TOO_LARGE: ['contactSupport'],
  FST_OIDC_LOGIN_REQUIRED: [],
  FST_OIDC_LOGIN_LOST: ['contactSupport'],
  FST_OIDC_AUTHENTICATION_TOO_OLD: [],
  FST_OIDC_FORBIDDEN: ['askForAccess'],
  FST_OIDC_AUTHORIZATION: ['contactSupport'],
  FST_OIDC_TOKEN: ['contactSupport'],
  FST_OIDC_DPOP: ['contactSupport'],
  FST_OIDC_DPOP_NONCE: ['contactSupport'],
  FST_OIDC_CROSS_SITE: ['goBack'],
  FST_OIDC_METHOD: ['goBack', 'contactSupport'],
  FST_OIDC_MEDIA_TYPE: ['goBack', 'contactSupport'],
  FST_OIDC_BODY: ['goBack', 'contactSupport'],
  FST_OIDC_PROVIDER_UNKNOWN: ['goBack', 'contactSupport'],
  FST_OIDC_PROVIDER_UNAVAILABLE: ['tryLater'],
  FST_OIDC_PROVIDER_RESPONSE: ['tryLater', 'contactSupport'],
  FST_OIDC_CLIENT_AUTHENTICATION: ['tryLater', 'contactSupport'],
  FST_OIDC_GRANT: ['contactSupport'],
  FST_OIDC_DEVICE: ['contactSupport'],
  FST_OIDC_LOGOUT_TOKEN: ['contactSupport'],
  FST_OIDC_STORE_UNAVAILABLE: ['tryLater'],
  FST_OIDC_OUTSIDE: ['contactSupport'],
  FST_OIDC_UNEXPECTED: ['tryLater', 'contactSupport'],
  applicationUnavailable: ['tryLater']
}

export interface ErrorText {
  title: string
  paragraphs: string[]
}

/** What a page says of an error. A message that the application wrote itself is shown as it is. */
export function errorText (error: OidcError, texts: Readonly<PageTexts>): ErrorText {
  const name = nameOf(error)
  if (name === undefined) return { title: error.message, paragraphs: [] }
  return { title: texts[name], paragraphs: ADVICE_FOR[name].map((advice) => texts[advice]).filter(Boolean) }
}

function nameOf ({ code, message }: OidcError): OidcErrorCode | Variant | undefined {
  return message === en[code] ? code : VARIANTS.find((variant) => en[variant] === message)
}
