import { compactDecrypt } from 'jose'
import { OidcError } from '../errors.ts'
import { LateError } from '../util/at-most.ts'
import { importKey, toJwk } from './private-keys.ts'
import type { CompactDecryptGetKey, CryptoKey, JWK } from 'jose'
import type { OidcErrorCode } from '../errors.ts'
import type { ProviderSettings } from '../options/provider.ts'
import type { ClientKey, Encryption } from '../../types/options.ts'

/**
 * Decrypts a JWE with one of the keys. Accepts only the configured algorithms (RFC 8725, sections 3.1 and 3.2). Throws
 * an OidcError with the given code.
 */
export async function decrypt (
  jwe: string,
  { alg, enc }: Required<Encryption>,
  keys: () => Promise<ClientKey[]>,
  code: OidcErrorCode
): Promise<string> {
  const usable = await keysFor(alg, keys)
  try {
    const { plaintext } = await decryptWithAny(usable, jwe, {
      keyManagementAlgorithms: [alg],
      contentEncryptionAlgorithms: [enc]
    })
    return new TextDecoder().decode(plaintext)
  } catch (cause) {
    const reason = (cause as { code?: string } | undefined)?.code ?? 'no key matches'
    throw new OidcError(code, { cause, detail: `not encrypted as configured: ${reason}` })
  }
}

interface UsableKey {
  kid: string | undefined
  key: CryptoKey
}

async function keysFor (alg: string, keys: () => Promise<ClientKey[]>): Promise<UsableKey[]> {
  try {
    const jwks = (await keys()).map(toJwk).filter((jwk) => isUsableWith(jwk, alg))
    return await Promise.all(jwks.map(async (jwk) => ({ kid: jwk.kid, key: await importKey(jwk, alg) })))
  } catch (cause) {
    const reason = cause instanceof LateError ? `: ${cause.message}` : ''
    throw new OidcError('FST_OIDC_PROVIDER_UNAVAILABLE', { cause, detail: `the decryptionKey cannot be used${reason}` })
  }
}

function isUsableWith (jwk: JWK, alg: string): boolean {
  const hasType = (jwk.kty === 'RSA') === alg.startsWith('RSA')
  return hasType && jwk.use !== 'sig' && (jwk.alg === undefined || jwk.alg === alg)
}

/** Tries every key, because there are several during a rotation. A key with another `kid` does not match. */
async function decryptWithAny (
  keys: UsableKey[],
  jwe: string,
  options: Parameters<typeof compactDecrypt>[2]
): ReturnType<typeof compactDecrypt> {
  const decryptWith = async ({ kid, key }: UsableKey): ReturnType<typeof compactDecrypt> => {
    const keyFor: CompactDecryptGetKey = ({ kid: wanted }) => {
      if (wanted !== undefined && kid !== undefined && wanted !== kid) throw new Error('another key')
      return key
    }
    return await compactDecrypt(jwe, keyFor, options)
  }
  return await Promise.any(keys.map(decryptWith)).catch(({ errors }: AggregateError) => {
    throw errors.at(-1)
  })
}

/**
 * The signed token in an encrypted one, where encryption is configured. A logout token is encrypted in the same way as
 * an ID token (Back-Channel Logout 1.0, section 2.2).
 */
export async function decryptIfConfigured (
  token: string,
  { idTokenEncryption, decryptionKeys }: ProviderSettings,
  code: OidcErrorCode
): Promise<string> {
  return idTokenEncryption === undefined ? token : await decrypt(token, idTokenEncryption, decryptionKeys, code)
}
