import * as client from 'openid-client'
import { OidcError } from '../errors.ts'
import { createCached } from '../util/cached.ts'
import { createClientAuthentication } from './client-authentication.ts'
import { attempt } from './client-errors.ts'
import { readResponses } from './endpoint-response.ts'
import { createKeySet } from './key-set.ts'
import { readMetadata } from './metadata.ts'
import { RELOAD } from './reload.ts'
import { createTransport, describeResponse, isJson } from './transport.ts'
import type { FastifyBaseLogger } from 'fastify'
import type { ProviderSettings } from '../options/provider.ts'
import type { MeasureRequest } from '../telemetry.ts'
import type { Cached } from '../util/cached.ts'
import type { Connections } from './connections.ts'
import type { KeySet } from './key-set.ts'
import type { UsableMetadata } from './metadata.ts'
import type { Fetch, ProviderMetadata } from '../../types/options.ts'

/** The result of discovery. Every request to the provider needs it. */
export interface Discovered extends UsableMetadata {
  settings: ProviderSettings
  /** The provider and this client, as openid-client knows them. */
  config: client.Configuration
  keySet: KeySet
}

const HOUR = 3_600_000
const TIMES = { maxAge: HOUR, maxStale: 24 * HOUR, retryAfter: 1000, reload: RELOAD }

/** Loads and checks the metadata of a provider when it is first needed, and again when it is too old. */
export function createDiscovery (
  settings: ProviderSettings,
  log: FastifyBaseLogger,
  connections: Connections,
  measure?: MeasureRequest
): Cached<Discovered> {
  let names = namesOf(settings, {})
  const transport = createTransport(settings, connections, (url) => names.get(new URL(url).href), measure)
  const keySetAt = createKeySets(transport, log)
  const warn = createWarning(settings, log)

  async function load (): Promise<Discovered> {
    const usable = readMetadata(settings, await loadMetadata(settings, transport))
    warn(usable)
    names = namesOf(settings, usable.metadata)
    const config = createConfiguration(settings, usable.metadata, transport)
    return { ...usable, settings, config, keySet: keySetAt(usable.metadata.jwks_uri) }
  }

  return createCached(async () => await attempt('FST_OIDC_PROVIDER_RESPONSE', load), TIMES)
}

/** Warns once of each endpoint that was left out, and not each time that the metadata is loaded. */
function createWarning ({ name: provider }: ProviderSettings, log: FastifyBaseLogger): (found: UsableMetadata) => void {
  const warned = new Set<string>()
  return ({ leftOut }) => {
    for (const [endpoint, problem] of leftOut) {
      if (!warned.has(endpoint)) {
        log.warn({ provider }, `${endpoint} in the metadata of the provider ${problem}: it is not used`)
      }
      warned.add(endpoint)
    }
  }
}

/** The metadata as the provider publishes it, or as it is configured. Throws an OidcError. */
export async function loadMetadata (settings: ProviderSettings, transport: Fetch): Promise<unknown> {
  if (!settings.needsDiscovery) return settings.metadata
  const response = await transport(settings.discoveryUrl, { headers: { accept: 'application/json' } })
  if (response.status !== 200 || !isJson(response)) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { detail: describeResponse(response) })
  }
  return await response.json().catch((cause: unknown) => {
    throw new OidcError('FST_OIDC_PROVIDER_RESPONSE', { cause, detail: 'discovery: the response is not JSON' })
  })
}

/** The name of each endpoint by its URL, for the log. */
function namesOf ({ discoveryUrl }: ProviderSettings, metadata: Partial<ProviderMetadata>): Map<string, string> {
  const endpoints = Object.entries(metadata)
    .filter(([key, value]) => /_(?:endpoint|uri)$/.test(key) && typeof value === 'string' && URL.canParse(value))
    .map(([key, value]): [string, string] => [new URL(value as string).href, key.replaceAll('_', ' ')])
  return new Map([[discoveryUrl, 'metadata'], ...endpoints])
}

function createConfiguration (
  settings: ProviderSettings,
  metadata: ProviderMetadata,
  transport: Fetch
): client.Configuration {
  const config = new client.Configuration(metadata as client.ServerMetadata, settings.clientId, {
    id_token_signed_response_alg: settings.idTokenSigningAlg,
    [client.clockTolerance]: settings.clockTolerance
  }, createClientAuthentication(settings))
  config[client.customFetch] = readResponses(metadata, transport) as client.CustomFetch
  config.timeout = 0 // the transport has its own timeout
  if (settings.allowInsecureLoopback) client.allowInsecureRequests(config)
  return config
}

/** Keeps the key set as long as its address stays the same: new metadata must not discard the keys. */
function createKeySets (transport: Fetch, log: FastifyBaseLogger): (jwksUri: string) => KeySet {
  let known: { jwksUri: string, keySet: KeySet } | undefined
  return (jwksUri) => {
    if (known?.jwksUri !== jwksUri) known = { jwksUri, keySet: createKeySet(jwksUri, transport, log) }
    return known.keySet
  }
}
