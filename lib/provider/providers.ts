import { isDeepStrictEqual } from 'node:util'
import { OidcError, messageOf } from '../errors.ts'
import { check } from '../options/check.ts'
import { isProviderName, WELL_KNOWN } from '../options/provider.ts'
import { LateError } from '../util/at-most.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { createCached } from '../util/cached.ts'
import { createConnections } from './connections.ts'
import { createProvider } from './provider.ts'
import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { ProviderSettings } from '../options/provider.ts'
import type { Settings } from '../options/settings.ts'
import type { Telemetry } from '../telemetry.ts'
import type { Cached } from '../util/cached.ts'
import type { Provider } from './provider.ts'
import type { OidcOptions, ResolvedProvider } from '../../types/options.ts'

/** The providers of one registration. */
export interface Providers {
  /** The providers that a user can choose from. Empty when `resolveProvider` finds them at run time. */
  readonly choices: readonly Provider[]
  /** The providers that are known so far. */
  all: () => readonly Provider[]
  /** The provider with this name, or `null` when there is none. Throws FST_OIDC_PROVIDER_UNAVAILABLE. */
  find: (request: FastifyRequest, name: string) => Promise<Provider | null>
  /** As `find`, but throws FST_OIDC_PROVIDER_UNKNOWN when there is none. */
  get: (request: FastifyRequest, name: string) => Promise<Provider>
  /** Another number when there is another provider. */
  revision: () => number
  /** What `find` would return, when that is known without calling `resolveProvider`, else `undefined`. */
  known: (name: string) => Provider | null | undefined
  /** The provider for a request that names none. `null` when the user must choose one. */
  ofRequest: (request: FastifyRequest) => Promise<Provider | null>
}

export function createProviders (
  settings: Settings,
  log: FastifyBaseLogger,
  connections = createConnections(),
  requestsTo?: Telemetry['requestsTo']
): Providers {
  const { resolveProvider } = settings
  const create = (provider: ProviderSettings): Provider =>
    createProvider(provider, log, connections, requestsTo?.(provider.name))
  const lookup = resolveProvider === undefined
    ? createFixed(settings, create)
    : createTenants(settings, resolveProvider, create)
  return {
    ...lookup,
    async get (request, name) {
      const provider = await lookup.find(request, name)
      if (provider === null) throw new OidcError('FST_OIDC_PROVIDER_UNKNOWN')
      return provider
    }
  }
}

type Create = (settings: ProviderSettings) => Provider
type Lookup = Omit<Providers, 'get'>

/** The providers of the options. */
function createFixed (settings: Settings, create: Create): Lookup {
  const providers = new Map([...settings.providers].map(([name, provider]) => [name, create(provider)]))
  const all = [...providers.values()]
  const only = all.length === 1 ? all[0] as Provider : null
  const known = (name: string): Provider | null => providers.get(name) ?? null
  return {
    choices: all,
    all: () => all,
    find: async (_request, name) => known(name),
    revision: () => 0,
    known,
    ofRequest: async () => only
  }
}

/** How many tenants are kept. The oldest is dropped, and resolved again when it is needed again. */
const MAX_TENANTS = 1000
/** How long a tenant that is too old is still used when `resolveProvider` fails, in milliseconds. */
const MAX_STALE = 600_000
const RETRY_AFTER = 1000

type Tenant = Cached<Provider | null, FastifyRequest>
type Resolve = NonNullable<OidcOptions['resolveProvider']>

