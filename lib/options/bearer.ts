import { isRecord } from '../util/json.ts'
import { bool, check, checkKeys, checkSet, func, number, oneOf, optional, strings, text, webUrl } from './check.ts'
import { SIGNING_ALGS } from './provider.ts'
import type { TLSSocket } from 'node:tls'
import type { FastifyRequest } from 'fastify'
import type { ParseContext } from './context.ts'
import type { BearerOptions } from '../../types/options.ts'

/** Which access tokens the application accepts. Every option is checked and complete. */
export interface BearerSettings {
  /** Whether tokens of the providers are accepted. Without the option `bearer`, only those of the broker are. */
  ofProviders: boolean
  audience: string[]
  algorithms: string[]
  strictType: boolean
  /** The name of the provider that introspects tokens that are not JWTs. */
  introspection: string | undefined
  /** In seconds. */
  introspectionMaxAge: number
  /** Whether a response must name an audience, or this client. */
  introspectionAudience: 'required' | 'optional'
  /** The clients that act for themselves. */
  clients: string[]
  dpop: boolean
  dpopRequired: boolean
  dpopNonce: boolean
  clientCertificate: (request: FastifyRequest) => Uint8Array | string | undefined
  resource: string
  scopes: string[]
}

export interface BearerContext extends Pick<ParseContext, 'baseUrl' | 'httpProblem'> {
  ofProviders: boolean
  /** The names of the providers. */
  providers: readonly string[]
}

const OPTIONS = [
  'audience', 'algorithms', 'strictType', 'introspection', 'introspectionMaxAge', 'introspectionAudience',
  'clients', 'dpop', 'dpopNonce', 'clientCertificate', 'resource', 'scopes'
]
/** Those of DPoP proofs. */
export const DPOP_ALGORITHMS = ['ES256', 'ES384', 'ES512', 'PS256', 'RS256', 'EdDSA', 'Ed25519']
const DEFAULT_ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']

/** Throws FST_OIDC_OPTION. */
export function parseBearer (value: unknown, context: BearerContext): BearerSettings {
  check(isRecord(value), '"bearer" must be an object')
  checkKeys(value, OPTIONS, 'bearer.')
  const options = value as Partial<BearerOptions>
  const algorithms = strings(options.algorithms ?? DEFAULT_ALGORITHMS, 'bearer.algorithms')
  const dpopRequired = options.dpop === 'required'
  return {
    ofProviders: context.ofProviders,
    audience: parseAudience(options),
    algorithms: algorithms.map((alg) => oneOf(alg, SIGNING_ALGS, 'bearer.algorithms')),
    strictType: bool(options.strictType, true, 'bearer.strictType'),
    introspection: parseIntrospection(options.introspection ?? false, context.providers),
    introspectionMaxAge: number(options.introspectionMaxAge, 10, 'bearer.introspectionMaxAge', [0, 300]),
    introspectionAudience: oneOf(
      options.introspectionAudience ?? 'required', ['required', 'optional'], 'bearer.introspectionAudience'
    ),
    clients: strings(options.clients ?? [], 'bearer.clients'),
    dpop: dpopRequired || bool(options.dpop, false, 'bearer.dpop'),
    dpopRequired,
    dpopNonce: bool(options.dpopNonce, false, 'bearer.dpopNonce'),
    clientCertificate: func(options.clientCertificate, 'bearer.clientCertificate') ?? certificateOf,
    resource: parseResource(options.resource, context),
    scopes: strings(options.scopes ?? [], 'bearer.scopes')
  }
}

function parseAudience (options: Partial<BearerOptions>): string[] {
  const { audience: value } = options
  if ('audience' in options) checkSet(value, 'bearer.audience')
  const audience = strings([value ?? []].flat(), 'bearer.audience')
  check(audience.length > 0, '"bearer.audience" must name this API: tokens for other audiences are refused')
  return audience
}

function parseIntrospection (value: unknown, providers: readonly string[]): string | undefined {
  if (value === false) return undefined
  if (value !== true) return text(value, 'bearer.introspection')
  // A token of one provider must not be sent to another.
  check(providers.length === 1, '"bearer.introspection" must name the provider that is asked')
  return providers[0]
}

function parseResource (value: unknown, { baseUrl, httpProblem }: BearerContext): string {
  const resource = optional(value, 'bearer.resource', text)
  if (resource === undefined) return baseUrl
  webUrl(resource, 'bearer.resource', httpProblem)
  return resource
}

function certificateOf ({ raw: { socket } }: FastifyRequest): Uint8Array | undefined {
  return 'getPeerCertificate' in socket ? (socket as TLSSocket).getPeerCertificate().raw : undefined
}
