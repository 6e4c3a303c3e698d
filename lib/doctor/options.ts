import { randomBytes } from 'node:crypto'
import { createUrls } from '../http/urls.ts'
import { WELL_KNOWN } from '../options/provider.ts'
import { parseOptions } from '../options/settings.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { Settings } from '../options/settings.ts'
import type { Finding, Registration } from './report.ts'
import type { OidcOptions } from '../../types/options.ts'

/** What the command line asks for. */
export interface Asked {
  issuer: string
  baseUrl: string
  clientId: string | undefined
  clientSecret: string | undefined
  /** The name of the environment variable that has the secret. */
  secretVariable: string | undefined
  /** How long one call to the provider may take, in seconds. `undefined`: the default of the plugin. */
  timeout: number | undefined
  /** `undefined`: no login. `wait` is in seconds. */
  login: { port: number, wait: number } | undefined
}

/** The options of the plugin. Many users have the address of the metadata at hand, and not the issuer. */
export function optionsOf ({ issuer, baseUrl, clientId = 'client', clientSecret, timeout }: Asked): OidcOptions {
  return {
    issuer: issuer.endsWith(WELL_KNOWN) ? issuer.slice(0, -WELL_KNOWN.length) : issuer,
    clientId,
    ...(clientSecret !== undefined && { clientSecret }),
    baseUrl,
    ...([issuer, baseUrl].some((url) => url.startsWith('http:')) && { allowInsecureLoopback: true }),
    ...(timeout !== undefined && { timeout }),
    session: { key: randomBytes(32) }
  }
}

export interface ParsedOptions {
  provider: ProviderSettings
  roleClaims: readonly string[]
  register: Registration
}

/** Checks the options as the plugin does. Throws FST_OIDC_OPTION. */
export function settingsOf (options: OidcOptions): ParsedOptions {
  const settings = parseOptions(options)
  const { roleClaims, providers } = settings
  return { provider: providers.get('default') as ProviderSettings, roleClaims, register: registrationOf(settings) }
}

function registrationOf (settings: Settings): Registration {
  const urls = createUrls(settings, '')
  const { backchannelLogout, frontchannelLogout } = settings.providerRoutes('default')
  return {
    redirectUri: urls.callback('default'),
    postLogoutRedirectUri: urls.route(settings.routes.loggedOut as string),
    backchannelLogoutUri: urls.route(backchannelLogout as string),
    frontchannelLogoutUri: urls.route(frontchannelLogout as string)
  }
}

/** What the findings say to set. */
export function suggestionsOf (findings: Finding[]): Record<string, unknown> {
  return Object.assign({}, ...findings.map(({ options }) => options))
}

/** The options to write, without secrets. */
export function optionsToWrite (asked: Asked, findings: Finding[]): Record<string, unknown> {
  const { clientSecret: _, session: __, clientId, allowInsecureLoopback, ...options } = optionsOf(asked)
  // Where `baseUrl` is http itself, the plugin takes http on loopback addresses without it.
  const needsInsecure = allowInsecureLoopback === true && asked.baseUrl.startsWith('https:')
  return {
    ...options,
    ...(needsInsecure && { allowInsecureLoopback }),
    ...(asked.clientId !== undefined && { clientId }),
    ...suggestionsOf(findings)
  }
}

/** The options as TypeScript. Secrets come from the environment. */
export function snippetOf (asked: Asked, { issuer, clientId, baseUrl, ...others }: Record<string, unknown>): string {
  const secret = asked.secretVariable ?? 'OIDC_CLIENT_SECRET'
  const isPublic = asked.clientId !== undefined && asked.clientSecret === undefined
  const lines: Array<[name: string, value: string]> = [
    ['issuer', literal(issuer)],
    ['clientId', clientId === undefined ? "process.env.OIDC_CLIENT_ID ?? ''" : literal(clientId)],
    ...(isPublic ? [] : [['clientSecret', `process.env.${secret} ?? ''`] as [string, string]]),
    ['baseUrl', literal(baseUrl)],
    ['session', "{ key: process.env.OIDC_SESSION_KEY ?? '' }"],
    ...Object.entries(others).map(([name, value]): [string, string] => [name, literal(value)])
  ]
  const members = lines.map(([name, value]) => `  ${name}: ${value}`).join(',\n')
  return `import oidc from 'fastify-oidc'\n\nawait app.register(oidc, {\n${members}\n})\n`
}

function literal (value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`
  if (typeof value !== 'string') return JSON.stringify(value)
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}
