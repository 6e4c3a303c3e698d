import { detailOf, finding } from './report.ts'
import type { OidcError } from '../errors.ts'
import type { Finding } from './report.ts'

const PROXY = 'where only a proxy reaches the Internet, set HTTPS_PROXY and NODE_USE_ENV_PROXY=1 (Node.js 24)'
const PATH = 'Compare the issuer with what the provider calls "issuer" or "discovery URL": most have a path, such as ' +
  '/realms/{realm} or /{tenant id}/v2.0. {url} must show JSON in a browser'

/** What to do about a failure, by the words of the log. The first that fits counts. */
const ADVICE: Array<[cause: RegExp, nextStep: string]> = [
  [/ENOTFOUND|EAI_AGAIN/, `DNS does not know this name. Check its spelling, and whether it needs a VPN; ${PROXY}`],
  [
    /ECONNREFUSED/,
    'Nothing listens there. Check the port, and that the provider runs; within a container, localhost is the container'
  ],
  [/certificate authority/, 'Set NODE_EXTRA_CA_CERTS to the PEM file of the certificate authority, here and for the application'],
  [
    /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/,
    'Renew the certificate of the provider, and compare the clock of this machine'
  ],
  [/ERR_TLS_CERT_ALTNAME_INVALID/, 'The certificate is for another name: use the name that is in it as the issuer'],
  [/EPROTO|ERR_SSL|ERR_TLS|HPE_/, 'The port does not speak what the address says: check http, https and the port'],
  [
    /timeout|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/,
    `A firewall may drop the connection, or the provider is slow: try {url} with curl on this machine; ${PROXY}`
  ],
  [
    /redirects are not followed/,
    'Redirects are never followed. Take the address it leads to as the issuer, without /.well-known/openid-configuration'
  ],
  [/\b404\b/, PATH],
  [/html/, `This is a page, perhaps of a login, a firewall or a proxy. ${PATH}`],
  [/: 40[13]\b/, 'The provider or a proxy before it wants a login for this address: make it public, as the specification asks'],
  [/status (?:429|5\d\d)/, 'The provider does not work at the moment: look at its own log, and try again'],
  [/larger than/, 'If this is right, set "maxResponseBytes"'],
  [/issuer in the metadata/, 'Write the issuer exactly as the provider does'],
  [/not JSON|JSON object|JWK Set|without a content type|: [24]\d\d /, PATH],
  [/^\w+ from the provider|mtls_endpoint_aliases/, 'Correct it at the provider, or set the right one in the option "metadata"']
]

const OTHERWISE = 'Try {url} with curl on this machine. A firewall or a proxy between here and the provider may interfere'

/** A failure to fetch or to read what is at `url`. */
export function failure (code: string, error: OidcError, url: string): Finding {
  const detail = detailOf(error)
  const [, nextStep] = ADVICE.find(([cause]) => cause.test(detail)) ?? [undefined, OTHERWISE]
  return finding('error', code, detail, nextStep.replace('{url}', url))
}
