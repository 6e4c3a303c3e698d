import { KeyObject, createPrivateKey } from 'node:crypto'
import { importJWK } from 'jose'
import type { CryptoKey, JWK } from 'jose'
import type { ClientKey } from '../../types/options.ts'

/** A private key as a JWK. Throws when it is none. */
export function toJwk (key: ClientKey): JWK {
  if (typeof key === 'string') return createPrivateKey(key).export({ format: 'jwk' }) as JWK
  return key instanceof KeyObject ? key.export({ format: 'jwk' }) as JWK : key
}

/** The key as it signs, with the algorithm that it names itself, or that is usual for its kind. */
export async function importSigningKey (jwk: JWK): Promise<CryptoKey> {
  return await importKey(jwk, jwk.alg ?? usualAlg(jwk))
}

/** The key as it decrypts what was encrypted with `alg`. */
export async function importDecryptionKey (jwk: JWK, alg: string): Promise<CryptoKey> {
  return await importKey(jwk, alg)
}

async function importKey ({ key_ops: _, ...jwk }: JWK, alg: string): Promise<CryptoKey> {
  return await importJWK(jwk, alg) as CryptoKey
}

const CURVES: Record<string, string> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' }

function usualAlg ({ kty, crv = '' }: JWK): string {
  if (kty === 'RSA') return 'RS256'
  return CURVES[crv] ?? 'EdDSA'
}
