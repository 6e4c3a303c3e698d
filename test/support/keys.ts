import { createHash } from 'node:crypto'

/** A key for tests: 32 bytes that look random. */
export function keyBytes (seed: number): Buffer {
  return createHash('sha256').update(`key ${seed}`).digest()
}

/** The same as base64. */
export function testKey (seed: number): string {
  return keyBytes(seed).toString('base64')
}
