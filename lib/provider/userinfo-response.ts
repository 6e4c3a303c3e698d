import { decrypt } from './decrypt.ts'
import { OidcError } from '../errors.ts'
import { isJson } from './transport.ts'
import type { FastifyRequest } from 'fastify'
import type { Core } from '../compose.ts'
import type { KeySet } from './key-set.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { AccessToken } from '../session/access-token.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

/** The claims of the person of a session, as the provider has them now. */
export function createUserinfo (
  core: Core,
  accessToken: AccessToken
): (request: FastifyRequest) => Promise<UserinfoClaims> {
  async function ask (request: FastifyRequest, token: string): Promise<UserinfoClaims> {
    const sub = core.sessions.read(request)?.claims.sub as string
    const provider = core.sessions.provider(request)
    return await core.telemetry.span('oidc.userinfo', async () => await provider.userinfo(token, sub))
  }

  return async function userinfo (request) {
    try {
      return await ask(request, await accessToken(request))
    } catch (error) {
      // The provider may take a token back before its time: 401, and only that, is worth another try (security.md S60).
      if (!isUnauthorized(error) || (await core.sessions.tokens(request)).refresh_token === undefined) throw error
      return await ask(request, await accessToken(request, { refresh: true }))
    }
  }
}

function isUnauthorized (error: unknown): boolean {
  return error instanceof OidcError && (error.cause as { status?: number } | undefined)?.status === 401
}

/** What UserInfo is asked to be. */
export function userinfoType ({ userinfoSigningAlg, userinfoEncryption }: ProviderSettings): string {
  return userinfoSigningAlg === undefined && userinfoEncryption === undefined ? 'application/json' : 'application/jwt'
}

/**
 * The claims of a UserInfo response, which is signed or encrypted where that was agreed on.
 * Another `sub` makes the whole answer worthless (OpenID Connect Core 1.0, section 5.3.2). Throws FST_OIDC_USERINFO.
 */
export async function readUserinfo (
  response: Response,
  sub: string,
  keySet: KeySet,
  settings: ProviderSettings
): Promise<UserinfoClaims> {
  const problem = `status ${response.status}, ${response.headers.get('content-type')}`
  const isJwt = userinfoType(settings) === 'application/jwt'
  check(response.status === 200 && (isJwt ? isJose(response) : isJson(response)), problem, { status: response.status })
  const claims: unknown = isJwt
    ? await readJwt(await response.text(), keySet, settings)
    : await response.json().catch(() => undefined)
  check(
    typeof claims === 'object' && claims !== null && 'sub' in claims && claims.sub === sub,
    `${problem}, a body without the sub of the ID token`
  )
  return claims as UserinfoClaims
}

function isJose (response: Response): boolean {
  return /^application\/jwt\b/i.test(response.headers.get('content-type') ?? '')
}

async function readJwt (jwt: string, keySet: KeySet, settings: ProviderSettings): Promise<unknown> {
  const { userinfoEncryption, userinfoSigningAlg, decryptionKeys } = settings
  const content =
    userinfoEncryption === undefined ? jwt : await decrypt(jwt, userinfoEncryption, decryptionKeys, 'FST_OIDC_USERINFO')
  return userinfoSigningAlg === undefined ? parse(content) : await verify(content, userinfoSigningAlg, keySet, settings)
}

function parse (json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

async function verify (
  jwt: string,
  alg: string,
  keySet: KeySet,
  { issuer, clientId, clockTolerance }: ProviderSettings
): Promise<unknown> {
  try {
    const { payload } = await keySet.verify(jwt, { issuer, audience: clientId, algorithms: [alg], clockTolerance })
    return payload
  } catch (cause) {
    if (cause instanceof OidcError) throw cause
    throw new OidcError('FST_OIDC_USERINFO', { cause, detail: `signed UserInfo: ${String((cause as Error).message)}` })
  }
}

function check (condition: boolean, detail: string, cause?: unknown): asserts condition {
  if (!condition) throw new OidcError('FST_OIDC_USERINFO', { detail, cause })
}
