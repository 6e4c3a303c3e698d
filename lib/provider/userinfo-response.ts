import { OidcError, checkWith } from '../errors.ts'
import { hasFewLevels, isRecord, parseJson } from '../util/json.ts'
import { decrypt } from './decrypt.ts'
import { isPage } from './json-response.ts'
import { describeResponse, isJson } from './transport.ts'
import { ID_TOKEN_OPTIONS, verifyJwt } from './verify-jwt.ts'
import type { Check } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { KeySet } from './key-set.ts'
import type { UserinfoClaims } from '../../types/claims.ts'

const check: Check = checkWith('FST_OIDC_USERINFO')

/** The content type to ask for in a request to the UserInfo endpoint. */
export function userinfoType ({ userinfoSigningAlg, userinfoEncryption }: ProviderSettings): string {
  return userinfoSigningAlg === undefined && userinfoEncryption === undefined ? 'application/json' : 'application/jwt'
}

/**
 * The claims of a UserInfo response. The response must be signed or encrypted where this is configured, and must have
 * the `sub` of the ID token (OpenID Connect Core 1.0, section 5.3.2). Throws FST_OIDC_USERINFO, or
 * FST_OIDC_LOGIN_REQUIRED when the provider does not accept the access token.
 */
export async function readUserinfo (
  response: Response,
  sub: string,
  keySet: Pick<KeySet, 'verify'>,
  settings: ProviderSettings
): Promise<UserinfoClaims> {
  const problem = describeResponse(response)
  await checkStatus(response, problem)
  const isJwt = userinfoType(settings) === 'application/jwt'
  check(isJwt ? isJwtResponse(response) : isJson(response), problem)
  const claims: unknown = isJwt
    ? await readJwt(await response.text(), keySet, settings)
    : await response.json().catch(() => undefined)
  check(
    isRecord(claims) && 'sub' in claims && claims['sub'] === sub,
    `${problem}, the body does not have the sub of the ID token`
  )
  if (!hasFewLevels(claims)) {
    throw new OidcError('FST_OIDC_CLAIMS', { detail: 'the claims of UserInfo have too many levels' })
  }
  return claims as UserinfoClaims
}

async function checkStatus (response: Response, problem: string): Promise<void> {
  const { status, headers } = response
  if (status === 200) return
  const detail = `${problem}, ${headers.get('www-authenticate')}`
  // The provider does not accept the access token (RFC 6750, section 3.1).
  if (status === 401) throw new OidcError('FST_OIDC_LOGIN_REQUIRED', { detail })
  throw new OidcError(await isPage(response) ? 'FST_OIDC_PROVIDER_UNAVAILABLE' : 'FST_OIDC_USERINFO', { detail })
}

function isJwtResponse (response: Response): boolean {
  return /^application\/jwt\b/i.test(response.headers.get('content-type') ?? '')
}

async function readJwt (jwt: string, keySet: Pick<KeySet, 'verify'>, settings: ProviderSettings): Promise<unknown> {
  const { userinfoEncryption, userinfoSigningAlg, decryptionKeys } = settings
  const content = userinfoEncryption === undefined
    ? jwt
    : await decrypt(jwt, userinfoEncryption, decryptionKeys, 'FST_OIDC_USERINFO')
  return userinfoSigningAlg === undefined
    ? parseJson(content)
    : await verify(content, userinfoSigningAlg, keySet, settings)
}

async function verify (
  jwt: string,
  alg: string,
  keySet: Pick<KeySet, 'verify'>,
  { issuer, clientId, clockTolerance }: ProviderSettings
): Promise<unknown> {
  const rules = { issuer, audience: clientId, algorithms: [alg], clockTolerance }
  const compared = { ...ID_TOKEN_OPTIONS, alg: '"userinfoSigningAlg"' }
  const { payload } = await verifyJwt(jwt, keySet, rules, { code: 'FST_OIDC_USERINFO', compared })
  return payload
}
