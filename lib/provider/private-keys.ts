import { KeyObject, createPrivateKey } from 'node:crypto'
import { importJWK } from 'jose'
import type { CryptoKey, JWK } from 'jose'
import type { ClientKey } from '../../types/options.ts'

/** Converts a private key to a JWK. Throws when the text is not a private key. */
export function toJwk (key: ClientKey): JWK {
  if (typeof key === 'string') return createPrivateKey(key).export({ format: 'jwk' }) as JWK
  return key instanceof KeyObject ? key.export({ format: 'jwk' }) as JWK : key
}

/** Imports a key for signing, with the algorithm that it names, or else the usual one for its type. */
export async function importSigningKey (jwk: JWK): Promise<CryptoKey> {
  return await importKey(jwk, jwk.alg ?? usualAlg(jwk))
}

export async function importKey ({ key_ops: _, ...jwk }: JWK, alg: string): Promise<CryptoKey> {
  return await importJWK(jwk, alg) as CryptoKey
}

const CURVES: Record<string, string> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' }

function usualAlg ({ kty, crv = '' }: JWK): string {
  if (kty === 'RSA') return 'RS256'
  return CURVES[crv] ?? 'EdDSA'
}
