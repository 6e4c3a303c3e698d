import { randomBytes } from 'node:crypto'
import { OidcError } from '../errors.ts'
import { logCompleted } from '../http/completed.ts'
import { redirectAway } from '../http/redirect.ts'
import { outageCode } from '../provider/oauth-error.ts'
import { sha256 } from '../util/crypto.ts'
import { parseUrl } from '../util/url.ts'
import { splitWords } from '../util/words.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ErrorResponses } from '../http/error-response.ts'
import type { Pages } from '../http/pages.ts'
import type { Params } from '../http/params.ts'
import type { LoginDescription } from '../login/claims.ts'
import type { NativeLogin, PendingLogin } from '../login/pending-login.ts'
import type { NativeClientSettings } from '../options/broker.ts'
import type { SourcedClaims } from '../provider/claim-sources.ts'
import type { Provider } from '../provider/provider.ts'
import type { Telemetry } from '../telemetry.ts'
import type { AuthorizationCodes } from './authorization-codes.ts'
import type { OidcTokens } from '../../types/claims.ts'

/** A login of a native application whose callback has come. */
export interface FinishedLogin extends SourcedClaims {
  native: NativeLogin
  loginAt: number
  resource: PendingLogin['resource']
  description: LoginDescription
  tokens: OidcTokens
}

/** Logins of applications on the user's own machine (RFC 8252). They get a code instead of a session. */
export interface NativeLogins {
  /**
   * The login that an application requests. Throws FST_OIDC_PARAMETER when it is not allowed;
   * nothing is sent to its redirect URI then.
   */
  parse: (params: Params) => NativeLogin
  /** The parameters of such a login, for the links of the page with the choice of providers. */
  paramsOf: (params: Params) => Array<[string, string]>
  /** Whether a pending login may go on: the application may have restarted with other options. */
  isAllowed: (native: NativeLogin) => boolean
  finish: (provider: Provider, login: FinishedLogin, reply: FastifyReply) => Promise<void>
  /** Sends the error to the application that asked (RFC 6749, section 4.1.2.1). */
  refuse: (native: NativeLogin, cause: unknown, request: FastifyRequest, reply: FastifyReply) => Promise<void>
}

export interface NativeLoginsParts {
  issuer: string
  clients: NativeClientSettings
  codes: AuthorizationCodes
  telemetry: Telemetry
  errorResponses: ErrorResponses
  pages: Pages
}

export function createNativeLogins (parts: NativeLoginsParts): NativeLogins {
  const { issuer, clients, codes, telemetry, errorResponses: { report }, pages } = parts

  async function respond (
    { redirectUri, state }: NativeLogin,
    params: Record<string, string>,
    reply: FastifyReply
  ): Promise<void> {
    const url = new URL(redirectUri)
    const all = { ...params, ...(state !== undefined && { state }), iss: issuer } // RFC 9207
    for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value)
    await redirectAway(pages, reply, url.href, 'returnToApplication')
  }

  return {
    parse: (params) => parseNativeLogin(params, clients),
    paramsOf,
    isAllowed: ({ redirectUri }) => isAllowedRedirect(redirectUri, clients.redirectUris),

    async finish ({ name, id }, { native, loginAt, resource, claims, sources, description, tokens }, reply) {
      const { scopes, ...login } = description
      const code = await codes.create({
        native,
        provider: name,
        issuedBy: id,
        claims,
        sources,
        ...login,
        scope: grantedScope(scopes, native.scope),
        loginAt,
        tokens: { ...tokens, resource }
      })
      telemetry.login(name)
      logCompleted(reply.request.log, 'login', { provider: name })
      await respond(native, { code }, reply)
    },

    async refuse (native, cause, request, reply) {
      const error = report(cause, request)
      const params = { error: outageCode(error) ?? 'access_denied', error_description: error.message }
      await respond(native, params, reply)
    }
  }
}

function grantedScope (granted: string[], requested: string | undefined): string {
  const names = requested === undefined ? granted : splitWords(requested)
  return granted.filter((name) => names.includes(name)).join(' ')
}

/** The limit for a value, in characters: the cookie of the login contains it. */
const MAX_LENGTH = 500
const PARAMS = [
  'response_type', 'client_id', 'redirect_uri', 'code_challenge', 'code_challenge_method', 'state', 'scope',
  'prompt', 'offline_access'
]

function paramsOf (params: Params): Array<[string, string]> {
  const given = PARAMS.filter((name) => params.has(name))
  return given.map((name) => [name, params.get(name) as string])
}

function parseNativeLogin (params: Params, clients: NativeClientSettings): NativeLogin {
  const redirectUri = params.get('redirect_uri') as string
  check(isAllowedRedirect(redirectUri, clients.redirectUris), 'the redirect_uri is not allowed')
  check((params.get('response_type') ?? 'code') === 'code', 'the response_type must be code')
  const clientId = params.get('client_id')
  check(clientId === undefined || clients.clientIds.includes(clientId), 'the client is not known')
  const state = params.get('state')
  const scope = params.get('scope')
  check(isShort(state) && isShort(redirectUri), 'the state or redirect_uri is too long')
  check(isShort(scope), 'the scope is too long')
  return { redirectUri, clientId, scope, ...parseChallenge(params, clients, state) }
}

function isShort (value: string | undefined): boolean {
  return value === undefined || value.length <= MAX_LENGTH
}

function parseChallenge (
  params: Params,
  { pkceRequired }: NativeClientSettings,
  state: string | undefined
): Pick<NativeLogin, 'codeChallenge' | 'state'> {
  const codeChallenge = params.get('code_challenge')
  if (codeChallenge === undefined) {
    check(!pkceRequired, 'the code_challenge is missing')
    // py-oidc-auth-client uses the text after the last bar of the state as its verifier.
    const verifier = randomBytes(32).toString('base64url')
    return { codeChallenge: sha256(verifier), state: state === undefined ? verifier : `${state}|${verifier}` }
  }
  check(params.get('code_challenge_method') === 'S256', 'the code_challenge_method must be S256')
  check(/^[\w-]{43}$/.test(codeChallenge), 'the code_challenge is not a SHA-256 hash')
  return { codeChallenge, state }
}

/** Whether a code may be sent to this address: a listed one, or one on the user's machine (RFC 8252, section 7.3). */
export function isAllowedRedirect (value: string, listed: readonly string[]): boolean {
  if (listed.includes(value)) return true
  const url = parseUrl(value)
  if (url === null || value.includes('\\')) return false
  const { protocol, hostname, username, password, hash } = url
  const isLoopback = protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
  return isLoopback && username === '' && password === '' && hash === '' && !value.includes('#')
}

// The message names the problem, because the developer of the native application sees it.
function check (condition: boolean, detail: string): asserts condition {
  if (condition) return
  throw new OidcError('FST_OIDC_PARAMETER', { message: `This application cannot log you in: ${detail}.`, detail })
}
