import { hash, randomBytes } from 'node:crypto'
import { parseUrl } from '../util/url.ts'
import { OidcError } from '../errors.ts'
import { equal } from '../util/crypto.ts'
import { redirect } from '../http/redirect.ts'
import { report } from '../http/error-response.ts'
import { now } from '../util/time.ts'
import { demand, oauthError, outageCode } from '../provider/oauth-error.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { Params } from '../http/params.ts'
import type { PendingLogin } from '../login/pending-logins.ts'
import type { Provider } from '../provider/provider.ts'
import type { EntryName, SealedStore } from '../store/sealed-store.ts'
import type { Broker, Issued, Subject } from './broker.ts'
import type { TokenResponse } from './token-response.ts'
import type { NativeClientSettings } from '../options/broker.ts'
import type { OidcClaims, OidcTokens } from '../../types/claims.ts'

/**
 * The login of an application on a person's own machine (RFC 8252): it gets a code of ours for what the
 * provider says.
 */
export interface NativeLogin {
  redirectUri: string
  codeChallenge: string
  state?: string | undefined
  clientId?: string | undefined
  scope?: string | undefined
}

/** What a code stands for. */
interface Code extends Omit<Subject, 'provider' | 'clientId'> {
  native: NativeLogin
  provider: string
  issuedBy: string
}

const CODE_LIFETIME = 60 // seconds
/**
 * How long a code that was used is remembered, in seconds: used again, it ends what it was used for (RFC
 * 6749, section 4.1.2).
 */
const USED_LIFETIME = 600
const MAX_STATE = 500 // characters, because the cookie of the login has it
const PARAMS = [
  'response_type', 'client_id', 'redirect_uri', 'code_challenge', 'code_challenge_method', 'state', 'scope',
  'prompt', 'offline_access'
]

/** The parameters of a native login, for a page in between. */
export function nativeParams (params: Params): Array<[string, string]> {
  return PARAMS.flatMap((name) => params.has(name) ? [[name, params.get(name) as string] as [string, string]] : [])
}

/**
 * What a native application asks for, when it is one that may. Throws FST_OIDC_PARAMETER, and nothing goes to
 * where it says.
 */
export function readNativeLogin (params: Params, clients: NativeClientSettings): NativeLogin {
  const redirectUri = params.get('redirect_uri') as string
  check(isAllowedRedirect(redirectUri, clients.redirectUris), 'the redirect_uri is not allowed')
  check((params.get('response_type') ?? 'code') === 'code', 'the response_type must be code')
  const clientId = params.get('client_id')
  check(clientId === undefined || clients.clientIds.includes(clientId), 'the client is not known')
  const state = params.get('state')
  check((state?.length ?? 0) <= MAX_STATE && redirectUri.length <= MAX_STATE, 'the state or redirect_uri is too long')
  const scope = params.get('scope')
  check((scope?.length ?? 0) <= MAX_STATE, 'the scope is too long')
  return { redirectUri, clientId, scope, ...readChallenge(params, clients, state) }
}

function readChallenge (
  params: Params,
  { pkceRequired }: NativeClientSettings,
  state: string | undefined
): Pick<NativeLogin, 'codeChallenge' | 'state'> {
  const codeChallenge = params.get('code_challenge')
  if (codeChallenge === undefined) {
    check(!pkceRequired, 'the code_challenge is missing')
    // py-oidc-auth-client takes what stands behind the last bar of the state for its verifier.
    const verifier = randomBytes(32).toString('base64url')
    return { codeChallenge: hashOf(verifier), state: state === undefined ? verifier : `${state}|${verifier}` }
  }
  check(params.get('code_challenge_method') === 'S256', 'the code_challenge_method must be S256')
  check(/^[\w-]{43}$/.test(codeChallenge), 'the code_challenge is no hash')
  return { codeChallenge, state }
}

/** Where a code may go: to the machine of the person itself (RFC 8252, section 7.3), or to what is listed. */
export function isAllowedRedirect (value: string, listed: readonly string[]): boolean {
  if (listed.includes(value)) return true
  const url = parseUrl(value)
  if (url === null || value.includes('\\')) return false
  const { protocol, hostname, username, password, hash } = url
  const isLoopback = protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
  return isLoopback && username === '' && password === '' && hash === '' && !value.includes('#')
}

/** Whether a native login that has begun may go on: the application may have been started with other options since. */
export function isServed ({ broker }: Core, native: NativeLogin | undefined): boolean {
  const clients = broker?.settings.nativeClients
  return native === undefined || (clients !== undefined && isAllowedRedirect(native.redirectUri, clients.redirectUris))
}

