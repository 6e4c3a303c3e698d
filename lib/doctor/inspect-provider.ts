import { fetchKeys } from '../provider/key-set.ts'
import { loadMetadata } from '../provider/discovery.ts'
import { readMetadata } from '../provider/metadata.ts'
import { createTransport } from '../provider/transport.ts'
import { isRecord } from '../util/json.ts'
import { failure } from './failure-advice.ts'
import { describeKeys, inspectKeys } from './inspect-keys.ts'
import { describeMetadata, inspectMetadata, signingAlgOf } from './inspect-metadata.ts'
import { finding } from './report.ts'
import type { OidcError } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Connections } from '../provider/connections.ts'
import type { Finding, Report } from './report.ts'
import type { Fetch, ProviderMetadata } from '../../types/options.ts'

export interface InspectedProvider extends Pick<Report, 'metadata' | 'keys'> {
  findings: Finding[]
  /** The metadata, as the plugin would use it. `undefined` when it would not: then it gets no secret. */
  usable?: ProviderMetadata | undefined
}

/** Fetches metadata and keys as the plugin does, and says what is there, what is missing and what is odd. */
export async function inspectProvider (
  settings: ProviderSettings,
  connections: Connections
): Promise<InspectedProvider> {
  const { discoveryUrl } = settings
  const transport = createTransport(settings, connections, (url) => url === discoveryUrl ? 'metadata' : 'keys')
  try {
    return await inspectDocument(settings, await loadMetadata(settings, transport), transport)
  } catch (error) {
    const { code } = error as OidcError
    const kind = code === 'FST_OIDC_PROVIDER_UNAVAILABLE' ? 'metadata_unavailable' : 'metadata_invalid'
    return { metadata: null, keys: null, findings: [failure(kind, error as OidcError, discoveryUrl)] }
  }
}

async function inspectDocument (
  settings: ProviderSettings,
  document: unknown,
  transport: Fetch
): Promise<InspectedProvider> {
  const { discoveryUrl, issuer } = settings
  const published = isRecord(document) ? document['issuer'] : undefined
  const otherIssuer = isOther(published, issuer) ? [issuerDiffers(published, issuer, discoveryUrl)] : []
  const metadata = isRecord(document) ? describeMetadata(discoveryUrl, document) : null
  try {
    // With another issuer, the rest is worth reading all the same.
    const expected = otherIssuer.length > 0 ? { ...settings, issuer: published as string } : settings
    const read = readMetadata(expected, document)
    const { keys, findings } = await inspectKeySet(read.metadata, transport)
    return {
      metadata,
      keys,
      findings: [...otherIssuer, ...inspectMetadata(read), ...findings],
      usable: otherIssuer.length > 0 ? undefined : read.metadata
    }
  } catch (error) {
    const invalid = failure('metadata_invalid', error as OidcError, discoveryUrl)
    return { metadata, keys: null, findings: [...otherIssuer, invalid] }
  }
}

async function inspectKeySet (
  metadata: ProviderMetadata,
  transport: Fetch
): Promise<Pick<InspectedProvider, 'keys' | 'findings'>> {
  try {
    const keys = await fetchKeys(metadata.jwks_uri, transport)
    return { keys: describeKeys(keys), findings: inspectKeys(keys, signingAlgOf(metadata) ?? 'RS256') }
  } catch (error) {
    return { keys: null, findings: [failure('keys_unavailable', error as OidcError, metadata.jwks_uri)] }
  }
}

function isOther (published: unknown, issuer: string): published is string {
  return typeof published === 'string' && URL.canParse(published) && published !== issuer
}

function issuerDiffers (published: string, issuer: string, discoveryUrl: string): Finding {
  const message = `the provider calls itself ${published.slice(0, 200)}, not ${issuer}`
  if (/[{}]/.test(published)) {
    return finding(
      'error', 'issuer_template',
      message,
      'This is the metadata of all tenants. Put the identifier of your tenant into the issuer; for several ' +
        'tenants, use "resolveProvider"'
    )
  }
  if (published.replace(/\/$/, '') === issuer.replace(/\/$/, '')) {
    return finding(
      'error', 'issuer_slash',
      message,
      'The slash at the end counts. Write the issuer as the provider does',
      { issuer: published }
    )
  }
  if (new URL(published).host === new URL(issuer).host) {
    return finding('error', 'issuer_differs', message, 'Write the issuer as the provider does', { issuer: published })
  }
  return finding(
    'error', 'issuer_differs',
    message,
    'Take the address that browsers use as the issuer. If it is the one that the provider names, and the ' +
      'application reaches it only by another address, set both "issuer" and "discoveryUrl"',
    { issuer: published, discoveryUrl }
  )
}
