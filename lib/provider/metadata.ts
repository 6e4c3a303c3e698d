import { OidcError, checkWith } from '../errors.ts'
import { isRecord } from '../util/json.ts'
import { isSafeEndpoint } from '../util/url.ts'
import type { Check, OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ProviderMetadata } from '../../types/options.ts'

/** The metadata of a provider, as far as it can be used. */
export interface UsableMetadata {
  /** Every endpoint in it is the one for this client, and safe. */
  metadata: ProviderMetadata
  /** What is wrong with the optional endpoints that were left out, by their names. */
  leftOut: ReadonlyMap<string, string>
}

const REQUIRED = ['authorization_endpoint', 'token_endpoint', 'jwks_uri']
const OPTIONAL = [
  'userinfo_endpoint', 'revocation_endpoint', 'pushed_authorization_request_endpoint', 'introspection_endpoint',
  'device_authorization_endpoint', 'end_session_endpoint'
]
/** The endpoints that this client calls itself, and for which there may be an alias. */
const CALLED = ['token_endpoint', ...OPTIONAL.slice(0, -1)]

const check: Check = checkWith('FST_OIDC_PROVIDER_RESPONSE')

/**
 * Checks the issuer (OpenID Connect Discovery 1.0, section 4.3) and adds what is configured, which wins. A required
 * endpoint must be safe to use. An optional one that is not counts as absent, because most logins do not need it.
 */
export function readMetadata (settings: ProviderSettings, document: unknown): UsableMetadata {
  check(isRecord(document), 'the metadata is not a JSON object')
  const { issuer, allowInsecureLoopback } = settings
  checkIssuer(document['issuer'], issuer)
  const metadata = withAliases(settings, {
    ...document,
    ...settings.metadata,
    ...(settings.jwksUri !== undefined && { jwks_uri: settings.jwksUri })
  })
  for (const name of REQUIRED) checkEndpoint(name, metadata[name], allowInsecureLoopback)
  const leftOut = new Map<string, string>()
  for (const name of OPTIONAL.filter((name) => metadata[name] !== undefined)) {
    const problem = problemOf(metadata[name], allowInsecureLoopback)
    if (problem === undefined) continue
    leftOut.set(name, problem)
    delete metadata[name]
  }
  return { metadata: metadata as ProviderMetadata, leftOut }
}

function checkIssuer (found: unknown, issuer: string): void {
  const advice = '"issuer" must be exactly what the provider writes, or "expectedIssuer" must say it'
  check(found === issuer, `the issuer in the metadata is ${String(found).slice(0, 200)}, not ${issuer}: ${advice}`)
}

/** A client with a certificate may have to use other endpoints (RFC 8705, section 5). */
function withAliases ({ clientAuth }: ProviderSettings, all: Record<string, unknown>): Record<string, unknown> {
  const { mtls_endpoint_aliases: aliases, ...metadata } = all
  if (clientAuth !== 'tls_client_auth' || aliases == null) return metadata
  check(isRecord(aliases), 'mtls_endpoint_aliases in the metadata is not an object')
  const used = CALLED.filter((name) => aliases[name] != null)
  return { ...metadata, ...Object.fromEntries(used.map((name) => [name, aliases[name]])) }
}

/** Throws FST_OIDC_PROVIDER_RESPONSE unless a URL from the provider is safe to use. */
export function checkEndpoint (name: string, value: unknown, allowInsecureLoopback: boolean): void {
  const problem = problemOf(value, allowInsecureLoopback)
  check(problem === undefined, `${name} from the provider ${problem}`)
}

function problemOf (value: unknown, allowInsecureLoopback: boolean): string | undefined {
  if (typeof value !== 'string' || !URL.canParse(value)) return 'is not a URL'
  return isSafeEndpoint(value, allowInsecureLoopback) ? undefined : 'is not an https URL without credentials or fragment'
}

/** The endpoint that a request needs. Throws an OidcError with the code when there is none that can be used. */
export function requireEndpoint ({ metadata, leftOut }: UsableMetadata, name: string, code: OidcErrorCode): string {
  const endpoint = metadata[name]
  if (typeof endpoint === 'string') return endpoint
  const problem = leftOut.get(name)
  const reason = problem === undefined
    ? `the metadata of the provider has no ${name}`
    : `${name} in the metadata of the provider ${problem}`
  throw new OidcError(code, { detail: `${reason}; if there is one, set it in the option "metadata"` })
}
