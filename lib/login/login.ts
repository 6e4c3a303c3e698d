import { isNavigation, isPrefetch } from '../http/fetch-metadata.ts'
import { addSetCookie, readCookie } from '../http/cookies.ts'
import { OidcError } from '../errors.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { NativeLogin } from '../broker/native-login.ts'
import type { Core } from '../compose.ts'
import type { Provider } from '../provider/provider.ts'
import { redirect } from '../http/redirect.ts'

export interface LoginRequest {
  /** A URL that `urls` made. */
  returnTo: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  resource?: string[] | undefined
  authorizationParams?: Record<string, string>
  /** Beside the scope of the provider's options. */
  offlineAccess?: boolean
  native?: NativeLogin | undefined
  restarted?: boolean
}

/** How long nobody is asked silently again, in seconds. */
const SILENCE = 600

/**
 * Sends the browser to the provider, and remembers what the callback will need (OpenID Connect Core 1.0,
 * section 3.1.2.1).
 */
export async function startLogin (
  core: Core,
  provider: Provider,
  request: FastifyRequest,
  reply: FastifyReply,
  options: LoginRequest
): Promise<void> {
  await core.telemetry.span('oidc.login', async () => {
    const params = { ...provider.settings.authorizationParams, ...options.authorizationParams }
    const login = {
      ...core.pending.create(),
      provider: provider.id,
      returnTo: options.returnTo,
      maxAge: options.maxAge ?? maxAgeOf(params),
      acrValues: options.acrValues,
      resource: options.resource,
      native: options.native,
      silent: params['prompt'] === 'none',
      restarted: options.restarted ?? false,
      before:
        options.native === undefined && isAnsweredWithoutCookies(core, provider)
          ? core.sessions.read(request)?.session
          : undefined
    }
    const { resource = provider.settings.resource } = options
    const url = await provider.authorizationUrl(
      {
        ...login,
        resource,
        scope: scopeOf(provider, options.offlineAccess),
        redirectUri: core.urls.callback(provider.name)
      },
      params
    )
    core.pending.save(request, reply, provider, login)
    redirect(request, reply, url.href)
  })
}

/**
 * Whether browsers take the callback for another site's request, and send no session with it (RFC 6265bis,
 * section 5.2).
 */
function isAnsweredWithoutCookies (
  {
    settings: {
      session: { sameSite }
    }
  }: Core,
  { settings: { responseMode } }: Provider
): boolean {
  return sameSite === 'strict' || responseMode === 'form_post'
}

/** The scope to ask the provider for. */
export function scopeOf ({ settings: { scope } }: Provider, offlineAccess = false): string {
  return offlineAccess && !scope.split(' ').includes('offline_access') ? `${scope} offline_access` : scope
}

// Whoever asks for a max_age gets it checked, however it was asked for (OpenID Connect Core 1.0, section
// 3.1.3.7, item 11).
function maxAgeOf ({ max_age: maxAge }: Record<string, string>): number | undefined {
  return maxAge === undefined ? undefined : Number(maxAge)
}

/** Sends the person to where they choose one of these providers, or of all. */
export function startChoice (
  core: Core,
  request: FastifyRequest,
  reply: FastifyReply,
  returnTo: string,
  providers?: readonly string[]
): void {
  const url = core.urls.login({ returnTo, providers })
  if (url === null) {
    throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'there is no page where a provider can be chosen' })
  }
  redirect(request, reply, url)
}

/**
 * Whether the provider may be asked silently for a person who opens a page: once in a while, or one whom it
 * does not know would turn in circles.
 */
export function canTrySilentLogin (core: Core, request: FastifyRequest): boolean {
  return (
    core.sessions.read(request) === null &&
    isNavigation(request) &&
    !isPrefetch(request) &&
    readCookie(request.headers.cookie, silentCookie(core)) === undefined
  )
}

/** Asks nobody silently for a while. */
export function suppressSilentLogin (core: Core, reply: FastifyReply): void {
  addSetCookie(reply, core.sealer.setCookie(silentCookie(core), '1', { maxAge: SILENCE, sameSite: 'lax' }))
}

function silentCookie ({ settings }: Core): string {
  return `${settings.session.cookieName}-silent`
}
