import { compactDecrypt } from 'jose'
import { OidcError } from '../errors.ts'
import { importDecryptionKey, toJwk } from './private-keys.ts'
import type { CryptoKey, JWK } from 'jose'
import type { OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientKey, Encryption } from '../../types/options.ts'

/**
 * What is in a JWE that was encrypted for one of the keys as it was agreed on, and in no other way (RFC 8725,
 * sections 3.1 and 3.2).
 * Throws an OidcError with that code.
 */
export async function decrypt (
  jwe: string,
  { alg, enc }: Required<Encryption>,
  keys: () => Promise<ClientKey[]>,
  code: OidcErrorCode
): Promise<string> {
  const usable = await keysFor(alg, keys)
  try {
    const { plaintext } = await firstThatFits(usable, jwe, {
      keyManagementAlgorithms: [alg],
      contentEncryptionAlgorithms: [enc]
    })
    return new TextDecoder().decode(plaintext)
  } catch (cause) {
    throw new OidcError(code, {
      cause,
      detail: `not encrypted as configured: ${(cause as { code?: string } | undefined)?.code ?? 'no key fits'}`
    })
  }
}

interface UsableKey {
  kid: string | undefined
  key: CryptoKey
}

async function keysFor (alg: string, keys: () => Promise<ClientKey[]>): Promise<UsableKey[]> {
  try {
    const jwks = (await keys()).map(toJwk).filter((jwk) => isMeantFor(jwk, alg))
    return await Promise.all(jwks.map(async (jwk) => ({ kid: jwk.kid, key: await importDecryptionKey(jwk, alg) })))
  } catch (cause) {
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: 'the decryptionKey cannot be used' })
  }
}

function isMeantFor (jwk: JWK, alg: string): boolean {
  return (
    (jwk.kty === 'RSA') === alg.startsWith('RSA') && jwk.use !== 'sig' && (jwk.alg === undefined || jwk.alg === alg)
  )
}

/** While keys rotate there are several; a `kid` tells which, where both sides have one. */
async function firstThatFits (
  keys: UsableKey[],
  jwe: string,
  options: Parameters<typeof compactDecrypt>[2]
): ReturnType<typeof compactDecrypt> {
  const attempts = keys.map(({ kid, key }) =>
    compactDecrypt(
      jwe,
      ({ kid: wanted }) => {
        if (wanted !== undefined && kid !== undefined && wanted !== kid) throw new Error('another key')
        return key
      },
      options
    )
  )
  return await Promise.any(attempts).catch(async ({ errors }: AggregateError) => await Promise.reject(errors.at(-1)))
}

/**
 * Puts the ID token that is encrypted in a token response in its place: openid-client reads it, and it
 * becomes the hint of a logout (OpenID Connect Core 1.0, section 3.1.2.1).
 */
export async function decryptIdToken (
  response: Response,
  { idTokenEncryption, decryptionKeys }: ProviderSettings
): Promise<Response> {
  if (idTokenEncryption === undefined || response.status !== 200) return response
  const body = await response.json() as { id_token?: unknown } | null
  if (typeof body?.id_token !== 'string') return Response.json(body)
  return Response.json({
    ...body,
    id_token: await decrypt(body.id_token, idTokenEncryption, decryptionKeys, 'FST_OIDC_ID_TOKEN')
  })
}
