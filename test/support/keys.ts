import { createHash, createPrivateKey, createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { provideRsaKeys } from '../../lib/testing/provider/keys.ts'
import type { JsonWebKey } from 'node:crypto'
import type { KeyPair } from '../../lib/testing/provider/keys.ts'

/** A key for tests: 32 bytes that look random. */
export function keyBytes (seed: number): Buffer {
  return createHash('sha256').update(`key ${seed}`).digest()
}

/** The same as base64. */
export function testKey (seed: number): string {
  return keyBytes(seed).toString('base64')
}

// To create an RSA key takes as long as hundreds of requests. These are made by
// generateKeyPairSync('rsa', { modulusLength: 2048 }), and secure nothing.
const RSA_KEYS = JSON.parse(readFileSync('test/fixtures/rsa-keys.json', 'utf8')) as JsonWebKey[]
const OF_PROVIDERS = 8

function rsaPair (index: number): KeyPair {
  const privateKey = createPrivateKey({ key: RSA_KEYS[index] as JsonWebKey, format: 'jwk' })
  return { privateKey, publicKey: createPublicKey(privateKey) }
}

/** An RSA key of 2048 bits for a test, which no provider has. There are four. */
export function rsaKey (seed: number): KeyPair {
  return rsaPair(OF_PROVIDERS + seed)
}

provideRsaKeys(Array.from({ length: OF_PROVIDERS }, (_, index) => rsaPair(index)))