/** Providers that `resolveProvider` finds at run time by their names. Each is kept for a while. */
function createTenants (settings: Settings, resolve: Resolve, create: Create): Lookup {
  const kept = createBoundedMap<Tenant>(MAX_TENANTS)
  // Separate from `kept`, so that unknown names cannot push tenants out.
  const resolving = createBoundedMap<Tenant>(MAX_TENANTS)
  const admitted = new WeakSet<Provider>()
  let revision = 0

  function createTenant (name: string): Tenant {
    let last: { options: ResolvedProvider, provider: Provider } | undefined
    const load = async (request: FastifyRequest): Promise<Provider | null> => {
      const options = await callResolve(resolve, request, name)
      if (options === null) return null
      // Unchanged options keep the provider, with its metadata and keys.
      if (last === undefined || !isDeepStrictEqual(last.options, options)) {
        last = { options, provider: create(parse(settings, name, options)) }
      }
      return last.provider
    }
    const maxAge = settings.resolveMaxAge * 1000
    return createCached(load, { maxAge, maxStale: maxAge + MAX_STALE, retryAfter: RETRY_AFTER })
  }

  async function resolveNow (tenant: Tenant, request: FastifyRequest, name: string): Promise<Provider | null> {
    if (kept.get(name) === undefined) resolving.set(name, tenant)
    return await tenant.get(request).finally(() => resolving.delete(name))
  }

  /** A call that does not end is the fault of one request. The others that wait for it call again. */
  async function resolveSafely (tenant: Tenant, request: FastifyRequest, name: string): Promise<Provider | null> {
    const calls = tenant.begun()
    const resolved = resolveNow(tenant, request, name)
    const isOwnCall = tenant.begun() > calls
    return await resolved.catch(async (error: OidcError) => {
      if (isOwnCall || error.kind !== 'late') throw error
      return await resolveNow(tenant, request, name)
    })
  }

  async function find (request: FastifyRequest, name: string): Promise<Provider | null> {
    if (!isProviderName(name)) return null
    const tenant = kept.get(name) ?? resolving.get(name) ?? createTenant(name)
    const provider = await resolveSafely(tenant, request, name)
    if (provider === null) return null
    if (!admitted.has(provider)) admit(provider)
    if (kept.get(name) === undefined) kept.set(name, tenant)
    return provider
  }

  /**
   * Throws when a tenant claims the issuer of another one with other keys: it could sign tokens of its users. Only the
   * metadata below the issuer itself proves who that is; without it, the tenant that is known already has the issuer.
   */
  function admit (provider: Provider): void {
    const { name, settings: { issuer } } = provider
    const rivals = all().filter((other) => {
      return other.name !== name && other.settings.issuer === issuer && keysOf(other) !== keysOf(provider)
    })
    if (rivals.length > 0 && keysOf(provider) !== issuer.replace(/\/$/, '') + WELL_KNOWN) {
      kept.delete(name)
      const detail = `the tenant ${name} claims the issuer of the tenant ${rivals[0]?.name} with other keys: ${issuer}`
      throw new OidcError('FST_OIDC_UNEXPECTED', { detail, cause: new Error(detail) })
    }
    for (const rival of rivals) kept.delete(rival.name)
    admitted.add(provider)
    revision += 1
  }

  function isAdmitted (provider: Provider | null | undefined): provider is Provider {
    return provider != null && admitted.has(provider)
  }

  const all = (): Provider[] => kept.values().map((tenant) => tenant.last()).filter(isAdmitted)

  return {
    choices: [],
    all,
    find,

    revision: () => revision,

    known (name) {
      const provider = kept.get(name)?.fresh()
      return isAdmitted(provider) ? provider : undefined
    },

    async ofRequest (request) {
      const found = await callResolve(resolve, request, undefined)
      return found?.name === undefined ? null : await find(request, found.name)
    }
  }
}

/** Where a provider's keys come from. */
function keysOf ({ settings: { jwksUri, metadata, discoveryUrl } }: Provider): string {
  return jwksUri ?? metadata?.jwks_uri ?? discoveryUrl
}

async function callResolve (
  resolve: Resolve,
  request: FastifyRequest,
  name: string | undefined
): Promise<ResolvedProvider | null> {
  try {
    return await resolve(request, name) ?? null
  } catch (cause) {
    const kind = cause instanceof LateError ? 'late' : undefined
    const detail = `resolveProvider: ${messageOf(cause)}`
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, kind, detail })
  }
}

// Wrong options are a fault of the application. The user cannot fix them, and sees only FST_OIDC_UNEXPECTED.
function parse (settings: Settings, asked: string, { name = asked, ...options }: ResolvedProvider): ProviderSettings {
  try {
    check(name === asked, `"name" is ${name}, not ${asked}`)
    return settings.parseProvider(name, options)
  } catch (cause) {
    throw new OidcError('FST_OIDC_UNEXPECTED', { cause, detail: 'resolveProvider returned wrong options' })
  }
}