/** Whoever logged in for a native application has no session here: the application gets a code. */
export async function finishNativeLogin (
  core: Core,
  provider: Provider,
  login: PendingLogin & { native: NativeLogin; loginAt: number },
  {
    claims,
    session: { scopes, ...session },
    tokens
  }: {
    claims: OidcClaims
    session: { scopes: string[]; sid?: string; authTime?: number; acr?: string }
    tokens: OidcTokens
  },
  request: FastifyRequest,
  reply: FastifyReply
): Promise<void> {
  const { native, loginAt, resource } = login
  const content: Code = {
    native,
    provider: provider.name,
    issuedBy: provider.id,
    claims,
    ...session,
    scope: grantedScope(scopes, native.scope),
    loginAt,
    tokens: { ...tokens, resource }
  }
  const id = randomBytes(16).toString('base64url')
  await core.vault?.set(codeName(id), content, now() + CODE_LIFETIME)
  core.telemetry.login()
  answer(core, native, { code: core.sealer.seal('code', id) }, request, reply)
}

function grantedScope (granted: string[], wanted: string | undefined): string {
  const asked = wanted?.split(' ')
  return granted.filter((name) => asked === undefined || asked.includes(name)).join(' ')
}

/** What went wrong, for the application that asked (RFC 6749, section 4.1.2.1). */
export function refuseNativeLogin (
  core: Core,
  native: NativeLogin,
  cause: unknown,
  request: FastifyRequest,
  reply: FastifyReply
): void {
  const error = report(core, cause, request)
  answer(
    core,
    native,
    { error: outageCode(error) ?? 'access_denied', error_description: error.message },
    request,
    reply
  )
}

function answer (
  { broker }: Core,
  { redirectUri, state }: NativeLogin,
  params: Record<string, string>,
  request: FastifyRequest,
  reply: FastifyReply
): void {
  const url = new URL(redirectUri)
  const all = { ...params, ...(state !== undefined && { state }), iss: (broker as Broker).settings.issuer } // RFC 9207
  for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value)
  redirect(request, reply, url.href)
}

/** What an application brings for its code. */
interface SentCode {
  code: string
  redirectUri: string | undefined
  codeVerifier: string | undefined
  clientId: string | undefined
}

/** The tokens for a code, once: used again, it ends what it led to. Throws FST_OIDC_GRANT. */
export async function redeemCode (
  core: Core,
  { code, redirectUri, codeVerifier, clientId }: SentCode,
  issue: (content: Code) => Promise<Issued>
): Promise<TokenResponse> {
  const vault = core.vault as SealedStore
  const id = core.sealer.open('code', code)?.content as string | undefined
  demand(id !== undefined, 'invalid_grant', 'The code is not valid.')
  const found = await vault.get<Code>(codeName(id))
  if (found === null || !await vault.remove(codeName(id))) return await endReused(core, vault, id)
  const { native } = found.content
  demand(native.redirectUri === redirectUri, 'invalid_grant', 'The redirect_uri is not that of the login.')
  demand(native.clientId === clientId, 'invalid_grant', 'The code is of another client.')
  demand(
    codeVerifier !== undefined && equal(hashOf(codeVerifier), native.codeChallenge),
    'invalid_grant',
    'The code_verifier does not fit.'
  )
  const issued = await issue(found.content)
  // It may have been used again before there was anything to end.
  if ((await vault.create(usedName(id), issued.id, now() + USED_LIFETIME)) === null) {
    return await endIssued(core, issued.id)
  }
  return issued.answer
}

async function endReused (core: Core, vault: SealedStore, id: string): Promise<never> {
  const isFirst = await vault.create(usedName(id), null, now() + USED_LIFETIME) !== null
  const used = isFirst ? null : await vault.get<string | null>(usedName(id))
  return await endIssued(core, used?.content ?? null)
}

async function endIssued ({ broker }: Core, grant: string | null): Promise<never> {
  if (grant !== null) await broker?.end(grant)
  throw oauthError('invalid_grant', 'The code was used before, or has expired.')
}

const codeName = (id: string): EntryName => ['code', id]
const usedName = (id: string): EntryName => ['code-used', id]

function hashOf (verifier: string): string {
  return hash('sha256', verifier, 'base64url')
}

function check (condition: boolean, detail: string): asserts condition {
  if (!condition) {
    throw new OidcError('FST_OIDC_PARAMETER', { message: `This application cannot log you in: ${detail}.`, detail })
  }
}
