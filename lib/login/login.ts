import { OidcError } from '../errors.ts'
import { redirect, redirectAway } from '../http/redirect.ts'
import { withOfflineAccess } from '../options/authorization-params.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Pages } from '../http/pages.ts'
import type { Urls } from '../http/urls.ts'
import type { SessionSettings } from '../options/session.ts'
import type { Provider } from '../provider/provider.ts'
import type { Sessions } from '../session/sessions.ts'
import type { Telemetry } from '../telemetry.ts'
import type { AppState, NativeLogin } from './pending-login.ts'
import type { NewLogin, PendingLogins } from './pending-logins.ts'
import type { StepUp } from './step-up.ts'
import type { OidcSession } from '../../types/claims.ts'

export interface LoginRequest {
  /** A URL that `urls` made. */
  returnTo: string
  maxAge?: number | undefined
  acrValues?: string[] | undefined
  resource?: string[] | undefined
  authorizationParams?: Record<string, string>
  /** Adds `offline_access` to the scope of the provider's options. */
  offlineAccess?: boolean
  native?: NativeLogin | undefined
  restarted?: boolean
  guarded?: boolean
  /** Adds `login` to the parameter `prompt`. */
  promptsLogin?: boolean
  /** Lets the user choose another account at the provider. */
  otherAccount?: boolean | undefined
  /** The session that the browser had when the first of several attempts began. */
  before?: OidcSession | undefined
  /** What the application gives to the login, for `onClaims`. */
  appState?: AppState | undefined
}

/** What a login asks for before the user has chosen a provider. */
export type LoginChoice = Pick<LoginRequest, 'returnTo' | 'maxAge' | 'acrValues' | 'appState'> & {
  /** The names of the providers from which the user may choose. Default: all. */
  providers?: readonly string[] | undefined
}

export interface Login {
  /**
   * Sends the browser to the provider, and keeps what the callback needs (OpenID Connect Core 1.0, section
   * 3.1.2.1).
   */
  start: (provider: Provider, request: FastifyRequest, reply: FastifyReply, login: LoginRequest) => Promise<void>
  /** Sends the user to the page for choosing a provider. */
  choose: (request: FastifyRequest, reply: FastifyReply, choice: LoginChoice) => void
}

export interface LoginParts {
  session: Pick<SessionSettings, 'sameSite'>
  urls: Urls
  pages: Pages
  pendingLogins: PendingLogins
  stepUp: StepUp
  sessions: Sessions
  telemetry: Telemetry
}

export function createLogin (parts: LoginParts): Login {
  const { session, urls, pages, pendingLogins, stepUp, sessions, telemetry } = parts

  /** Whether browsers treat the callback as a request from another site, without cookies (RFC 6265bis, section 5.2). */
  function comesWithoutCookies ({ settings: { responseMode } }: Provider): boolean {
    return session.sameSite === 'strict' || responseMode === 'form_post'
  }

  async function previousSession (provider: Provider, request: FastifyRequest): Promise<OidcSession | undefined> {
    if (!comesWithoutCookies(provider)) return undefined
    await sessions.prepare(request)
    return sessions.read(request)?.session
  }

  async function start (
    provider: Provider,
    request: FastifyRequest,
    reply: FastifyReply,
    login: LoginRequest
  ): Promise<void> {
    const { resource = provider.settings.resource, native } = login
    const params = await paramsOf(provider, login)
    const before = native === undefined ? login.before ?? await previousSession(provider, request) : undefined
    const pending = pendingLogins.begin(request, { ...newLoginOf(provider, login, params), before })
    const scope = scopeOf(provider, login.offlineAccess)
    const redirectUri = urls.callback(provider.name)
    const url = await provider.authorizationUrl({ ...pending, resource, scope, redirectUri }, params)
    pendingLogins.save(request, reply, provider, pending)
    await redirectAway(pages, reply, url.href, 'loggingIn')
  }

  function newLoginOf (provider: Provider, login: LoginRequest, params: Record<string, string>): NewLogin {
    return {
      provider: provider.id,
      returnTo: login.returnTo,
      maxAge: login.maxAge ?? maxAgeOf(params),
      acrValues: login.acrValues,
      resource: login.resource,
      native: login.native,
      silent: params['prompt'] === 'none',
      promptsLogin: promptsOf(params).includes('login'),
      restarted: login.restarted ?? false,
      guarded: login.guarded ?? false,
      appState: login.appState
    }
  }

  return {
    async start (provider, ...login) {
      await telemetry.span('oidc.login', { 'oidc.provider': provider.name }, async () =>
        await start(provider, ...login))
    },

    choose (request, reply, { returnTo, providers, maxAge, acrValues, appState }) {
      const linked = appState && { ...appState, id: pendingLogins.mark(request, reply) }
      const url = urls.login({ returnTo, providers, stepUp: stepUp.seal({ maxAge, acrValues, appState: linked }) })
      if (url === null) {
        throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail: 'there is no page for choosing a provider' })
      }
      redirect(request, reply, url)
    }
  }
}

/** The scope of the authorization request. */
export function scopeOf ({ settings: { scope } }: Provider, offlineAccess = false): string {
  return offlineAccess ? withOfflineAccess(scope) : scope
}

/** The parameters from the options and from the caller. */
async function paramsOf (provider: Provider, login: LoginRequest): Promise<Record<string, string>> {
  const params = { ...provider.settings.authorizationParams, ...login.authorizationParams }
  const prompt = await promptOf(provider, login)
  if (prompt === undefined) return params
  const others = promptsOf(params).filter((name) => name !== prompt && name !== 'none')
  return { ...params, prompt: [prompt, ...others].join(' ') }
}

async function promptOf (
  provider: Provider,
  { promptsLogin, otherAccount }: LoginRequest
): Promise<string | undefined> {
  if (promptsLogin === true) return 'login'
  return otherAccount === true ? await provider.accountPrompt() : undefined
}

function promptsOf ({ prompt = '' }: Record<string, string>): string[] {
  return splitWords(prompt)
}

// A max_age is checked however it was requested (OpenID Connect Core 1.0, section 3.1.3.7, item 11).
function maxAgeOf ({ max_age: maxAge }: Record<string, string>): number | undefined {
  return maxAge === undefined ? undefined : Number(maxAge)
}
