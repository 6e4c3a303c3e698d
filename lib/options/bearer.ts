import { bool, check, checkKeys, func, number, oneOf, optional, strings, text, webUrl } from './check.ts'
import { isRecord } from '../util/json.ts'
import type { FastifyRequest } from 'fastify'
import type { ProviderSettings } from './provider.ts'
import type { BearerOptions } from '../../types/options.ts'

/** Which access tokens are taken; every option checked and every default filled in. */
export interface BearerSettings {
  /** Whether tokens of the providers are taken: without `bearer` it is those of the broker only. */
  ofProviders: boolean
  audience: string[]
  algorithms: string[]
  strictType: boolean
  /** The name of the provider that is asked about tokens that are no JWT. */
  introspection: string | undefined
  /** In seconds. */
  introspectionMaxAge: number
  dpop: boolean
  dpopRequired: boolean
  dpopNonce: boolean
  clientCertificate: (request: FastifyRequest) => Uint8Array | string | undefined
  resource: string
  scopes: string[]
}

const OPTIONS = [
  'audience', 'algorithms', 'strictType', 'introspection', 'introspectionMaxAge', 'dpop', 'dpopNonce',
  'clientCertificate', 'resource', 'scopes'
]
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
const USUAL_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']

interface ParseContext {
  /** Whether the application has asked for them. */
  ofProviders: boolean
  baseUrl: string
  allowInsecureLoopback: boolean
  providers: ReadonlyMap<string, ProviderSettings>
}

/** Throws FST_OIDC_OPTION. */
export function parseBearer (
  value: unknown,
  { ofProviders, baseUrl, allowInsecureLoopback, providers }: ParseContext
): BearerSettings {
  check(isRecord(value), '"bearer" must be an object')
  checkKeys(value, OPTIONS, 'bearer.')
  const options = value as Partial<BearerOptions>
  const audience = strings([options.audience ?? []].flat(), 'bearer.audience')
  check(audience.length > 0, '"bearer.audience" must name this API: a token for another one is none here')
  return {
    ofProviders,
    audience,
    algorithms: strings(options.algorithms ?? USUAL_ALGORITHMS, 'bearer.algorithms').map((alg) =>
      oneOf(alg, ALGORITHMS, 'bearer.algorithms')
    ),
    strictType: bool(options.strictType, true, 'bearer.strictType'),
    introspection: parseIntrospection(options.introspection ?? false, providers),
    introspectionMaxAge: number(options.introspectionMaxAge, 10, 'bearer.introspectionMaxAge', 0, 300),
    dpop: options.dpop === 'required' || bool(options.dpop, false, 'bearer.dpop'),
    dpopRequired: options.dpop === 'required',
    dpopNonce: bool(options.dpopNonce, false, 'bearer.dpopNonce'),
    clientCertificate: func(options.clientCertificate, 'bearer.clientCertificate') ?? certificateOf,
    resource:
      optional(options.resource, 'bearer.resource', (url, key) => {
        webUrl(url, key, allowInsecureLoopback)
        return url as string
      }) ?? baseUrl,
    scopes: strings(options.scopes ?? [], 'bearer.scopes')
  }
}

function parseIntrospection (value: unknown, providers: ReadonlyMap<string, ProviderSettings>): string | undefined {
  if (value === false) return undefined
  if (value !== true) return text(value, 'bearer.introspection')
  const [only] = providers.keys()
  // A token of one provider must not be shown to another.
  check(only !== undefined && providers.size === 1, '"bearer.introspection" must name the provider that is asked')
  return only
}

function certificateOf ({ raw: { socket } }: FastifyRequest): Uint8Array | undefined {
  return 'getPeerCertificate' in socket ? (socket as import('node:tls').TLSSocket).getPeerCertificate().raw : undefined
}
