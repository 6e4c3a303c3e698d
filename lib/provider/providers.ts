import { isDeepStrictEqual } from 'node:util'
import { check } from '../options/check.ts'
import { createBoundedMap } from '../util/bounded-map.ts'
import { createCached } from '../util/cached.ts'
import { OidcError } from '../errors.ts'
import { createProvider } from './provider.ts'
import { isProviderName } from '../options/provider.ts'
import type { FastifyRequest } from 'fastify'
import type { Cached } from '../util/cached.ts'
import type { Settings } from '../options/settings.ts'
import type { Provider } from './provider.ts'
import type { OidcOptions, ResolvedProvider } from '../../types/options.ts'

/** The providers of one registration. */
export interface Providers {
  /** Those among which people can choose; none where they are known only at run time. */
  readonly choices: readonly Provider[]
  /** Those that are known by now. */
  all: () => readonly Provider[]
  /** The provider of that name, or `null` when there is none. Throws FST_OIDC_PROVIDER_UNAVAILABLE. */
  find: (request: FastifyRequest, name: string) => Promise<Provider | null>
  /** The first provider of that issuer, as it is now, of those that are known by now. */
  ofIssuer: (request: FastifyRequest, issuer: string) => Promise<Provider | null>
  /** What `find` would give, when it is known without asking anybody, else `undefined`. */
  known: (name: string) => Provider | null | undefined
  /** The provider of a request that names none; `null` when there is no such. */
  ofRequest: (request: FastifyRequest) => Promise<Provider | null>
}

export function createProviders (settings: Settings): Providers {
  return settings.resolveProvider === undefined
    ? createFixed(settings)
    : createTenants(settings, settings.resolveProvider)
}

function createFixed (settings: Settings): Providers {
  const providers = new Map([...settings.providers].map(([name, provider]) => [name, createProvider(provider)]))
  const all = [...providers.values()]
  const only = all.length === 1 ? all[0] as Provider : null
  const known = (name: string): Provider | null => providers.get(name) ?? null
  return {
    choices: all,
    all: () => all,
    find: async (_request, name) => known(name),
    ofIssuer: async (_request, issuer) => all.find(({ settings }) => settings.issuer === issuer) ?? null,
    known,
    ofRequest: async () => only
  }
}

/** How many tenants are kept; the oldest is found anew when it is needed again. */
const MAX_TENANTS = 1000
/** How long a tenant is kept when asking for it fails, in milliseconds. */
const MAX_STALE = 600_000
const RETRY_AFTER = 1000

type Tenant = Cached<Provider | null, FastifyRequest>

/** Providers that are known only at run time: each is asked for by its name, and kept for a while. */
function createTenants (settings: Settings, resolve: NonNullable<OidcOptions['resolveProvider']>): Providers {
  const kept = createBoundedMap<Tenant>(MAX_TENANTS)
  // Names that nobody has must not drive out those of tenants.
  const asked = createBoundedMap<Tenant>(MAX_TENANTS)

  function createTenant (name: string): Tenant {
    let last: { options: ResolvedProvider, provider: Provider } | undefined
    const load = async (request: FastifyRequest): Promise<Provider | null> => {
      const options = await ask(resolve, request, name)
      if (options === null) return null
      // The same options mean the same provider, with its metadata and keys.
      if (last === undefined || !isDeepStrictEqual(last.options, options)) {
        last = { options, provider: build(settings, name, options) }
      }
      return last.provider
    }
    const maxAge = settings.resolveMaxAge * 1000
    return createCached(load, { maxAge, maxStale: maxAge + MAX_STALE, retryAfter: RETRY_AFTER })
  }

  async function find (request: FastifyRequest, name: string): Promise<Provider | null> {
    if (!isProviderName(name)) return null
    const tenant = kept.get(name) ?? asked.get(name) ?? createTenant(name)
    if (kept.get(name) === undefined) asked.set(name, tenant)
    const provider = await tenant.get(request).finally(() => asked.delete(name))
    if (provider !== null && kept.get(name) === undefined) kept.set(name, tenant)
    return provider
  }

  const all = (): Provider[] => kept.values().map((tenant) => tenant.last()).filter((provider) => provider != null)

  return {
    choices: [],
    all,
    find,

    async ofIssuer (request, issuer) {
      for (const { name } of all().filter(({ settings }) => settings.issuer === issuer)) {
        const provider = await find(request, name)
        if (provider?.settings.issuer === issuer) return provider
      }
      return null
    },

    known: (name) => kept.get(name)?.fresh() ?? undefined,
    async ofRequest (request) {
      const found = await ask(resolve, request, undefined)
      return found?.name === undefined ? null : await find(request, found.name)
    }
  }
}

async function ask (
  resolve: NonNullable<OidcOptions['resolveProvider']>,
  request: FastifyRequest,
  name: string | undefined
): Promise<ResolvedProvider | null> {
  try {
    return await resolve(request, name) ?? null
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', {
      cause,
      detail: `resolveProvider: ${cause instanceof Error ? cause.message : 'failed'}`
    })
  }
}

// Who is to log in can do nothing about wrong options, and is not told of them.
function build (settings: Settings, asked: string, { name = asked, ...options }: ResolvedProvider): Provider {
  try {
    check(name === asked, `"name" is ${name}, not ${asked}`)
    return createProvider(settings.parseProvider(name, options))
  } catch (cause) {
    throw new OidcError('FST_OIDC_UNEXPECTED', { cause, detail: 'resolveProvider gave wrong options' })
  }
}
