import { OidcError } from '../errors.ts'
import { limited } from '../util/at-most.ts'
import { isRecord } from '../util/json.ts'
import { check, checkKeys, func, number } from './check.ts'
import { isProviderName, parseProvider, PROVIDER_OPTIONS } from './provider.ts'
import { parseTransport } from './transport.ts'
import type { BrokerSettings } from './broker.ts'
import type { ParseContext } from './context.ts'
import type { ProviderSettings } from './provider.ts'
import type { OidcOptions, ProviderOptions } from '../../types/options.ts'

/** One provider, several, or a function that finds them for each request. */
export interface ProvidersSettings {
  /** By name. Empty with `resolveProvider`. */
  providers: ReadonlyMap<string, ProviderSettings>
  resolveProvider: OidcOptions['resolveProvider']
  /** The settings of a provider that `resolveProvider` found. Throws FST_OIDC_OPTION. */
  parseProvider: (name: string, options: unknown) => ProviderSettings
  /** In seconds. */
  resolveMaxAge: number
}

/** Options that belong to one provider. With several, each provider has its own. */
const SINGLE_PROVIDER_OPTIONS = ['issuer', 'discoveryUrl', 'metadata', 'expectedIssuer', 'jwksUri', 'accessTokenIssuer', 'clientIds', 'label']

/** Whether the options describe one provider, which needs no name. */
export function isSingleProvider ({ providers, resolveProvider }: OidcOptions): boolean {
  return providers === undefined && resolveProvider === undefined
}

/** Throws FST_OIDC_OPTION. */
export function parseProviders (options: OidcOptions, context: ParseContext): ProvidersSettings {
  const { providers, resolveProvider } = options
  check(
    providers === undefined || resolveProvider === undefined,
    '"providers" and "resolveProvider" do not go together'
  )
  const parse = createParser(options, context)
  return {
    providers: isSingleProvider(options)
      ? new Map([['default', parseProvider('default', options as ProviderOptions, context)]])
      : parseNamed(options, parse),
    resolveProvider: resolveProvider === undefined ? undefined : parseResolve(resolveProvider, options),
    parseProvider: parse,
    resolveMaxAge: number(options.resolveMaxAge, 60, 'resolveMaxAge', [0, 86_400])
  }
}

function parseResolve (
  resolve: NonNullable<OidcOptions['resolveProvider']>,
  options: OidcOptions
): OidcOptions['resolveProvider'] {
  return limited(func(resolve, 'resolveProvider'), parseTransport(options as ProviderOptions).timeout, 'timeout')
}

/** Provider options beside `providers` are defaults for each of them. */
function createParser (options: OidcOptions, context: ParseContext): ProvidersSettings['parseProvider'] {
  const defaults = Object.fromEntries(Object.entries(options).filter(([key]) => PROVIDER_OPTIONS.includes(key)))
  return (name, own) => within(`providers.${name}`, () => {
    check(isProviderName(name), 'the name must consist of letters, digits, ".", "_" and "-"')
    check(isRecord(own), 'the options must be an object')
    checkKeys(own, PROVIDER_OPTIONS, '')
    return parseProvider(name, { ...defaults, ...own } as ProviderOptions, context)
  })
}

function parseNamed (
  options: OidcOptions,
  parse: ProvidersSettings['parseProvider']
): ProvidersSettings['providers'] {
  const misplaced = SINGLE_PROVIDER_OPTIONS.find((key) => key in options)
  check(misplaced === undefined, `"${misplaced}" belongs to one provider`)
  if (options.providers === undefined) return new Map()
  const named: unknown = options.providers
  check(
    isRecord(named) && Object.keys(named).length > 0,
    '"providers" must be an object with a member for each provider'
  )
  return new Map(Object.entries(named).map(([name, own]) => [name, parse(name, own)]))
}

/** Puts the place of the provider's options before the message of an error. */
function within<T> (place: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new OidcError('FST_OIDC_OPTION', { message: `${place}: ${(error as Error).message}` })
  }
}

/** The names of a provider in the `iss` of its access tokens, as far as the options tell. */
function issuersOf ({ issuer, accessTokenIssuer }: ProviderSettings): string[] {
  return accessTokenIssuer === undefined || accessTokenIssuer === issuer ? [issuer] : [issuer, accessTokenIssuer]
}

/**
 * The `iss` and the client of an access token must be enough to tell to which provider it belongs.
 */
export function checkAccessTokens (providers: ReadonlyMap<string, ProviderSettings>): void {
  const all = [...providers.values()]
  for (const [index, provider] of all.entries()) {
    for (const other of all.slice(index + 1)) checkApart(provider, other)
  }
}

function checkApart (one: ProviderSettings, two: ProviderSettings): void {
  const names = `"providers.${one.name}" and "providers.${two.name}"`
  if (one.issuer !== two.issuer) {
    const shared = issuersOf(one).find((issuer) => issuersOf(two).includes(issuer))
    return check(shared === undefined, `${names} have the same "accessTokenIssuer" ${shared}`)
  }
  const shared = ownClients(one).find((client) => ownClients(two).includes(client))
  check(
    shared === undefined,
    `${names} have the same issuer and the client ${shared}: "clientIds" of each must tell their access tokens apart`
  )
}

/** The clients by which the access tokens of several providers with one issuer are told apart. */
export function ownClients ({ clientId, clientIds }: ProviderSettings): string[] {
  return clientIds ?? [clientId]
}

/** The issuer of a token must be enough to tell who issued it (RFC 8725, section 3.8). */
export function checkIssuers (broker: BrokerSettings, providers: ReadonlyMap<string, ProviderSettings>): void {
  const trusted = broker.trustedIssuers.map(({ issuer }) => issuer)
  const others = [...trusted, ...[...providers.values()].flatMap(issuersOf)]
  check(
    !others.includes(broker.issuer),
    '"broker.issuer" must differ from the issuers of all providers and "broker.trustedIssuers"'
  )
  const areUnique = trusted.every((issuer) => others.filter((other) => other === issuer).length === 1)
  check(areUnique, '"broker.trustedIssuers" must name each issuer once, and no provider')
}

/** The same check for a provider that `resolveProvider` found. */
export function checkResolvedIssuer (broker: BrokerSettings, provider: ProviderSettings): void {
  const isReserved = [broker, ...broker.trustedIssuers].some(({ issuer }) => issuersOf(provider).includes(issuer))
  check(
    !isReserved,
    '"issuer" and "accessTokenIssuer" must be neither that of the broker nor one of its "trustedIssuers"'
  )
}
