import * as client from 'openid-client'
import { OidcError, checkWith } from '../errors.ts'
import { createCached } from '../util/cached.ts'
import { isRecord } from '../util/json.ts'
import { isSafeEndpoint } from '../util/url.ts'
import { createClientAuthentication } from './client-authentication.ts'
import { attempt } from './client-errors.ts'
import { decryptIdToken } from './decrypt.ts'
import { createKeySet } from './key-set.ts'
import { createTransport, isJson } from './transport.ts'
import type { Check } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Cached } from '../util/cached.ts'
import type { KeySet } from './key-set.ts'
import type { Fetch, ProviderMetadata } from '../../types/options.ts'

/** The result of discovery. Every request to the provider needs it. */
export interface Discovered {
  settings: ProviderSettings
  metadata: ProviderMetadata
  /** The provider and this client, as openid-client knows them. */
  config: client.Configuration
  keySet: KeySet
}

const HOUR = 3_600_000
const TIMES = { maxAge: HOUR, maxStale: 24 * HOUR, retryAfter: 1000 }
const ENDPOINTS = [
  'authorization_endpoint', 'token_endpoint', 'jwks_uri', 'userinfo_endpoint', 'end_session_endpoint',
  'revocation_endpoint', 'pushed_authorization_request_endpoint', 'introspection_endpoint',
  'device_authorization_endpoint'
]
const REQUIRED = new Set(['authorization_endpoint', 'token_endpoint', 'jwks_uri'])

const check: Check = checkWith('FST_OIDC_PROVIDER_RESPONSE')

/** Loads and checks the metadata of a provider when it is first needed, and again when it is too old. */
export function createDiscovery (settings: ProviderSettings): Cached<Discovered> {
  const transport = createTransport(settings)
  const keySetAt = createKeySets(transport)

  async function load (): Promise<Discovered> {
    const metadata = checkMetadata(settings, await loadMetadata(settings, transport))
    const config = createConfiguration(settings, metadata, transport)
    return { settings, metadata, config, keySet: keySetAt(metadata.jwks_uri) }
  }

  return createCached(async () => await attempt('FST_OIDC_PROVIDER_RESPONSE', load), TIMES)
}

async function loadMetadata (settings: ProviderSettings, transport: Fetch): Promise<unknown> {
  if (settings.metadata !== undefined) return settings.metadata
  const response = await transport(settings.discoveryUrl, { headers: { accept: 'application/json' } })
  if (response.status !== 200 || !isJson(response)) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      detail: `discovery: status ${response.status}, ${response.headers.get('content-type')}`
    })
  }
  return await response.json().catch((cause: unknown) => {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { cause, detail: 'discovery: the response is not JSON' })
  })
}

/** Checks the issuer (OpenID Connect Discovery 1.0, section 4.3), and that every endpoint is safe to use. */
function checkMetadata (settings: ProviderSettings, document: unknown): ProviderMetadata {
  check(isRecord(document), 'the metadata is not a JSON object')
  const metadata = {
    ...document,
    ...(settings.jwksUri !== undefined && { jwks_uri: settings.jwksUri })
  } as ProviderMetadata
  check(
    metadata.issuer === settings.issuer,
    `the issuer in the metadata is ${String(metadata.issuer).slice(0, 200)}, not ${settings.issuer}`
  )
  const aliases = metadata.mtls_endpoint_aliases ?? {}
  check(isRecord(aliases), 'mtls_endpoint_aliases in the metadata is not an object')
  for (const name of ENDPOINTS) {
    checkEndpoint(name, metadata[name], settings.allowInsecureLoopback, REQUIRED.has(name))
    checkEndpoint(name, aliases[name], settings.allowInsecureLoopback, false)
  }
  return metadata
}

/** Throws FST_OIDC_PROVIDER_RESPONSE unless a URL from the provider is safe, or absent and not required. */
export function checkEndpoint (name: string, value: unknown, allowInsecureLoopback: boolean, required: boolean): void {
  if (value === undefined && !required) return
  check(typeof value === 'string' && URL.canParse(value), `${name} from the provider is not a URL`)
  check(
    isSafeEndpoint(new URL(value), allowInsecureLoopback),
    `${name} from the provider is not an https URL without credentials or fragment`
  )
}

function createConfiguration (
  settings: ProviderSettings,
  metadata: ProviderMetadata,
  transport: Fetch
): client.Configuration {
  const config = new client.Configuration(metadata as client.ServerMetadata, settings.clientId, {
    id_token_signed_response_alg: settings.idTokenSigningAlg,
    [client.clockTolerance]: settings.clockTolerance,
    use_mtls_endpoint_aliases: usesAliases(settings)
  }, createClientAuthentication(settings))
  const tokenEndpoint = endpointOf(metadata, settings, 'token_endpoint') as string
  config[client.customFetch] = readTokens(new URL(tokenEndpoint).href, transport, settings) as client.CustomFetch
  config.timeout = 0 // the transport has its own timeout
  if (settings.allowInsecureLoopback) client.allowInsecureRequests(config)
  return config
}

// openid-client ignores the content type of a token response; it must be JSON (RFC 6749, section 5.1).
function readTokens (tokenEndpoint: string, transport: Fetch, settings: ProviderSettings): Fetch {
  return async (url, init) => {
    const response = await transport(url, init)
    if (url !== tokenEndpoint) return response
    check(response.status !== 200 || isJson(response), 'the token response is not JSON')
    return await decryptIdToken(response, settings)
  }
}

/** Keeps the key set as long as its address stays the same: new metadata must not discard the keys. */
function createKeySets (transport: Fetch): (jwksUri: string) => KeySet {
  let known: { jwksUri: string, keySet: KeySet } | undefined
  return (jwksUri) => {
    if (known?.jwksUri !== jwksUri) known = { jwksUri, keySet: createKeySet(jwksUri, transport) }
    return known.keySet
  }
}

/** The endpoint for this client: a client with a certificate may have to use an alias (RFC 8705, section 5). */
export function endpointOf (
  metadata: ProviderMetadata,
  settings: ProviderSettings,
  name: 'token_endpoint' | 'userinfo_endpoint'
): string | undefined {
  return (usesAliases(settings) ? metadata.mtls_endpoint_aliases?.[name] : undefined) ?? metadata[name]
}

function usesAliases ({ clientAuth }: ProviderSettings): boolean {
  return clientAuth === 'tls_client_auth'
}
